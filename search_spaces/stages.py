"""The stages of a search: which space each one searches, and which stage it starts from."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping

from search_spaces.families import Family
from search_spaces.frozen import FrozenModel
from search_spaces.mobilenetv4 import (
    CoarseOptions,
    FineOptions,
    HybridOptions,
    coarse_space,
    fine_space,
    hybrid_space,
    one_stage_space,
)
from search_spaces.space import SearchSpace

OPTIONS: Mapping[str, type[FrozenModel]] = {
    "coarse": CoarseOptions,
    "fine": FineOptions,
    "hybrid": HybridOptions,
}
"""Model of each shipped option group, a key of the `space` section of a configuration."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of a search.

    Attributes:
      name: Name of the stage, of its folder, and of its key in configurations.
      after: Name of the stage whose result this one starts from; None to start from the base.
      space: Function from a spec and the stage's options, in their order, to the search space.
      options: Names of the option groups that `space` takes, keys of the `space` section.
      steps: Default number of steps.
      options_models: Models of option groups of the stage's own, by name. The shipped groups are in
        `OPTIONS`.
    """

    name: str
    after: str | None
    space: Callable[..., SearchSpace]
    options: tuple[str, ...]
    steps: int
    options_models: Mapping[str, type[FrozenModel]] = dataclasses.field(
        default_factory=dict, hash=False
    )

    def options_model(self, group: str) -> type[FrozenModel]:
        """Model of one of the stage's option groups.

        Args:
          group: Name of the group, one of `options`.

        Returns:
          The model, whose defaults are the options of a configuration that does not name the group.

        Raises:
          ValueError: The group is neither a shipped one nor in `options_models`.
        """
        models = {**OPTIONS, **self.options_models}
        if group not in models:
            raise ValueError(
                f"stage {self.name!r}, options: no model of {group!r}; add it to options_models"
            )
        return models[group]


STAGES: Family[Stage] = Family(
    "stage",
    {
        stage.name: stage
        for stage in (
            Stage("coarse", None, coarse_space, ("coarse",), 2000),
            Stage("fine", "coarse", fine_space, ("fine",), 2000),
            Stage("hybrid", "fine", hybrid_space, ("hybrid",), 2000),
            Stage("one-stage", None, one_stage_space, ("coarse", "fine"), 4000),
        )
    },
)
"""The stages by name, each behind the one that it starts from.

The paper runs the first two in a row. "one-stage" searches their union at once, the paper's
baseline.
"""

_SHIPPED = ("coarse", "fine", "hybrid", "one-stage")


def chain(name: str) -> tuple[str, ...]:
    """The stages that a stage builds on, first to last, and the stage itself.

    Args:
      name: Name of a stage.

    Returns:
      Names of stages; the last one is `name`.

    Raises:
      ValueError: No stage has this name, or a stage starts from itself through others.
    """
    names: list[str] = []
    current: str | None = name
    while current is not None:
        if current in names:
            raise ValueError(f"stage {name!r}: starts from itself, through {', '.join(names)}")
        names.append(current)
        current = STAGES.get(current).after
    return tuple(reversed(names))


def stage_seed(name: str, seed: int) -> int:
    """Random seed of one stage of a run, independent of which other stages there are.

    A shipped stage has the seed 4 * seed + position in the table. Any other stage has a hash of its
    name and the run's seed.

    Args:
      name: Name of the stage; it need not be in `STAGES`.
      seed: Random seed of the run.

    Returns:
      The stage's seed; below 2**31 for a stage that is not a shipped one.
    """
    if name in _SHIPPED:
        return seed * len(_SHIPPED) + _SHIPPED.index(name)
    return int(hashlib.sha256(f"{name} {seed}".encode()).hexdigest(), 16) % 2**31
