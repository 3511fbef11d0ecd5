"""Heads: what turns the features of a backbone into a network's output.

To add a head: a class with its own `kind`, a row in `Head` (which then becomes a union that `kind`
discriminates), and its module in `nas/model/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pydantic

from search_spaces.blocks import BaseBlock, Block, Classifier, Pool
from search_spaces.frozen import FrozenModel


class ClassifierHead(FrozenModel):
    """Blocks from the last feature map of the backbone to one logit for each class.

    Attributes:
      kind: Kind of head.
      blocks: A global pool first, then perhaps convolutions and norms, a classifier last.
    """

    kind: Literal["classifier"] = "classifier"
    blocks: tuple[Block, ...]

    @property
    def classifier(self) -> Classifier:
        """The last block."""
        last = self.blocks[-1]
        assert isinstance(last, Classifier)
        return last

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.classifier.classes

    @pydantic.model_validator(mode="after")
    def _pool_first_and_classifier_last(self) -> ClassifierHead:
        if not self.blocks or not isinstance(self.blocks[-1], Classifier):
            raise ValueError("the last block of a classifier head must be a classifier")
        if not isinstance(self.blocks[0], Pool):
            raise ValueError(
                f"the first block of a classifier head must be a pool, got {self.blocks[0].kind}; "
                "move what comes before the pool to the backbone"
            )
        return self


Head = ClassifierHead
"""Any head; in YAML its `kind` says which."""


def split(blocks: Sequence[Block]) -> tuple[tuple[Block, ...], ClassifierHead]:
    """Divide a chain of blocks into backbone and head, which starts with the first pool.

    Args:
      blocks: All blocks of a network that classifies.

    Returns:
      The blocks before the first pool, and the head.

    Raises:
      ValueError: The chain does not end with a pool and a classifier; the message names the block
        as `blocks[index]`.
    """
    if not blocks or not isinstance(blocks[-1], Classifier):
        raise ValueError("blocks: the last block must be a classifier")
    first_pool = _first(blocks, Pool)
    first_classifier = _first(blocks, Classifier)
    if first_classifier != len(blocks) - 1:
        raise ValueError(f"blocks[{first_classifier}]: a classifier must be the last block")
    if first_pool == len(blocks):
        raise ValueError(
            f"blocks[{first_classifier}]: the classifier needs a pooled input; put a pool before it"
        )
    return tuple(blocks[:first_pool]), ClassifierHead(blocks=tuple(blocks[first_pool:]))


def _first(blocks: Sequence[Block], kind: type[BaseBlock]) -> int:
    """Index of the first block of a kind, or the number of blocks where there is none."""
    return next((i for i, block in enumerate(blocks) if isinstance(block, kind)), len(blocks))
