from __future__ import annotations

import pathlib
import typing
from collections.abc import Callable

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import ArchSpec, Found, FoundCost, SearchSpace, freeze, yaml_io
from search_spaces.blocks import Block
from search_spaces.ops import Activation
from search_spaces.yaml_io import YamlError

Vectors = Callable[[SearchSpace], st.SearchStrategy[tuple[int, ...]]]

HEAD = "schema: 1\nname: net\nresolution: 32\nblocks:\n"
TAIL = "- {kind: pool}\n- {kind: classifier, classes: 10}\n"
TOP_KEYS = "schema, name, resolution, input_channels, blocks, found"
KINDS = ", ".join(kind.model_fields["kind"].default for kind in typing.get_args(typing.get_args(Block)[0]))
ACTIVATIONS = ", ".join(typing.get_args(Activation))

BAD_BLOCKS = [  # the block in line 6, and the message behind "net.yaml:"
    (
        "{kind: conv, filters: 16, kernl: 3}",
        "6: blocks[1].kernl: unknown key; allowed: present, filters, stride, kind, kernel, activation, norm, bias, "
        "groups; did you mean 'kernel'?",
    ),
    ("{kind: pool, filters: 16}", "6: blocks[1].filters: unknown key; allowed: present, kind"),
    ("{kind: uibb, filters: 16}", f"6: blocks[1].kind: got 'uibb', expected one of {KINDS}; did you mean 'uib'?"),
    ("{kind: 3}", f"6: blocks[1].kind: got '3', expected one of {KINDS}"),
    ("{filters: 16}", "6: blocks[1]: missing `kind`, which says what this is"),
    ("{kind: conv, filters: 16, kernel: 4}", "6: blocks[1].kernel: got 4, expected one of 1, 3, 5, 7"),
    ("{kind: uib, filters: 16, start_dw: 4}", "6: blocks[1].start_dw: got 4, expected one of 0, 3, 5"),
    ("{kind: conv, filters: 16, stride: 3}", "6: blocks[1].stride: got 3, expected one of 1, 2"),
    (
        "{kind: conv, filters: 16, activation: reul}",
        f"6: blocks[1].activation: got 'reul', expected one of {ACTIVATIONS}; did you mean 'relu'?",
    ),
    ("{kind: conv, filters: sixteen}", "6: blocks[1].filters: got 'sixteen': input should be a valid integer"),
    ("{kind: conv, filters: [8, 16]}", "6: blocks[1].filters: got [8, 16]: input should be a valid integer"),
    ("{kind: conv, filters: 0}", "6: blocks[1].filters: got 0: input should be greater than or equal to 1"),
    ("{kind: conv}", "6: blocks[1].filters: missing; this key is required"),
    ("{kind: uib, filters: 16, expansion: '4'}", "6: blocks[1].expansion: got '4': input should be a valid number"),
    ("{kind: uib, filters: 16, expansion: .nan}", "6: blocks[1].expansion: got nan: input should be a finite number"),
    (
        "{kind: uib, filters: 0, start_dw: 4}",
        "6: blocks[1].filters: got 0: input should be greater than or equal to 1 (and 1 more)",
    ),
    (
        "{kind: conv, filters: 16, groups: 3}",
        "6: blocks[1].groups: got 3, which must divide the input channels (8)",
    ),
    ("{kind: mqa, heads: 4}", "6: blocks[1].key_dim: missing; this key is required"),
    ("{kind: mqa, heads: 4, key_dim: 8, kv_stride: 3}", "6: blocks[1].kv_stride: got 3, expected one of 1, 2"),
    (
        "{kind: residual, blocks: [{kind: conv, filters: 16}]}",
        "6: blocks[1].blocks: a residual needs an output like its input, but [32, 32, 8] becomes [32, 32, 16]",
    ),
    (
        "{kind: residual, blocks: [{kind: conv, filters: 8}, {kind: conv, filters: 8, groups: 5}]}",
        "6: blocks[1].blocks[1].groups: got 5, which must divide the input channels (8)",
    ),
    (
        "{kind: residual, blocks: [{kind: depthwise, kernel: 4}]}",
        "6: blocks[1].blocks[0].kernel: got 4, expected one of 1, 3, 5, 7",
    ),
    ("{kind: conv, filters: 16, filters: 8}", "6: blocks[1].filters: given twice"),
    ("{kind: conv, filters: 16, [a]: 1}", "6: not valid YAML: found unhashable key"),
    (
        "{kind: uib, filters: 16, middle_dw: 0, stride: 2}",
        "6: blocks[1]: stride 2 must always sit on the same depthwise layer, but middle_dw may be [0] and start_dw "
        "[0]; leave 0 out of middle_dw, or use stride 1",
    ),
    (
        "{kind: uib, filters: {one_of: [16], name: w}}",
        "6: blocks[1].filters.one_of: got [16], expected at least 2 values",
    ),
    ("{kind: uib, filters: {one_of: 16, name: w}}", "6: blocks[1].filters.one_of: got 16, expected a list"),
    ("{kind: uib, filters: {one_of: [16, 24]}}", "6: blocks[1].filters.name: missing; this key is required"),
    ("{kind: uib, filters: {name: w}}", "6: blocks[1].filters.one_of: missing; this key is required"),
    (
        "{kind: uib, filters: {one_of: [16, 24], name: w, nam: v}}",
        "6: blocks[1].filters.nam: unknown key; allowed: one_of, name; did you mean 'name'?",
    ),
    (
        "{kind: uib, filters: 16, start_dw: {one_of: [0, 4], name: k}}",
        "6: blocks[1].start_dw.one_of[1]: got 4, expected one of 0, 3, 5 (and 1 more)",
    ),
    (
        "{kind: uib, filters: 16, present: false}",
        "6: blocks[1].present: got false in a block without a choice; leave the block out",
    ),
    (
        "{kind: uib, filters: 16, present: {one_of: [true, false], name: d}}",
        "6: blocks[1].present: only a block that keeps its input's shape can be left out; got stride 1, input channels "
        "8, filters 16",
    ),
    ("5", "6: blocks[1]: got 5: input should be a valid dictionary or object to extract fields from"),
    ("{kind: conv, filters: 16, kernel: }", "6: blocks[1].kernel: got None, expected one of 1, 3, 5, 7"),
    ("{kind: conv, filters: 16", "7: not valid YAML: expected ',' or '}', but got '{'"),
    (
        "{kind: !!python/name:os.system , filters: 16}",
        "6: not valid YAML: could not determine a constructor for the tag 'tag:yaml.org,2002:python/name:os.system'",
    ),
]
BAD_FILES = [  # name of the case, text, message behind "net.yaml:"
    ("empty", "", f"1: expected keys and values ({TOP_KEYS}), got None"),
    ("a list", "- a\n", f"1: expected keys and values ({TOP_KEYS}), got ['a']"),
    ("a word", "net\n", f"1: expected keys and values ({TOP_KEYS}), got 'net'"),
    ("open bracket", "schema: 1\nname: [\n", "3: not valid YAML: expected the node content, but found '<stream end>'"),
    ("two colons", "schema: 1\nname: a: b\n", "2: not valid YAML: mapping values are not allowed here"),
    ("tab", "schema: 1\n\tname: a\n", "2: not valid YAML: found character '\\t' that cannot start any token"),
    ("two documents", HEAD + TAIL + "---\nname: b\n", "7: not valid YAML: but found another document"),
    (
        "control character",
        "name: \x01\n",
        ' not valid YAML: unacceptable character #x0001: special characters are not allowed in "<unicode string>", '
        "position 6",
    ),
    ("self reference", "blocks: &a [*a]\n", " not valid YAML: nested too deeply, or an alias that contains itself"),
    ("top key twice", "schema: 1\nname: a\nname: b\n", "3: name: given twice"),
    (
        "misspelt top key",
        (HEAD + TAIL).replace("resolution", "resoluton"),
        f"3: resoluton: unknown key; allowed: {TOP_KEYS}; did you mean 'resolution'? (and 1 more)",
    ),
    ("missing top key", HEAD.replace("resolution: 32\n", "") + TAIL, "1: resolution: missing; this key is required"),
    ("other schema", (HEAD + TAIL).replace("schema: 1", "schema: 2"), "1: schema: got 2, expected one of 1"),
    (
        "name with a space",
        (HEAD + TAIL).replace("name: net", "name: my net"),
        "2: name: got 'my net': string should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$'",
    ),
    (
        "quoted number",
        (HEAD + TAIL).replace("32", "'32'"),
        "3: resolution: got '32': input should be a valid integer",
    ),
    ("no blocks", HEAD, "4: blocks: got None, expected a list"),
    ("empty blocks", HEAD.replace("blocks:", "blocks: []"), "4: blocks: the last block must be a classifier"),
    ("classifier missing", HEAD + "- {kind: pool}\n", "4: blocks: the last block must be a classifier"),
    (
        "pool missing",
        HEAD + "- {kind: conv, filters: 8}\n- {kind: classifier, classes: 10}\n",
        "6: blocks[1]: the classifier needs a pooled input; put `kind: pool` before it",
    ),
    (
        "classifier in between",
        HEAD + TAIL + "- {kind: pool}\n",
        "4: blocks: the last block must be a classifier",
    ),
    ("two classifiers", HEAD + TAIL + TAIL, "6: blocks[1]: a classifier must be the last block"),
    (
        "stride at 1 x 1",
        HEAD.replace("32", "2")
        + "- {kind: conv, filters: 8, stride: 2}\n- kind: conv\n  filters: 8\n  stride: 2\n"
        + TAIL,
        "8: blocks[1].stride: got 2, but the input is already 1 x 1; use stride 1 or a larger resolution",
    ),
    (
        "a key in a block of several lines",
        HEAD + "- kind: conv\n  filters: 8\n  kernel: 4\n" + TAIL,
        "7: blocks[0].kernel: got 4, expected one of 1, 3, 5, 7",
    ),
    (
        "incomplete provenance",
        HEAD + TAIL + "found:\n  stage: fine\n",
        "7: found.space: missing; this key is required (and 8 more)",
    ),
    (
        "unknown key deep in the provenance",
        HEAD
        + TAIL
        + "found: {stage: fine, space: a, seed: 1, config_hash: a, dataset_hash: b, quality: {}, decisions: {},"
        + " versions: {}, seconds: 1,\n  cost: {macs: {value: 1, target: 2, unit: M, most_likely: 1, unti: M}}}\n",
        "8: found.cost.macs.unti: unknown key; allowed: value, target, unit, most_likely; did you mean 'unit'?",
    ),
]


