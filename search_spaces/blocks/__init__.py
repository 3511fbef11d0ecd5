"""Blocks: the vocabulary of specs, and the primitive operations that each one stands for.

To add a block: a class with its fields and its `lower` (or its `parts`, if it is a chain of
others), a row in `Block`, and its module in `nas/model/blocks/`. Everything else (YAML, spaces,
costs, exports) reads `lower`.
"""

from typing import Annotated

import pydantic

from search_spaces.blocks.attention import MHSA, MQA, Attention
from search_spaces.blocks.base import BaseBlock, Filtered, Width, lower_chain
from search_spaces.blocks.classic import (
    AvgPool,
    Composite,
    ConvNeXtBlock,
    Depthwise,
    LayerNorm,
    MBConv,
    PatchConv,
    Residual,
    SqueezeExcite,
)
from search_spaces.blocks.mobile import UIB, Classifier, Conv, FusedIB, Pool, expanded_width
from search_spaces.blocks.vit import (
    BatchNorm,
    Concat,
    EfficientViTBlock,
    LinearAttention,
    NextConvBlock,
    NextTransformerBlock,
    PooledAttention,
)

Block = Annotated[
    Conv
    | FusedIB
    | UIB
    | MQA
    | MHSA
    | Pool
    | Classifier
    | Depthwise
    | PatchConv
    | LayerNorm
    | AvgPool
    | SqueezeExcite
    | MBConv
    | ConvNeXtBlock
    | Residual
    | BatchNorm
    | Concat
    | LinearAttention
    | EfficientViTBlock
    | PooledAttention
    | NextConvBlock
    | NextTransformerBlock,
    pydantic.Field(discriminator="kind"),
]
"""Any block; in YAML its `kind` says which."""

Residual.model_rebuild(_types_namespace={"Block": Block})
Concat.model_rebuild(_types_namespace={"Block": Block})
MBConv.model_rebuild()

__all__ = [
    "MHSA",
    "MQA",
    "UIB",
    "Attention",
    "AvgPool",
    "BaseBlock",
    "BatchNorm",
    "Block",
    "Classifier",
    "Composite",
    "Concat",
    "Conv",
    "ConvNeXtBlock",
    "Depthwise",
    "EfficientViTBlock",
    "Filtered",
    "FusedIB",
    "LayerNorm",
    "LinearAttention",
    "MBConv",
    "NextConvBlock",
    "NextTransformerBlock",
    "PatchConv",
    "Pool",
    "PooledAttention",
    "Residual",
    "SqueezeExcite",
    "Width",
    "expanded_width",
    "lower_chain",
]
