"""Modules of all blocks of `search_spaces.blocks`.

A module is built at the largest width of its spec and holds one depthwise layer for every kernel
size that the spec allows. Narrower widths are prefix masks: a masked channel is exactly 0 after its
norm, so that the next layer does not need the mask. To add a block, write its module in one of
these files and add a row to `MODULES`.
"""

from __future__ import annotations

from typing import Any

from nas.model.blocks import attention, classic, mobile, vit
from search_spaces import blocks

MODULES: dict[type[blocks.BaseBlock], Any] = {
    blocks.Conv: mobile.Conv,
    blocks.FusedIB: mobile.FusedIB,
    blocks.UIB: mobile.UIB,
    blocks.Pool: mobile.Pool,
    blocks.Classifier: mobile.Classifier,
    blocks.Attention: attention.Attention,
    blocks.Depthwise: classic.Depthwise,
    blocks.PatchConv: classic.PatchConv,
    blocks.LayerNorm: classic.LayerNorm,
    blocks.AvgPool: classic.AvgPool,
    blocks.SqueezeExcite: classic.SqueezeExcite,
    blocks.Residual: classic.Residual,
    blocks.Composite: classic.Chain,
    blocks.BatchNorm: vit.BatchNorm,
    blocks.Concat: vit.Concat,
    blocks.LinearAttention: vit.LinearAttention,
    blocks.PooledAttention: vit.PooledAttention,
}
"""Module class of every block class; classes derived from it share its module."""


def module_of(block: blocks.BaseBlock) -> Any:
    """Find the module class of a block.

    Args:
      block: Spec of the block.

    Returns:
      The row of `MODULES` for the block's class, or for the nearest class that it derives from.
    """
    return next(MODULES[kind] for kind in type(block).__mro__ if kind in MODULES)
