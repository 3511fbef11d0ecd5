"""Distilled data sets from Python."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

from nas.api.results import shown, worker_pool
from nas.data.distilled.manifest import Manifest, Request, read_manifest
from nas.data.sources.image_folder import check_outside
from nas.host import cluster, remote
from nas.host.progress import Progress
from search_spaces import files

if TYPE_CHECKING:
    import os

    from nas.distillation.trial import Trial


@dataclasses.dataclass(frozen=True)
class DistilledData:
    """A distilled data set.

    Attributes:
      folder: Its folder, by path or URL.
      manifest: What it holds.
      pages: Contact sheet, class balance, teacher's entropy and a page with all of them.
    """

    folder: remote.Folder
    manifest: Manifest
    pages: tuple[pathlib.Path, ...] = ()

    @property
    def source(self) -> str:
        """The data set as `nas.search(data=...)` takes it."""
        return f"distilled:{self.folder}"

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {split.images}" for name, split in self.manifest.splits.items())
        return f"DistilledData({self.source!r}, {counts} images)"


def distil(
    source: str,
    *,
    out: str | os.PathLike[str] | remote.Folder,
    teacher: str | None = None,
    ray: str | cluster.ClusterSpec | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    **request: Any,
) -> DistilledData:
    """Make a distilled data set: augment images, ask a teacher about each once, keep both.

    The teacher is first tried on a few images: nothing is written if its answers contradict its
    YAML. The same call resumes an interrupted one, and ends with the same bytes.

    Args:
      source: "imagefolder:DIR", "npz:FILE", "tfds:NAME[:SPLIT]" or "builtin:fashion-clutter".
      out: Folder of the data set, by path or URL.
      teacher: "onnx:FILE", "tflite:FILE" or "checkpoint:RUN"; None: labels only.
      ray: "auto", "host:port" or "local", or a `ClusterSpec`: make shards on a Ray cluster.
      workers: Processes; None: one a core. The result is the same.
      progress: Where progress goes; None: a bar on standard error.
      **request: See `nas.distillation.request.build_request`: recipe, replicas, size, storage,
        quality, top_k, per_class, threshold, relevance, held_out, seed, shard_images,
        teacher_config, relevance_config.

    Returns:
      The data set.

    Raises:
      ValueError: Something does not fit; the message names the parameter.
    """
    from nas.distillation import run
    from nas.distillation.request import build_request
    from nas.report import distil as report

    folder = remote.as_folder(out)
    check_outside(source, folder.path, "out")
    pool = worker_pool(ray, workers)
    asked, total = build_request(source, teacher=teacher, **request)
    folder.pull()
    run.check_same(folder.path, asked)
    notes = tuple(note for trial in trials(asked, progress=progress) for note in trial.accept())
    try:
        with shown("distil", total, progress) as bar:
            if progress is not None:
                progress.start_phase("distil", total)
            manifest = run.run(folder.path, asked, bar, workers=pool, notes=notes)
        pages = tuple(report.write(folder.path, manifest))
    finally:
        folder.push()
    return DistilledData(folder, manifest, pages)


def trials(
    request: Request, *, images: int | None = None, progress: Progress | None = None
) -> list[Trial]:
    """Try the teachers of a request.

    Args:
      request: Parameters of a distilled data set.
      images: Number of images; None: 256.
      progress: Where progress goes; None: a bar on standard error.

    Returns:
      The trials; none without a teacher.

    Raises:
      ValueError: A teacher cannot be opened, fails, or does not fit the classes.
    """
    from nas.distillation import trial

    if request.teacher is None and request.balance is None:
        return []
    count = images or trial.IMAGES
    if progress is not None:
        progress.start_phase("try the teacher", count)
    with shown("try the teacher", count, progress) as bar:
        return trial.try_all(request, count=count, progress=bar)


@dataclasses.dataclass(frozen=True, eq=False)
class TeacherTrial:
    """Answers of a teacher to a few images that are not augmented.

    Attributes:
      source: Source of the images as given.
      trial: Images, labels, answers, notes and what contradicts the teacher's YAML.
    """

    source: str
    trial: Trial

    def __str__(self) -> str:
        from nas.report import trial as report

        return report.text(self.trial)

    def __repr__(self) -> str:
        return (
            f"TeacherTrial({self.source!r}, {self.trial.name!r}, {len(self.trial.labels)} images)"
        )


def try_teacher(
    source: str,
    teacher: str,
    *,
    images: int = 64,
    html: str | os.PathLike[str] | None = None,
    sheet: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    **request: Any,
) -> TeacherTrial:
    """Let a teacher label a few images, and show what it says; no data set is made.

    Args:
      source: As for `distil`.
      teacher: As for `distil`.
      images: Number of images, as many of each class.
      html: Also write a page with the images there.
      sheet: Also write them as a PNG there.
      progress: Where progress goes; None: a bar on standard error.
      **request: As for `distil`.

    Returns:
      The trial; `print` shows a table with the three most likely classes of each image.

    Raises:
      ValueError: The teacher cannot be opened, fails, or does not fit the classes. What else
        contradicts its YAML is in `trial.contradiction`.
    """
    from nas.distillation.request import build_request
    from nas.report import trial as report

    for name, path in (("html", html), ("sheet", sheet)):
        if path is not None:
            check_outside(source, path, name)
    if images < 1:
        raise ValueError(f"images to try: got {images}, expected at least 1")
    asked, _ = build_request(source, teacher=teacher, **request)
    trial = trials(asked, images=images, progress=progress)[0]
    if sheet is not None:
        files.write_atomically(sheet, report.sheet(trial))
    if html is not None:
        files.write_atomically(html, report.page(source, trial))
    return TeacherTrial(source, trial)


def verify(
    folder: str | os.PathLike[str] | remote.Folder,
    *,
    ray: str | cluster.ClusterSpec | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Check every file and record of a distilled data set against its manifest.

    Args:
      folder: Its folder, by path or URL.
      ray: "auto", "host:port" or "local", or a `ClusterSpec`: check on a Ray cluster.
      workers: Processes; None: one a core.
      progress: Where progress goes; None: a bar on standard error.

    Returns:
      Number of records.

    Raises:
      ValueError: Something differs from the manifest.
    """
    from nas.distillation import run

    where = remote.as_folder(folder)
    pool = worker_pool(ray, workers)
    where.pull()
    total = sum(split.images for split in read_manifest(where.path).splits.values())
    with shown("verify", total, progress) as bar:
        return run.verify(where.path, bar, workers=pool)
