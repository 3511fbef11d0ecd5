"""Looking at data from Python."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from nas.data import door, load, sources
from nas.data import look as looks
from nas.data.sources.image_folder import check_outside
from nas.report import look as report
from search_spaces import files

if TYPE_CHECKING:
    import os

SIZE = 224
"""Side of the images on the contact sheet where none is given, in pixels."""


@dataclasses.dataclass(frozen=True, eq=False)
class DataLook:
    """A look at a source.

    Attributes:
      source: The source as given.
      facts: What was found.
    """

    source: str
    facts: looks.Facts

    def __str__(self) -> str:
        return report.text(self.facts)

    def __repr__(self) -> str:
        return f"DataLook({self.source!r}, {self.facts.images} images)"


def look(
    source: str,
    *,
    size: int | None = None,
    teacher: str | None = None,
    teacher_config: str | None = None,
    html: str | os.PathLike[str] | None = None,
    sheet: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> DataLook:
    """Look at a source of images before it is used; only a random sample is decoded.

    Args:
      source: "imagefolder:DIR", "npz:FILE", "tfds:NAME[:SPLIT]" or "builtin:fashion-clutter".
      size: Side of the images in pixels, as the network takes them; None: 224.
      teacher: Also try a teacher, e.g. "onnx:FILE", on 256 training images.
      teacher_config: Path of its YAML; by default beside it, with the suffix .yaml.
      html: Also write a page there, with images as the network will see them.
      sheet: Also write these images as a PNG there.
      seed: Random seed of the samples.

    Returns:
      The look; `print` shows it.

    Raises:
      ValueError: The source is refused, a file lies inside of it, or the answers of the teacher
        contradict its YAML.
    """
    for name, path in (("html", html), ("sheet", sheet)):
        if path is not None:
            check_outside(source, path, name)
    if size is not None and size < 1:
        raise ValueError(f"`size`: got {size}, expected at least 1")
    facts = looks.facts(sources.open_collection(source), seed)
    door.mark_said(facts.notes)
    if teacher is not None:
        facts = dataclasses.replace(
            facts, teacher=_try(source, teacher, teacher_config, size, seed)
        )
    found = DataLook(source, facts)
    if html is None and sheet is None:
        return found
    images = report.seen(load.load_dataset(source, size or SIZE), seed)
    if sheet is not None:
        files.write_atomically(sheet, report.sheet(images))
    if html is not None:
        files.write_atomically(html, report.page(source, found.facts, images))
    return found


def _try(
    source: str, teacher: str, config: str | None, size: int | None, seed: int
) -> tuple[str, ...]:
    """Lines on the agreement of a teacher with the labels of a source."""
    from nas.api.distilling import trials
    from nas.distillation.request import build_request

    request, _ = build_request(
        source, teacher=teacher, teacher_config=config, recipe="plain", size=size, seed=seed
    )
    (trial,) = trials(request)
    trial.accept()
    return trial.lines