def message_of(text: str) -> str:
    with pytest.raises(YamlError) as caught:
        yaml_io.parse_model(text, ArchSpec, "net.yaml")
    return str(caught.value)


@pytest.mark.parametrize(("block", "message"), BAD_BLOCKS, ids=[row[0] for row in BAD_BLOCKS])
def test_a_damaged_block(block: str, message: str) -> None:
    got = message_of(f"{HEAD}- {{kind: conv, filters: 8}}\n- {block}\n{TAIL}")
    assert got == f"net.yaml:{message}"


@pytest.mark.parametrize(("text", "message"), [row[1:] for row in BAD_FILES], ids=[row[0] for row in BAD_FILES])
def test_a_damaged_file(text: str, message: str) -> None:
    assert message_of(text) == f"net.yaml:{message}"


def test_a_missing_file_names_its_neighbour(tmp_path: pathlib.Path) -> None:
    (tmp_path / "conv_s.yaml").write_text(HEAD + TAIL)
    for name, hint in [("conv_x.yaml", "; did you mean conv_s.yaml?"), ("zzz", ""), ("none/conv_s.yaml", "")]:
        with pytest.raises(YamlError) as caught:
            yaml_io.load_model(tmp_path / name, ArchSpec)
        assert str(caught.value) == f"{tmp_path / name}: no such file{hint}"


