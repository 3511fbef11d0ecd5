"""Check which operations of a model LiteRT does not run with XNNPACK, its fast code for CPUs."""

from __future__ import annotations

import collections
import dataclasses

from nas.exporters import check, litert
from search_spaces import ArchSpec


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Operations of one kind that XNNPACK does not take.

    Attributes:
      name: TFLite's name, e.g. "SOFTMAX".
      count: Number of these operations.
      block: Index in `spec.blocks` of the block that they belong to; None for the whole model.
    """

    name: str
    count: int
    block: int | None = None

    def __str__(self) -> str:
        place = "" if self.block is None else f" in blocks[{self.block}]"
        return f"{self.count} {self.name}{place}"


def left_out(tflite: bytes, spec: ArchSpec | None = None) -> tuple[LeftOut, ...]:
    """List the operations that run outside XNNPACK, in TFLite's slower code.

    Args:
      tflite: The model.
      spec: The network that the model is, to list the operations by block.

    Returns:
      The operations by block and name, in the order in which they run; () if XNNPACK takes all.

    Raises:
      ValueError: LiteRT cannot run the model, or it is not the network of `spec`.
    """
    ops = litert.operations(tflite)
    blocks: tuple[int | None, ...] = (None,) * len(ops)
    if spec is not None:
        if problem := check.difference(spec, tflite):
            raise ValueError(f"the model is not {spec.name}: {problem}")
        blocks = check.blocks_of(spec, ops)
    counts = collections.Counter((blocks[i], ops[i].name) for i in _outside(tflite, len(ops)))
    return tuple(LeftOut(name, count, block) for (block, name), count in counts.items())


def _outside(tflite: bytes, count: int) -> list[int]:
    """Indices, of the `count` operations of a model, of those that run without a delegate.

    Nodes of a delegate are listed behind the operations that they replace. So the last producer of
    a tensor is the one that runs.
    """
    model = litert.interpreter(tflite)
    nodes = model._get_ops_details()
    producers = {int(tensor): node for node in nodes for tensor in node["outputs"]}
    needed = [int(details["index"]) for details in model.get_output_details()]
    met: set[int] = set()
    while needed:
        node = producers.get(needed.pop())
        if node is not None and node["index"] not in met:
            met.add(node["index"])
            needed += map(int, node["inputs"])
    return sorted(index for index in met if index < count)
