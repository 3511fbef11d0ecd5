"""Descriptions that are written wrongly in Python: one line, without the vocabulary of pydantic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pydantic
import pytest

from search_spaces import ArchSpec, OneOf
from search_spaces.blocks import UIB, Classifier, Conv, Pool
from search_spaces.frozen import FrozenModel

HEAD: dict[str, Any] = {"blocks": (Pool(), Classifier(classes=4))}


class Inner(FrozenModel):
    size: int = 1


class Outer(FrozenModel):
    inner: Inner = Inner()
    rows: tuple[Inner, ...] = ()


def make(kind: Callable[..., object], **fields: object) -> Callable[[], object]:
    return lambda: kind(**fields)


MISTAKES = [
    (make(Conv, filters=0), "Conv: filters: got 0: input should be greater than or equal to 1"),
    (
        make(Conv, filters=8, kernl=3),
        "Conv: kernl: unknown key; allowed: present, filters, stride, kind, kernel, activation, "
        "norm, bias, groups; did you mean 'kernel'?",
    ),
    (make(Conv), "Conv: filters: missing; this key is required"),
    (
        make(UIB, filters=8, middle_dw=0, stride=2),
        "UIB: stride 2 must always sit on the same depthwise layer, but middle_dw may be [0] and "
        "start_dw [0]; leave 0 out of middle_dw, or use stride 1",
    ),
    (make(OneOf, options=(1,), name="x"), "OneOf: options: got (1,), expected at least 2 values"),
    (
        make(ArchSpec, name="net", resolution=8, blocks=()),
        "ArchSpec: blocks: the last block must be a classifier",
    ),
    (
        make(ArchSpec, name="net", resolution=8, blocks=(Conv(filters=8), Classifier(classes=3))),
        "ArchSpec: blocks[1]: the classifier needs a pooled input; put a pool before it",
    ),
    (
        make(ArchSpec, name="net", resolution=8, blocks=[{"kind": "conv", "filters": 8.5}]),
        "ArchSpec: blocks[0].filters: got 8.5: input should be a valid integer",
    ),
    (
        make(ArchSpec, name="net", resolution=8, backbone=(Conv(filters=8),)),
        "ArchSpec: head: missing; this key is required",
    ),
    (
        make(ArchSpec, name="net", resolution=8, backbone=(Pool(),), head=HEAD),
        "ArchSpec: backbone[0]: a pool belongs to the head; move it to head.blocks",
    ),
    (make(Outer, inner={"size": "x"}), "Outer: inner.size: got 'x': input should be a valid integ"),
    (
        make(Outer, rows=[{}, {"sizes": 1, "size": None}]),
        "Outer: rows[1].sizes: unknown key; allowed: size; did you mean 'size'? (and 1 more)",
    ),
]


@pytest.mark.parametrize(("build", "message"), MISTAKES, ids=[row[1][:40] for row in MISTAKES])
def test_a_mistake_in_python_is_one_line(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        build()
    assert not isinstance(caught.value, pydantic.ValidationError)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_nested_data_is_validated_without_calls_of_init() -> None:
    """Files are as fast as with plain pydantic models, and errors have their whole key path."""
    assert not Outer.__pydantic_custom_init__
    with pytest.raises(pydantic.ValidationError) as caught:
        Outer.model_validate({"rows": [{"size": 1}, {"size": "x"}]})
    assert [error["loc"] for error in caught.value.errors()] == [("rows", 1, "size")]


def test_an_immutable_description_can_be_hashed_and_not_changed() -> None:
    outer = Outer(rows=(Inner(size=2),))
    assert hash(outer) == hash(Outer(rows=(Inner(size=2),)))
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        outer.inner = Inner()