def test_an_unreadable_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    for path, reason in [(tmp_path, "Is a directory"), (tmp_path / "latin.yaml", "can't decode byte 0xe9")]:
        with pytest.raises(YamlError) as caught:
            yaml_io.load_model(path, ArchSpec)
        assert str(caught.value).startswith(f"{path}: cannot be read: ")
        assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_validate_without_lines() -> None:
    with pytest.raises(YamlError) as caught:
        yaml_io.validate({"name": "net", "resolution": 32, "blocks": [{"kind": "conv"}]}, ArchSpec, "here")
    assert str(caught.value) == "here: blocks[0].filters: missing; this key is required"


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
    return st.sampled_from(options) | st.builds(lambda chosen: {"one_of": chosen, "name": name}, some)


@st.composite
def specs(draw: st.DrawFn) -> ArchSpec:
    """Chains of all kinds of blocks, with holes or without."""
    blocks = []
    for index in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["conv", "fused_ib", "uib"]))
        filters = fixed_or_hole([1, 8, 20, 256], f"{index}.filters")
        block = {"kind": kind, "filters": draw(filters), "activation": draw(st.sampled_from(["relu", "gelu", "none"]))}
        if kind != "uib":
            block |= {"kernel": draw(st.sampled_from([1, 3, 5, 7])), "stride": draw(st.sampled_from([1, 2]))}
        else:
            kernels = [draw(fixed_or_hole([0, 3, 5], f"{index}.{field}")) for field in ("start_dw", "middle_dw")]
            block |= dict(zip(("start_dw", "middle_dw"), kernels, strict=True))
        if kind != "conv":
            block["expansion"] = draw(
                fixed_or_hole([0.1, 1.0, 4.0, 1e-7, 1e22], f"{index}.e") | st.floats(1e-300, 1e300).map(float)
            )
        blocks.append(block)
        if draw(st.booleans()):
            blocks.append({**block, "stride": 1, "present": {"one_of": [True, False], "name": f"{index}.depth"}})
    blocks += [{"kind": "pool"}, {"kind": "classifier", "classes": draw(st.integers(2, 1000)), "dropout": 0.25}]
    name = draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True))
    fields = {"name": name, "resolution": draw(st.integers(33, 400)), "input_channels": draw(st.integers(1, 4))}
    return ArchSpec.model_validate({**fields, "blocks": blocks})


