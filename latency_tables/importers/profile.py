"""Profiles of a runtime give nodes without shapes; here they are joined with the operations of the network that ran."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from collections.abc import Sequence
from typing import get_args

from latency_tables.importers.base import folded
from latency_tables.measurement import Measurement
from search_spaces import OpCall
from search_spaces.ops import Activation, OpKind

_KINDS: tuple[tuple[str, tuple[OpKind, ...]], ...] = (  # names of TFLite, XNNPACK, QNN and ONNX; the first match counts
    (r"depthwise_?conv|convolution .*dwconv", ("depthwise_conv2d",)),
    (r"conv$", ("conv2d", "depthwise_conv2d")),
    (r"conv_?2d|convolution\b", ("conv2d",)),
    (r"fully_?\s?connected|gemm$|dense$", ("fully_connected",)),
    (r"batch_?\s?matmul|batch matrix multiply|matmul$", ("matmul",)),
    (r"softmax", ("softmax",)),
    (r"batch_?norm", ("batch_norm",)),
    (r"layer_?norm", ("layer_norm",)),
    (r"mean\b|reduce_?mean|global_?\s?average_?\s?pool|sum$|sum \(", ("mean",)),
    (r"average_?\s?pool|pool_?avg", ("avg_pool", "mean")),  # of the whole image it is a mean
    (r"max_?\s?pool|pool_?max", ("max_pool",)),
    (r"resize", ("resize",)),
    (r"(elementwise_?)?add$|add \(", ("add",)),
    (r"(elementwise_?)?mul(tiply)?$|multiply \(", ("mul",)),
    (r"binary elementwise", ("add", "mul")),
    (r"concat", ("concat",)),
)
_ACTIVATIONS: tuple[tuple[str, tuple[Activation, ...]], ...] = (
    (r"hard_?\s?swish", ("hard_swish",)),
    (r"hard_?\s?sigmoid", ("hard_sigmoid",)),
    (r"logistic|sigmoid", ("sigmoid", "swish")),
    (r"swish|silu", ("swish",)),
    (r"gelu", ("gelu",)),
    (r"relu6|relu_0_to_6|relu ?min ?max", ("relu6",)),
    (r"relu$", ("relu",)),
    (r"clamp", ("relu", "relu6")),
)
_PRODUCTS: tuple[OpKind, ...] = ("conv2d", "fully_connected", "matmul")
_PARTS: dict[str, tuple[OpKind, ...]] = {"swish": ("mul",), "hard_sigmoid": ("add", "mul")}
_ALSO: dict[str, tuple[Activation, ...]] = {"hard_sigmoid": ("relu6",)}
DECOMPOSED = (
    "each node is the operation of its kind at the same place of the network; an activation that runs alone is added "
    "to the operation before it, and a block with attention is one measurement"
)


@dataclasses.dataclass(frozen=True)
class Node:
    """A line of a profile.

    Attributes:
      name, type: as the runtime prints them.
      ms: its time, 0 if the profiler shows none, None if it gives none.
      where: file and line or key.
      runs: how often it ran in one run of the network.
    """

    name: str
    type: str
    ms: float | None
    where: str
    runs: int = 1

    @property
    def kinds(self) -> tuple[OpKind, ...]:
        """The kinds of operation that it may be, usually one; empty if it is none of ours."""
        return next((kinds for pattern, kinds in _KINDS if re.match(pattern, self._type)), ())

    @property
    def activations(self) -> tuple[Activation, ...]:
        """The activations that it may be; empty if it is none."""
        return next((found for pattern, found in _ACTIVATIONS if re.match(pattern, self._type)), ())

    @property
    def _type(self) -> str:
        return self.type.split("/")[0].strip().lower()


def join(
    nodes: Sequence[Node], ops: Sequence[OpCall], count: int, where: str
) -> tuple[tuple[Measurement, ...], dict[str, int]]:
    """Give the times of nodes to operations of the same kind in the same order.

    Convolutions, dense layers and matrix products are one kind here, as converters make one of the other where they
    mean the same. Operations of kinds that no node has are left out, as are nodes that are no operation (quantise,
    reshape, ...). Nodes that are an activation, or parts of one (swish: sigmoid, product; hard sigmoid: sum, ReLU6,
    product), belong to the operation before them. Inside a block with attention the order is the converter's (keys may
    come before queries), so such a block is measured as one, with what moves its data.

    Args:
      nodes: in the order in which they ran.
      ops: the operations of the network that was profiled: `lower(spec)`.
      count: number of runs that the times are of.
      where: file, for errors.

    Returns:
      A measurement for each operation (or block with attention) that has a time, and {reason: how many nodes or
      operations were left out}.

    Raises:
      ValueError: one line; nodes and operations that differ in number for a kind, with the first difference; a node
        that ran several times a run; an activation that the operation before it does not have.
    """
    group = _groups(nodes)
    present = {group[kind] for node in nodes for kind in node.kinds}
    if not present:
        types = ", ".join(sorted({node.type for node in nodes})[:3])
        raise ValueError(
            f"{where}: none of the {len(nodes)} nodes is an operation ({types}); if a delegate ran the network as one "
            "node, profile without it, or with a version that shows the operations inside"
        )
    expected = [op for op in ops if group[op.kind] in present]
    attention = {op.block for op in ops if op.kind == "matmul"}
    joined, skipped = _assign(nodes, expected, group, attention)
    _check(joined, expected, group, attention, where)
    for op in ops:
        if group[op.kind] not in present and op.block not in attention:
            skipped[f"operation {op.kind}: no node of that kind"] += 1
    parts: dict[str, tuple[list[OpCall], list[float | None]]] = {}
    for one in joined:
        assert one.op is not None  # checked
        name, ran = one.node.name, [one.op]
        if one.op.block in attention:
            name, ran = f"block {one.op.block}", [op for op in ops if op.block == one.op.block]
        times = parts.setdefault(name, (ran, []))[1]
        times += [one.node.ms, *(node.ms or 0.0 for node in one.after)]
    measurements = []
    for name, (ran, times) in parts.items():
        known = [ms for ms in times if ms is not None]
        if len(known) < len(times):
            skipped["node without a time of its own"] += len(ran)
        elif sum(known) > 0:
            measurements.append(Measurement(name, folded(ran), sum(known), count=count))
        else:
            skipped["node of time 0: below the profiler's resolution, or fused"] += len(ran)
    if not measurements:
        raise ValueError(f"{where}: no operation has a time")
    return tuple(measurements), dict(skipped)


@dataclasses.dataclass
class _Joined:
    """A node, its operation if there is one left, and the nodes behind it that are parts of that operation."""

    node: Node
    op: OpCall | None
    after: list[Node]


def _groups(nodes: Sequence[Node]) -> dict[str, str]:
    """{kind: name of the group that it is joined in}: a kind alone, unless a node may be one of several."""
    group: dict[str, str] = {kind: kind for kind in get_args(OpKind)}
    for kinds in {_PRODUCTS, *(node.kinds for node in nodes)}:
        for a, b in itertools.pairwise(kinds):
            keep, gone = group[a], group[b]
            group = {kind: keep if name == gone else name for kind, name in group.items()}
    return group


def _assign(
    nodes: Sequence[Node], expected: Sequence[OpCall], group: dict[str, str], attention: set[int]
) -> tuple[list[_Joined], collections.Counter[str]]:
    """Walk the nodes in order; each takes the next operation of its group, or belongs to the one before it."""
    surplus = collections.Counter(group[node.kinds[0]] for node in nodes if node.kinds)
    surplus.subtract(group[op.kind] for op in expected)
    queues = {name: iter([op for op in expected if group[op.kind] == name]) for name in surplus}
    skipped: collections.Counter[str] = collections.Counter()
    joined: list[_Joined] = []
    rest: set[OpKind] = set()  # products and sums that may still be parts of the last operation's activation
    for node in nodes:
        if (node.kinds or node.activations) and node.runs != 1:
            raise ValueError(
                f"{node.where}: {node.type} ran {node.runs} times a run, expected 1: several operations share a line, "
                "as where a delegate runs several parts of a network; profile without that delegate"
            )
        last = joined[-1] if joined and joined[-1].op else None
        if last and rest.intersection(node.kinds) and surplus[group[node.kinds[0]]] > 0:
            last.after.append(node)
            rest.difference_update(node.kinds)
            surplus[group[node.kinds[0]]] -= 1
        elif node.kinds:
            op = next(queues[group[node.kinds[0]]], None)
            joined.append(_Joined(node, op, []))
            rest = set(_PARTS.get(op.activation, ())) if op else set()
        elif node.activations and last and last.op:
            may_be = {last.op.activation, *_ALSO.get(last.op.activation, ())}
            if last.op.block not in attention and not may_be.intersection(node.activations):
                raise ValueError(
                    f"{node.where}: {node.type} after {last.node.type}, but that operation is {last.op.text}; is this "
                    "the profile of another network?"
                )
            last.after.append(node)
        elif last and last.op and last.op.block in attention:
            last.after.append(node)
        else:
            skipped[f"node {node.type}: no operation of a network"] += 1
    return joined, skipped


def _check(
    joined: Sequence[_Joined], ops: Sequence[OpCall], group: dict[str, str], attention: set[int], where: str
) -> None:
    """Raise ValueError unless every operation has a node of its kind."""
    have = collections.Counter(group[one.node.kinds[0]] for one in joined)
    want = collections.Counter(group[op.kind] for op in ops)
    wrong = [
        f"{have[name]} nodes but {want[name]} operations of {'/'.join(k for k, g in group.items() if g == name)}"
        for name in have
        if have[name] != want[name]
    ]
    if wrong:
        pairs = itertools.zip_longest(joined, ops)
        position, one, op = next(
            (i, one, op)
            for i, (one, op) in enumerate(pairs, 1)
            if one is None or op is None or group[one.node.kinds[0]] != group[op.kind]
        )
        shown = f"{one.node.type} ({one.node.where})" if one else "missing"
        raise ValueError(
            f"{where}: {', '.join(wrong)}; first difference: node {position} is {shown}, operation {position} is "
            f"{op.text if op else 'missing'}; is this the profile of another network?"
        )
    for one in joined:
        assert one.op is not None  # the counts are equal
        kinds = set(one.node.kinds)
        alike = kinds.intersection(_PRODUCTS) and one.op.kind in _PRODUCTS and one.op.kernel == 1
        if one.op.kind not in kinds and not alike and one.op.block not in attention:
            raise ValueError(
                f"{one.node.where}: {one.node.type} cannot be {one.op.text}, which is next in the network; is this the "
                "profile of another network?"
            )
