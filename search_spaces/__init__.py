"""What a network is, and which networks may be. Pure Python: no JAX, no numpy."""

from search_spaces.choice import OneOf
from search_spaces.library import base, base_names, dump, load, zoo, zoo_names
from search_spaces.mobilenetv4 import (
    SPACES,
    CoarseOptions,
    FineOptions,
    HybridOptions,
    coarse_space,
    fine_space,
    hybrid_space,
    one_stage_space,
)
from search_spaces.ops import OpCall, Shape, make_divisible
from search_spaces.space import Decision, SearchSpace, freeze, with_classes
from search_spaces.spec import ArchSpec, Found, FoundCost, attention_macs, lower, lower_by_block, macs, params

__all__ = [
    "SPACES",
    "ArchSpec",
    "CoarseOptions",
    "Decision",
    "FineOptions",
    "Found",
    "FoundCost",
    "HybridOptions",
    "OneOf",
    "OpCall",
    "SearchSpace",
    "Shape",
    "attention_macs",
    "base",
    "base_names",
    "coarse_space",
    "dump",
    "fine_space",
    "freeze",
    "hybrid_space",
    "load",
    "lower",
    "lower_by_block",
    "macs",
    "make_divisible",
    "one_stage_space",
    "params",
    "with_classes",
    "zoo",
    "zoo_names",
]