@given(spec=specs())
def test_round_trip_of_any_spec(spec: ArchSpec) -> None:
    text = yaml_io.to_yaml(spec)
    again = yaml_io.parse_model(text, ArchSpec, "text")
    assert again == spec and hash(again) == hash(spec)
    assert yaml_io.to_yaml(again) == text


@given(data=st.data())
def test_round_trip_of_a_space_and_its_networks(space: SearchSpace, vectors: Vectors, data: st.DataObject) -> None:
    again = SearchSpace(yaml_io.parse_model(yaml_io.to_yaml(space.spec), ArchSpec, "text"))
    assert again == space and again.decisions == space.decisions
    frozen = freeze(space, data.draw(vectors(space)))
    assert yaml_io.parse_model(yaml_io.to_yaml(frozen), ArchSpec, "text") == frozen


def test_round_trip_of_provenance(small_32: ArchSpec) -> None:
    found = Found(
        stage="fine",
        space="small-32-fine",
        seed=3,
        config_hash="00012",
        dataset_hash="1e5",
        quality={"accuracy": 0.1 + 0.2},
        cost={"macs": FoundCost(value=4.5, target=5.0, unit="M", most_likely=4.75)},
        decisions={"stage1.0.start_dw": 2},
        versions={"jax": "0.10", "python": "3.11"},
        seconds=1.5,
    )
    spec = small_32.model_copy(update={"found": found})
    assert yaml_io.parse_model(yaml_io.to_yaml(spec), ArchSpec, "text") == spec


def test_text_has_a_stable_order_and_leaves_defaults_out() -> None:
    text = f"""name: net
blocks:
- {{filters: 8, kind: conv, stride: 1}}
- {{start_dw: 3, expansion: {{name: e, one_of: [2.0, 4.0]}}, filters: 8, kind: uib, middle_dw: 3}}
{TAIL}resolution: 32
"""
    assert yaml_io.to_yaml(yaml_io.parse_model(text, ArchSpec, "text")) == (
        HEAD
        + "- {kind: conv, filters: 8}\n"
        + "- kind: uib\n  filters: 8\n  start_dw: 3\n  expansion:\n    one_of: [2.0, 4.0]\n    name: e\n"
        + TAIL
    )


class TestWriteAtomically:
    def test_replaces_and_makes_folders(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "a" / "b.txt"
        for text in ("old", "n\u00e9w"):
            yaml_io.write_atomically(path, text)
            assert path.read_text(encoding="utf-8") == text
        assert path.stat().st_mode & 0o777 == 0o644

    def test_a_failure_leaves_the_old_file_and_nothing_else(
        self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "b.txt"
        path.write_text("old")

        def fail(*_: object) -> None:
            raise OSError("disk full")

        monkeypatch.setattr("search_spaces.yaml_io.os.replace", fail)
        with pytest.raises(OSError, match="disk full"):
            yaml_io.write_atomically(path, "new")
        assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("b.txt", "old")]


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
    assert str(caught.value).startswith("text:4: rows.a[1]: got 'x': input should be a valid integer")
