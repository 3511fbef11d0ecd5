"""Many independent trainings: all combinations of networks, variants of a recipe, and seeds."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic

from nas.run.config import Seed
from nas.run.folder import TrainFolder
from nas.run.log import read_log
from nas.training.record import best_of, read_summary
from search_spaces.frozen import FrozenModel
from search_spaces.naming import Name


class TrainMatrix(FrozenModel):
    """File that lists trainings to run.

    Attributes:
      schema_version: Version of the file format; the key `schema` in YAML.
      name: Name of the matrix; the default workdir is runs/NAME.
      networks: Networks, {name: folder of a search, YAML file, or name of a known network}.
      data: Data of all trainings; none: those of each network's search.
      recipe: Name or file of the recipe that all trainings start from.
      init: Weights to start from, see `nas.train`.
      fit_classes: Give the classifiers as many classes as the data have.
      seeds: Random seeds, one training each.
      variants: Other settings of the recipe, {name: {key path: value}}, e.g. {long: {epochs: 80}}.
        The keys `recipe` and `init` give a variant another recipe or start.
    """

    schema_version: Annotated[Literal[1], pydantic.Field(alias="schema")] = 1
    name: Name
    networks: Annotated[dict[Name, str], pydantic.Field(min_length=1)]
    data: str | None = None
    recipe: str = "small"
    init: str = "scratch"
    fit_classes: bool = False
    seeds: Annotated[tuple[Seed, ...], pydantic.Field(min_length=1)] = (0,)
    variants: dict[Name, dict[str, Any]] = {}

    def cells(self, folder: str | os.PathLike[str]) -> tuple[TrainCell, ...]:
        """The trainings, in the order of the file.

        Args:
          folder: Folder of all of them.
        """
        variants = list(self.variants.items()) or [("", {})]
        found = []
        for (network, source), (variant, settings), seed in itertools.product(
            self.networks.items(), variants, self.seeds
        ):
            name = "-".join(part for part in (network, variant, f"seed{seed}") if part)
            arguments = {
                "network": source,
                "data": self.data,
                "recipe": settings.get("recipe", self.recipe),
                "init": settings.get("init", self.init),
                "fit_classes": self.fit_classes,
                "seed": seed,
                "settings": {
                    key: value for key, value in settings.items() if key not in ("recipe", "init")
                },
                "workdir": os.path.join(folder, name),
            }
            found.append(TrainCell(name, network, variant, seed, arguments))
        return tuple(found)


@dataclasses.dataclass(frozen=True)
class TrainCell:
    """One of the trainings.

    Attributes:
      name: Name of the training.
      network: Name of its network in the matrix.
      variant: Name of its variant; empty without variants.
      seed: Its random seed.
      arguments: Arguments of `nas.api.training.open_job`.
    """

    name: str
    network: str
    variant: str
    seed: int
    arguments: Mapping[str, Any]

    @property
    def folder(self) -> TrainFolder:
        """Files of the training."""
        return TrainFolder(pathlib.Path(self.arguments["workdir"]))

    @property
    def progress(self) -> tuple[int, float | None, float | None]:
        """(steps done, last loss, best validation accuracy), from its files."""
        log, summary = read_log(self.folder.metrics), read_summary(self.folder)
        return (
            log[-1]["step"] + 1 if log else 0,
            log[-1]["loss"] if log else None,
            max(map(best_of, summary), default=None),
        )
