"""Profiles of a runtime: nodes without shapes, joined with the operations of the network."""

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

# names of TFLite, XNNPACK, QNN and ONNX; the first match counts
_KINDS: tuple[tuple[str, tuple[OpKind, ...]], ...] = (
    (r"depthwise_?conv|convolution .*dwconv", ("depthwise_conv2d",)),
    (r"conv$", ("conv2d", "depthwise_conv2d")),
    (r"conv_?2d|convolution\b", ("conv2d",)),
    (r"fully_?\s?connected|gemm$|dense$", ("fully_connected",)),
    (r"batch_?\s?matmul|batch matrix multiply|matmul$", ("matmul",)),
    (r"softmax", ("softmax",)),
    (r"batch_?norm", ("batch_norm",)),
    (r"layer_?norm", ("layer_norm",)),
    (r"mean\b|reduce_?mean|global_?\s?average_?\s?pool|sum$|sum \(", ("mean",)),
    # of the whole image it is a mean
    (r"average_?\s?pool|pool_?avg", ("avg_pool", "mean")),
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
DECOMPOSITION_NOTE = (
    "each node is the operation of its kind at the same place of the network; an activation that "
    "runs alone is added to the operation before it, and a block with attention is one measurement"
)


@dataclasses.dataclass(frozen=True)
class Node:
    """A line of a profile.

    Attributes:
      name: Name that the runtime prints.
      type: Type that the runtime prints.
      ms: Time, 0 if the profiler shows none, None if it gives none.
      where: File and line or key, for errors.
      runs: Number of times that the node ran in one run of the network.
    """

    name: str
    type: str
    ms: float | None
    where: str
    runs: int = 1

    @property
    def kinds(self) -> tuple[OpKind, ...]:
        """Kinds of operation that the node may be, usually one; empty for other nodes."""
        return next((kinds for pattern, kinds in _KINDS if re.match(pattern, self._type)), ())

    @property
    def activations(self) -> tuple[Activation, ...]:
        """Activations that the node may be; empty for other nodes."""
        matches = (names for pattern, names in _ACTIVATIONS if re.match(pattern, self._type))
        return next(matches, ())

    @property
    def _type(self) -> str:
        return self.type.split("/")[0].strip().lower()


def join(
    nodes: Sequence[Node], ops: Sequence[OpCall], count: int, where: str
) -> tuple[tuple[Measurement, ...], dict[str, int]]:
    """Give the times of nodes to operations of the same kind in the same order.

    - Convolutions, dense layers and matrix products are one kind here. Converters replace one by
      another where they mean the same.
    - Operations of kinds that no node has are left out, as are nodes that are not an operation
      (quantise, reshape, ...).
    - Nodes that are an activation, or parts of one (swish: sigmoid, product; hard sigmoid: sum,
      ReLU6, product), belong to the operation before them.
    - Inside a block with attention the converter chooses the order (keys may come before queries).
      Such a block is one measurement, together with the nodes that move its data.

    Args:
      nodes: Nodes in the order in which they ran.
      ops: `lower(spec)` of the network that was profiled.
      count: Number of runs that the times are the mean of.
      where: File, for errors.

    Returns:
      A measurement for each operation (or block with attention) that has a time, and
      {reason: number of nodes or operations that were left out}.

    Raises:
      ValueError: One line: nodes and operations that differ in number for a kind, with the first
        difference; a node that ran several times a run; an activation that the operation before it
        does not have.
    """
    group = _groups(nodes)
    present = {group[kind] for node in nodes for kind in node.kinds}
    if not present:
        types = ", ".join(sorted({node.type for node in nodes})[:3])
        raise ValueError(
            f"{where}: none of the {len(nodes)} nodes is an operation ({types}); if a delegate ran "
            "the network as one node, profile without it, or with a version that shows the "
            "operations inside"
        )
    expected = [op for op in ops if group[op.kind] in present]
    attention = {op.block for op in ops if op.kind == "matmul"}
    matches, skipped = _assign(nodes, expected, group, attention)
    _check(matches, expected, group, attention, where)
    for op in ops:
        if group[op.kind] not in present and op.block not in attention:
            skipped[f"operation {op.kind}: no node of that kind"] += 1
    parts: dict[str, tuple[list[OpCall], list[float | None]]] = {}
    for match in matches:
        assert match.op is not None  # checked
        name, ran = match.node.name, [match.op]
        if match.op.block in attention:
            name = f"block {match.op.block}"
            ran = [op for op in ops if op.block == match.op.block]
        times = parts.setdefault(name, (ran, []))[1]
        times += [match.node.ms, *(node.ms or 0.0 for node in match.after)]
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
class _Match:
    """A node and its operation.

    Attributes:
      node: The node.
      op: The operation; None if there is none left of its kind.
      after: Later nodes that are parts of the operation.
    """

    node: Node
    op: OpCall | None
    after: list[Node]


def _groups(nodes: Sequence[Node]) -> dict[str, str]:
    """{kind: name of its group}: a kind alone, unless a node may be one of several kinds."""
    group: dict[str, str] = {kind: kind for kind in get_args(OpKind)}
    for kinds in {_PRODUCTS, *(node.kinds for node in nodes)}:
        for a, b in itertools.pairwise(kinds):
            keep, gone = group[a], group[b]
            group = {kind: keep if name == gone else name for kind, name in group.items()}
    return group


def _assign(
    nodes: Sequence[Node], expected: Sequence[OpCall], group: dict[str, str], attention: set[int]
) -> tuple[list[_Match], collections.Counter[str]]:
    """Give each node the next operation of its group, or add it to the operation before it."""
    surplus = collections.Counter(group[node.kinds[0]] for node in nodes if node.kinds)
    surplus.subtract(group[op.kind] for op in expected)
    queues = {name: iter([op for op in expected if group[op.kind] == name]) for name in surplus}
    skipped: collections.Counter[str] = collections.Counter()
    matches: list[_Match] = []
    # products and sums that may still be parts of the last operation's activation
    rest: set[OpKind] = set()
    for node in nodes:
        if (node.kinds or node.activations) and node.runs != 1:
            raise ValueError(
                f"{node.where}: {node.type} ran {node.runs} times a run, expected 1: several "
                "operations share a line, as where a delegate runs several parts of a network; "
                "profile without that delegate"
            )
        last = matches[-1] if matches and matches[-1].op else None
        if last and rest.intersection(node.kinds) and surplus[group[node.kinds[0]]] > 0:
            last.after.append(node)
            rest.difference_update(node.kinds)
            surplus[group[node.kinds[0]]] -= 1
        elif node.kinds:
            op = next(queues[group[node.kinds[0]]], None)
            matches.append(_Match(node, op, []))
            rest = set(_PARTS.get(op.activation, ())) if op else set()
        elif node.activations and last and last.op:
            may_be = {last.op.activation, *_ALSO.get(last.op.activation, ())}
            if last.op.block not in attention and not may_be.intersection(node.activations):
                raise ValueError(
                    f"{node.where}: {node.type} after {last.node.type}, but that operation is "
                    f"{last.op}; is this the profile of another network?"
                )
            last.after.append(node)
        elif last and last.op and last.op.block in attention:
            last.after.append(node)
        else:
            skipped[f"node {node.type}: no operation of a network"] += 1
    return matches, skipped


def _check(
    matches: Sequence[_Match],
    ops: Sequence[OpCall],
    group: dict[str, str],
    attention: set[int],
    where: str,
) -> None:
    """Raise ValueError unless every operation has a node of its kind."""
    have = collections.Counter(group[match.node.kinds[0]] for match in matches)
    want = collections.Counter(group[op.kind] for op in ops)
    wrong = [
        f"{have[name]} nodes but {want[name]} operations of "
        f"{'/'.join(kind for kind, member_of in group.items() if member_of == name)}"
        for name in have
        if have[name] != want[name]
    ]
    if wrong:
        pairs = itertools.zip_longest(matches, ops)
        position, match, op = next(
            (i, match, op)
            for i, (match, op) in enumerate(pairs, 1)
            if match is None or op is None or group[match.node.kinds[0]] != group[op.kind]
        )
        node = f"{match.node.type} ({match.node.where})" if match else "missing"
        raise ValueError(
            f"{where}: {', '.join(wrong)}; first difference: node {position} is {node}, "
            f"operation {position} is {op if op else 'missing'}; "
            "is this the profile of another network?"
        )
    for match in matches:
        op, kinds = match.op, set(match.node.kinds)
        assert op is not None  # the counts are equal
        is_product = kinds.intersection(_PRODUCTS) and op.kind in _PRODUCTS and op.kernel == 1
        if op.kind not in kinds and not is_product and op.block not in attention:
            raise ValueError(
                f"{match.node.where}: {match.node.type} cannot be {op}, which is next in the "
                "network; is this the profile of another network?"
            )
