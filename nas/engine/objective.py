"""The objective of a search: accuracy at a cost, against targets."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import numpy as np

from latency_tables import CostModel, Target
from latency_tables.targets import parse_targets
from nas.run.config import RunConfig
from rewards import REWARDS, Reward
from search_spaces import SearchSpace


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """The reward that a search maximises, and the targets that its result must meet.

    value(quality, v) = reward(quality, costs(v) / effective values, exponent)

    Attributes:
      costs: Exact cost of every architecture on the targets' devices.
      targets: One for each device of the cost model.
      reward: Formula, and how far an architecture misses the targets.
      exponent: Weight of a missed target; one for all, or one for each.
      tolerance: Largest miss of an architecture that meets the targets.
    """

    costs: CostModel
    targets: tuple[Target, ...]
    reward: Reward
    exponent: float | tuple[float, ...]
    tolerance: float

    @classmethod
    def build(cls, config: RunConfig, space: SearchSpace) -> Objective:
        """The objective of a configuration, checked.

        Args:
          config: Configuration of the run.
          space: Search space of the stage.

        Raises:
          ValueError: A target out of reach, two that contradict each other, or targets that do not
            fit the reward.
        """
        targets = tuple(target for text in config.targets for target in parse_targets(text))
        names = [target.device.name for target in targets]
        if len(set(names)) < len(names):
            raise ValueError(
                f"`targets`: got {', '.join(config.targets)}; give one target for each device"
            )
        reward = REWARDS[config.reward.kind]
        _check_exponent(config, reward, len(targets))
        if config.separate:
            _check_separate(config, reward, len(targets))
        costs = CostModel.build(space, [target.device for target in targets])
        exponent, tolerance = config.reward.exponent, config.derive.tolerance
        objective = cls(costs, targets, reward, exponent, tolerance)
        objective._check_feasible()
        if not (config.separate or reward.joint or reward.limits):
            objective._check_compatible()
        return objective

    @property
    def space(self) -> SearchSpace:
        """The search space of the cost model."""
        return self.costs.space

    @functools.cached_property
    def effective_values(self) -> tuple[float, ...]:
        """Cost to aim at on each device: the target's value, lowered where it has a confidence."""
        return tuple(target.effective_value for target in self.targets)

    def ratios(self, vectors: np.ndarray) -> np.ndarray:
        """Cost divided by the effective target.

        Args:
          vectors: [..., decisions] int.

        Returns:
          [..., targets] float64.
        """
        return self.costs(vectors) / np.array(self.effective_values)

    def miss(self, vectors: np.ndarray) -> np.ndarray:
        """Distance of architectures from the targets, 0 where they meet them.

        Args:
          vectors: [..., decisions] int.

        Returns:
          [...] float64.
        """
        return self.reward.miss(self.ratios(vectors))

    def value(self, quality: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Reward of architectures.

        Args:
          quality: [...] held-out accuracy, 0..1.
          vectors: [..., decisions] int.

        Returns:
          [...] float64.
        """
        return self.reward(quality, self.ratios(vectors), np.array(self.exponent))

    def with_tolerance(self, tolerance: float) -> Objective:
        """The same objective with another tolerance.

        Args:
          tolerance: Largest miss.
        """
        return dataclasses.replace(self, tolerance=tolerance)

    @functools.cached_property
    def separate(self) -> tuple[Objective, ...]:
        """An objective for each target on its own."""
        return tuple(self.for_target(index) for index in range(len(self.targets)))

    def for_target(self, index: int) -> Objective:
        """The objective with one of the targets.

        Args:
          index: Position of the target.
        """
        exponent = self.exponent[index] if isinstance(self.exponent, tuple) else self.exponent
        return dataclasses.replace(
            self,
            costs=self.costs.on_device(index),
            targets=(self.targets[index],),
            exponent=exponent,
        )

    def _check_feasible(self) -> None:
        for index, target in enumerate(self.targets):
            low, high = self.costs.range(index)
            value = target.effective_value
            if value < low or (value > high and not self.reward.limits):
                unit = target.device.unit
                raise ValueError(
                    f"target {target}: no architecture of {self.space.name} reaches it; costs in "
                    "this space "
                    f"range from {low:.4g} to {high:.4g} {unit}"
                )

    def _check_compatible(self) -> None:
        """Refuse two targets that no architecture meets together, though some meets each."""
        values = self.effective_values
        for first, second in itertools.permutations(range(len(self.targets)), 2):
            ends = self.costs.difference(first, second, values)
            if ends is not None and ends[0] > 0:
                met, other = self.targets[first], self.targets[second]
                most = max(values[second] * (1 - ends[0]), 0)
                raise ValueError(
                    f"targets {met} and {other} contradict each other: an architecture of "
                    f"{self.space.name} that "
                    f"costs {values[first]:.4g} {met.device.unit} on {met.device.name} costs at "
                    f"most {most:.4g} "
                    f"{other.device.unit} on {other.device.name}; lower that target, give "
                    "`separate` for a network "
                    "each, or take reward.kind mnasnet-hard, for which targets are upper limits"
                )


def _check_exponent(config: RunConfig, reward: Reward, targets: int) -> None:
    exponent = config.reward.exponent
    if not isinstance(exponent, tuple):
        return
    if reward.joint:
        raise ValueError(
            f"reward.exponent: {config.reward.kind} takes one number, got {list(exponent)}"
        )
    if len(exponent) != targets:
        raise ValueError(
            f"reward.exponent: got {list(exponent)} for {targets} targets; give one number, or one "
            "a target"
        )


def _check_separate(config: RunConfig, reward: Reward, targets: int) -> None:
    replicas = config.search.replicas
    if targets < 2:
        raise ValueError("`separate` finds a network for each target: give two targets or more")
    if reward.joint:
        raise ValueError(
            f"`separate`: {config.reward.kind} joins all targets into one; choose another "
            "reward.kind"
        )
    if replicas % targets:
        raise ValueError(
            f"`separate`: {targets} targets share the replicas evenly, got search.replicas "
            f"{replicas}; "
            f"use {-(-replicas // targets) * targets}"
        )


def retarget_exponent(
    exponent: float | tuple[float, ...], known: Sequence[Target], wanted: Sequence[Target]
) -> float | tuple[float, ...]:
    """The exponents of other targets on the devices of known ones.

    Args:
      exponent: Of the known targets.
      known: Targets that the exponents belong to.
      wanted: Other targets.

    Raises:
      ValueError: A device has no exponent.
    """
    if not isinstance(exponent, tuple):
        return exponent
    by_device = dict(zip((target.device.name for target in known), exponent, strict=True))
    strange = [target.device.name for target in wanted if target.device.name not in by_device]
    if strange:
        raise ValueError(
            f"reward.exponent has a number for each of {', '.join(by_device)}, none for "
            f"{', '.join(strange)}"
        )
    return tuple(by_device[target.device.name] for target in wanted)
