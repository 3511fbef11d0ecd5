"""Distilled data sets from Python."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

from nas.api.results import shown, worker_pool
from nas.data.distilled.manifest import Manifest, read_manifest
from nas.data.sources.image_folder import check_outside
from nas.host import cluster, remote
from nas.host.progress import Progress

if TYPE_CHECKING:
    import os


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

    The same call resumes an interrupted one, and ends with the same bytes.

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
    try:
        with shown("distil", total, progress) as bar:
            manifest = run.run(folder.path, asked, bar, workers=pool)
        pages = tuple(report.write(folder.path, manifest))
    finally:
        folder.push()
    return DistilledData(folder, manifest, pages)


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
