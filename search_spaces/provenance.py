"""Provenance: where an architecture that a search found comes from."""

from __future__ import annotations

from typing import Annotated

import pydantic

from search_spaces.frozen import FrozenModel
from search_spaces.naming import Name


class CostRecord(FrozenModel):
    """Cost of the architecture on one target, and what it is compared with.

    Attributes:
      value: Cost of the architecture, in `unit`.
      target: Cost that was asked for, in `unit`.
      unit: Unit of the costs, such as "ms" or "M".
      most_likely: Cost of the policy's most likely architecture, in `unit`.
    """

    value: Annotated[float, pydantic.Field(ge=0)]
    target: Annotated[float, pydantic.Field(gt=0)]
    unit: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9%/._ -]{0,20}$")]
    most_likely: Annotated[float, pydantic.Field(ge=0)]


class Provenance(FrozenModel):
    """Origin of an architecture (the `found:` section of its YAML file).

    Attributes:
      stage: Name of the stage that found it.
      space: Name of the search space that it is from.
      seed: Random seed of the run.
      config_hash: Hash of the run's configuration.
      dataset_hash: Fingerprint of the data set.
      metrics: Measured values by name, such as the accuracy on held-out images; the key `quality`
        in YAML.
      cost: Cost on each target's device, by the device's name.
      decisions: Chosen option of every decision of the space, by the decision's name.
      versions: Versions of the packages that the search ran with.
      seconds: Duration of the stage in seconds.
    """

    model_config = pydantic.ConfigDict(populate_by_name=True)

    stage: str
    space: str
    seed: int
    config_hash: str
    dataset_hash: str
    metrics: Annotated[dict[str, float], pydantic.Field(alias="quality")]
    cost: dict[Name, CostRecord]
    decisions: dict[str, int]
    versions: dict[str, str]
    seconds: Annotated[float, pydantic.Field(ge=0)]
