from __future__ import annotations

import pathlib
from collections.abc import Callable

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import ArchSpec, CostRecord, Provenance, SearchSpace, freeze, yaml_io
from search_spaces.yaml_io import YamlError

Vectors = Callable[[SearchSpace], st.SearchStrategy[tuple[int, ...]]]

HEAD = "schema: 2\nname: net\nresolution: 32\nbackbone:\n"
TAIL = (
    "head:\n  kind: classifier\n  blocks:\n  - {kind: pool}\n  - {kind: classifier, classes: 10}\n"
)


def test_load_mapping_takes_any_keys(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "any.yaml"
    path.write_text("a: 1\nb: {c: [2, x]}\n")
    assert yaml_io.load_mapping(path) == {"a": 1, "b": {"c": [2, "x"]}}
    path.write_text("a: 1\na: 2\n")
    with pytest.raises(YamlError, match=r"any\.yaml:2: a: given twice"):
        yaml_io.load_mapping(path)


def fixed_or_hole(options: list[object], name: str) -> st.SearchStrategy[object]:
    """A value, or in its place a hole with some of the options."""
    some = st.lists(st.sampled_from(options), min_size=2, max_size=3)
    return st.sampled_from(options) | st.builds(
        lambda chosen: {"one_of": chosen, "name": name}, some
    )


@st.composite
def specs(draw: st.DrawFn) -> ArchSpec:
    """Chains of all kinds of blocks, with holes or without."""
    blocks = []
    for index in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["conv", "fused_ib", "uib"]))
        filters = fixed_or_hole([1, 8, 20, 256], f"{index}.filters")
        block = {
            "kind": kind,
            "filters": draw(filters),
            "activation": draw(st.sampled_from(["relu", "gelu", "none"])),
        }
        if kind != "uib":
            block |= {
                "kernel": draw(st.sampled_from([1, 3, 5, 7])),
                "stride": draw(st.sampled_from([1, 2])),
            }
        else:
            kernels = [
                draw(fixed_or_hole([0, 3, 5], f"{index}.{field}"))
                for field in ("start_dw", "middle_dw")
            ]
            block |= dict(zip(("start_dw", "middle_dw"), kernels, strict=True))
        if kind != "conv":
            block["expansion"] = draw(
                fixed_or_hole([0.1, 1.0, 4.0, 1e-7, 1e3], f"{index}.e")
                | st.floats(1e-300, 1e3).map(float)
            )
        blocks.append(block)
        if draw(st.booleans()):
            blocks.append(
                {
                    **block,
                    "stride": 1,
                    "present": {"one_of": [True, False], "name": f"{index}.depth"},
                }
            )
    blocks += [
        {"kind": "pool"},
        {"kind": "classifier", "classes": draw(st.integers(2, 1000)), "dropout": 0.25},
    ]
    name = draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True))
    fields = {
        "name": name,
        "resolution": draw(st.integers(33, 400)),
        "input_channels": draw(st.integers(1, 4)),
    }
    return ArchSpec.model_validate({**fields, "blocks": blocks})


@given(spec=specs())
def test_round_trip_of_any_spec(spec: ArchSpec) -> None:
    text = yaml_io.to_yaml(spec)
    again = yaml_io.parse_model(text, ArchSpec, "text")
    assert again == spec and hash(again) == hash(spec)
    assert yaml_io.to_yaml(again) == text


@given(data=st.data())
def test_round_trip_of_a_space_and_its_networks(
    space: SearchSpace, vectors: Vectors, data: st.DataObject
) -> None:
    again = SearchSpace(yaml_io.parse_model(yaml_io.to_yaml(space.spec), ArchSpec, "text"))
    assert again == space and again.decisions == space.decisions
    frozen = freeze(space, data.draw(vectors(space)))
    assert yaml_io.parse_model(yaml_io.to_yaml(frozen), ArchSpec, "text") == frozen


def test_round_trip_of_provenance(small_32: ArchSpec) -> None:
    found = Provenance(
        stage="fine",
        space="small-32-fine",
        seed=3,
        config_hash="00012",
        dataset_hash="1e5",
        metrics={"accuracy": 0.1 + 0.2},
        cost={"macs": CostRecord(value=4.5, target=5.0, unit="M", most_likely=4.75)},
        decisions={"stage1.0.start_dw": 2},
        versions={"jax": "0.10", "python": "3.11"},
        seconds=1.5,
    )
    spec = small_32.model_copy(update={"found": found})
    assert yaml_io.parse_model(yaml_io.to_yaml(spec), ArchSpec, "text") == spec


def test_text_has_a_stable_order_and_leaves_defaults_out() -> None:
    text = f"""name: net
backbone:
- {{filters: 8, kind: conv, stride: 1}}
- {{start_dw: 3, expansion: {{name: e, one_of: [2.0, 4.0]}}, filters: 8, kind: uib, middle_dw: 3}}
{TAIL}resolution: 32
"""
    assert yaml_io.to_yaml(yaml_io.parse_model(text, ArchSpec, "text")) == (
        HEAD
        + "- {kind: conv, filters: 8}\n"
        + "- kind: uib\n  filters: 8\n  start_dw: 3\n"
        + "  expansion:\n    one_of: [2.0, 4.0]\n    name: e\n"
        + TAIL
    )


class Nested(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    rows: dict[str, tuple[int, ...]] = {}


def test_any_model_is_read_and_written() -> None:
    model = Nested(rows={"a": (1, 2)})
    assert yaml_io.to_yaml(model) == "rows:\n  a: [1, 2]\n"
    assert yaml_io.to_yaml(Nested()) == "{}\n"
    assert yaml_io.parse_model(yaml_io.to_yaml(model), Nested, "text") == model
    with pytest.raises(YamlError) as caught:
        yaml_io.parse_model("rows:\n  a:\n  - 1\n  - x\n", Nested, "text")
    assert str(caught.value).startswith(
        "text:4: rows.a[1]: got 'x': input should be a valid integer"
    )
