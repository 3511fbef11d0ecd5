"""The files of a run: the one module that knows their names.

No JAX, so that reports load at once.
"""

from __future__ import annotations

import dataclasses
import pathlib

from nas.run.config import RunConfig
from search_spaces import stages, yaml_io
from search_spaces.frozen import FrozenModel

SUPERNET_ACCURACY = "supernet_validation_accuracy"
"""Metric of a found architecture: held-out accuracy inside the supernet, 0..1."""

SUPERNET_STEP = "supernet_step"
"""Metric of an architecture that was derived from an earlier checkpoint than the last: its step."""

STANDALONE_ACCURACY = "trained_validation_accuracy"
"""Metric of a finalist: held-out accuracy after stand-alone training, 0..1."""


class RunRecord(FrozenModel):
    """The `config.yaml` of a stage: its resolved configuration, and what else decides its result.

    Attributes:
      config: Resolved configuration.
      config_hash: Hash of the configuration.
      dataset_hash: Fingerprint of the data set.
      space: Digest of the search space.
      seed: Random seed of the stage; None in records of older versions, which derive it by
        `stage_seed`.
      versions: Packages that computed the result.
      machine: What the bits of the result depend on: devices, threads of a device, instruction set.
      data_notes: Sentences on what was understood, left out or is doubtful in the data.
    """

    config: RunConfig
    config_hash: str
    dataset_hash: str
    space: str
    seed: int | None = None
    versions: dict[str, str]
    machine: dict[str, str] = {}
    data_notes: tuple[str, ...] = ()

    def resolved(self, stage: str) -> RunRecord:
        """The record with the seed that older versions did not write.

        Args:
          stage: The stage whose record this is.
        """
        if self.seed is not None:
            return self
        return self.model_copy(update={"seed": stages.stage_seed(stage, self.config.seed)})

    def decisive(self) -> RunRecord:
        """The record without what may differ between sessions of one run."""
        return self.model_copy(update={"versions": {}, "machine": {}, "data_notes": ()})


@dataclasses.dataclass(frozen=True)
class LoopFolder:
    """Files that the training loop writes.

    Attributes:
      path: The folder.
    """

    path: pathlib.Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def checkpoints(self) -> pathlib.Path:
        """Folder of checkpoints, one subfolder a step."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> pathlib.Path:
        """Metrics, one JSON object a step."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> pathlib.Path:
        """Folder of TensorBoard event files."""
        return self.path / "tensorboard"


@dataclasses.dataclass(frozen=True)
class TrainFolder(LoopFolder):
    """Files of one stand-alone training."""

    @property
    def record(self) -> pathlib.Path:
        """Record of the training: network, data, recipe, seed."""
        return self.path / "config.yaml"

    @property
    def summary(self) -> pathlib.Path:
        """Evaluations on the validation split, one row each."""
        return self.path / "summary.csv"

    @property
    def best(self) -> pathlib.Path:
        """Folder of the network with the best validation accuracy."""
        return self.path / "best"

    @property
    def last(self) -> pathlib.Path:
        """Folder of the network after the last step."""
        return self.path / "last"

    @property
    def result(self) -> pathlib.Path:
        """Measures on the test split: it exists when the training has finished."""
        return self.path / "result.yaml"

    @property
    def confusion(self) -> pathlib.Path:
        """Confusion matrix on the test split."""
        return self.path / "confusion.csv"

    @property
    def exports(self) -> pathlib.Path:
        """Folder of exported models and their records, YAML files, also in folders below.

        Records of models that lie elsewhere are in its folder `elsewhere`.
        """
        return self.path / "export"

    @property
    def page(self) -> pathlib.Path:
        """The report."""
        return self.path / "report.html"


@dataclasses.dataclass(frozen=True)
class TrainingsFolder:
    """Stand-alone trainings of networks of one space under one recipe.

    Attributes:
      path: The folder.
    """

    path: pathlib.Path

    @property
    def record(self) -> pathlib.Path:
        """The record of the trainings: stage, space, data set, recipe."""
        return self.path / "config.yaml"

    @property
    def trainings(self) -> pathlib.Path:
        """Accuracy of each training, one row each."""
        return self.path / "trained.csv"


@dataclasses.dataclass(frozen=True)
class DiagnosisFolder(TrainingsFolder):
    """A ranking diagnosis of a stage."""

    @property
    def architectures(self) -> pathlib.Path:
        """Decisions, costs and accuracies of the networks, one row each."""
        return self.path / "architectures.csv"

    @property
    def result(self) -> pathlib.Path:
        """The diagnosis as JSON."""
        return self.path / "diagnosis.json"

    @property
    def picture(self) -> pathlib.Path:
        """Accuracies after training against those inside the supernet, and against MACs."""
        return self.path / "ranking.svg"


@dataclasses.dataclass(frozen=True)
class StageFolder(LoopFolder):
    """Files of one stage, or of an architecture derived from one."""

    @property
    def architecture(self) -> pathlib.Path:
        """The found architecture: it exists when the stage has finished."""
        return self.path / "architecture.yaml"

    @property
    def record(self) -> pathlib.Path:
        """The `RunRecord`."""
        return self.path / "config.yaml"

    @property
    def policy(self) -> pathlib.Path:
        """Probabilities of all options over time, [policies][decisions][options] a row."""
        return self.path / "policy.jsonl"

    @property
    def candidates(self) -> pathlib.Path:
        """Evaluated architectures, the best reward first."""
        return self.path / "candidates.csv"

    @property
    def page(self) -> pathlib.Path:
        """The report."""
        return self.path / "report.html"

    @property
    def diagnosis(self) -> DiagnosisFolder:
        """The ranking diagnosis of the stage."""
        return DiagnosisFolder(self.path / "diagnose")

    @property
    def finalists(self) -> TrainingsFolder:
        """Trainings of the finalists of a derivation."""
        return TrainingsFolder(self.path / "trained")


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folder of a search, `workdir`.

    A folder for each stage, or for each of separate targets one with stages.

    Attributes:
      path: The folder.
    """

    path: pathlib.Path

    def __str__(self) -> str:
        return str(self.path)

    def stage(self, name: str) -> StageFolder:
        """The folder of a stage.

        Args:
          name: Name of the stage.
        """
        return StageFolder(self.path / name)

    def separate(self, device: str) -> RunFolder:
        """The folder of one of separate targets.

        Args:
          device: Name of the target's device.
        """
        return RunFolder(self.path / device)

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages that have begun, each after the one that it starts from."""
        return tuple(name for name in stages.STAGES if self.stage(name).record.exists())

    @property
    def last_stage(self) -> str:
        """The last of `stages`.

        Raises:
          ValueError: No stage has begun.
        """
        if not self.stages:
            raise ValueError(
                f"{self}: holds no stage of a search; run `nas-search --workdir {self}` first"
            )
        return self.stages[-1]

    def read_record(self, stage: str) -> RunRecord:
        """The record of a stage that has begun.

        Args:
          stage: Name of the stage.

        Raises:
          ValueError: The stage has not begun, or its record is damaged.
        """
        if stage not in self.stages:
            first = f"nas-search --stage {stage} --workdir {self}"
            known = f"give `stage` {' or '.join(self.stages)}"
            cure = known if self.stages else f"run `{first}` first"
            raise ValueError(f"{self}: holds no {stage} stage; {cure}")
        return yaml_io.load_model(self.stage(stage).record, RunRecord).resolved(stage)
