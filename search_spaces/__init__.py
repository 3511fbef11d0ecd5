"""Descriptions of networks and of the spaces that a search explores.

A network is an `ArchSpec`; a search space is a spec with holes (`SearchSpace`), and `freeze` fills
them. `lower` gives a network's primitive operations, from which all its counts are made. The
package is pure Python: it needs neither JAX nor numpy.

  base = search_spaces.base("small-32")
  space = search_spaces.coarse_space(base)
  network = search_spaces.freeze(space, space.random(random.Random(0)))
  search_spaces.params(network), search_spaces.macs(network)
"""

from search_spaces.choice import OneOf
from search_spaces.families import Family
from search_spaces.library import base, base_names, dump, load, zoo, zoo_names
from search_spaces.mobilenetv4 import (
    CoarseOptions,
    FineOptions,
    HybridOptions,
    coarse_space,
    fine_space,
    hybrid_space,
    one_stage_space,
)
from search_spaces.ops import OpCall, Shape, make_divisible
from search_spaces.provenance import CostRecord, Provenance
from search_spaces.space import Decision, SearchSpace, freeze, with_classes
from search_spaces.spec import (
    ArchSpec,
    attention_macs,
    lower,
    lower_by_block,
    macs,
    params,
)
from search_spaces.stages import STAGES, Stage

__all__ = [
    "STAGES",
    "ArchSpec",
    "CoarseOptions",
    "CostRecord",
    "Decision",
    "Family",
    "FineOptions",
    "HybridOptions",
    "OneOf",
    "OpCall",
    "Provenance",
    "SearchSpace",
    "Shape",
    "Stage",
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


def __dir__() -> list[str]:
    return __all__
