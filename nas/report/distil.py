"""Report of a distilled data set: a contact sheet, class balance and the teacher's entropy."""

from __future__ import annotations

import base64
import html
import io
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nas.data import codec
from nas.data.distilled.manifest import MANIFEST, Manifest, SplitShards
from nas.data.distilled.records import Record
from nas.data.distilled.split import DistilledSplit
from nas.data.order import permuted
from nas.distillation.shards import ENTROPY_BINS
from nas.host.terminal import one_line
from nas.report import plots
from nas.report.page import document, inline_svg
from search_spaces import files

SHEET = "contact_sheet.png"
"""File of the contact sheet."""
BALANCE = "class_balance.svg"
"""File of the class balance."""
ENTROPY = "entropy.svg"
"""File of the teacher's entropy."""
PAGE = "report.html"
"""File of the page with all of them."""

_COLUMNS, _ROWS = 8, 6
_CELL = 128  # side of an image on the sheet, pixels
_LINE = 15  # height of a line of text below it, pixels
_TOP = 3  # classes of the teacher that are named
_BARS = 60  # most classes that get a bar and a name each
_REASONS = 10  # most skipped images that the summary names


class Sample(NamedTuple):
    """One image of the contact sheet.

    Attributes:
      pixels: uint8 [h, w, 3] image.
      label: Name of its class; "" where it has none.
      top: Names and probabilities of the teacher's three most likely classes.
    """

    pixels: np.ndarray
    label: str
    top: tuple[tuple[str, float], ...]


def write(folder: pathlib.Path, manifest: Manifest) -> tuple[pathlib.Path, ...]:
    """Write all pictures and the page.

    Args:
      folder: Folder of the data set.
      manifest: Its description.

    Returns:
      The files that were written.
    """
    split = DistilledSplit(folder, manifest, "train")
    names = manifest.request.class_names
    count = min(_COLUMNS * _ROWS, len(split))
    chosen = permuted(np.arange(count), len(split), [manifest.request.seed])
    samples = [_sample(split, record, names) for record in split.records(chosen)]
    files.write_atomically(folder / SHEET, sheet(samples))
    _balance(manifest, folder / BALANCE)
    pictures = [BALANCE]
    if manifest.request.teacher:
        _entropy(manifest, folder / ENTROPY)
        pictures.append(ENTROPY)
    page = _page(folder, manifest, samples, pictures)
    files.write_atomically(folder / PAGE, page)
    return tuple(folder / name for name in (SHEET, *pictures, PAGE))


def summary(manifest: Manifest) -> str:
    """Size of the splits, loss of the stored probabilities, and images that were left out.

    Args:
      manifest: Description of the data set.

    Returns:
      Lines of text.
    """
    lines = [f"note: {note}" for note in manifest.notes]
    for name, split in manifest.splits.items():
        size = sum(shard.bytes for shard in split.shards) / 1e6
        line = f"{name}: {split.images} images in {len(split.shards)} shards, {size:.1f} MB"
        if manifest.request.teacher:
            line += _stored_probabilities(split, manifest.request.top_k)
        lines.append(line)
    skipped = [*manifest.unreadable]
    skipped += [
        image
        for split in manifest.splits.values()
        for shard in split.shards
        for image in shard.skipped
    ]
    if skipped:
        lines.append(f"left out, {len(skipped)} images that cannot be read:")
        lines += [f"  {image.reason}" for image in skipped[:_REASONS]]
    if len(skipped) > _REASONS:
        lines.append(f"  ... and {len(skipped) - _REASONS} more, all in {MANIFEST}")
    return "\n".join(lines)


def _stored_probabilities(split: SplitShards, top_k: int) -> str:
    shards, images = split.shards, max(split.images, 1)
    rest = sum(shard.rest_mass for shard in shards) / images
    lost = sum(shard.lost_nats for shard in shards) / images
    text = (
        f"; {rest:.2%} of the probability lies beyond the top {top_k}, which loses {lost:.2g} nats"
    )
    labelled = sum(shard.labelled for shard in shards)
    if labelled:
        agree = sum(shard.agree for shard in shards) / labelled
        text += f"; teacher and label agree on {agree:.1%}"
    return text


def _sample(split: DistilledSplit, record: Record, names: Sequence[str]) -> Sample:
    top: tuple[tuple[str, float], ...] = ()
    if record.top is not None:
        kept = zip(record.top.classes[:_TOP], record.top.values[:_TOP], strict=True)
        top = tuple((names[int(label)], float(value)) for label, value in kept)
    return Sample(split.pixels(record), names[record.label] if record.label >= 0 else "", top)


def sheet(samples: Sequence[Sample]) -> bytes:
    """A grid of images as PNG, each with its label and the teacher's most likely classes below it.

    Args:
      samples: The images.
    """
    width, height = _CELL + 8, _CELL + (1 + _TOP) * _LINE + 8
    rows = -(-len(samples) // _COLUMNS)
    picture = Image.new("RGB", (_COLUMNS * width, rows * height), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    for index, sample in enumerate(samples):
        x, y = index % _COLUMNS * width + 4, index // _COLUMNS * height + 4
        image = codec.from_array(sample.pixels)
        enlarged = image.width < _CELL
        resample = Image.Resampling.NEAREST if enlarged else Image.Resampling.BICUBIC
        picture.paste(image.resize((_CELL, _CELL), resample), (x, y))
        lines = [
            (one_line(sample.label), "black"),
            *((f"{value:.2f} {one_line(name)}", "#4a5568") for name, value in sample.top),
        ]
        for number, (text, colour) in enumerate(lines):
            while font.getlength(text) > _CELL:
                text = text.rstrip(".")[:-1] + "."
            draw.text((x, y + _CELL + 1 + number * _LINE), text, fill=colour, font=font)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _balance(manifest: Manifest, path: pathlib.Path) -> None:
    """Mean probability of each class; many classes are sorted and have no names."""
    split, names = manifest.splits["train"], manifest.request.class_names
    mass = np.sum([shard.class_mass for shard in split.shards], axis=0) / max(split.images, 1)
    if len(names) <= _BARS:
        figure, axes = plots.panels(height=1.0 + 0.2 * len(names))
        positions = np.arange(len(names))[::-1]
        axes.barh(positions, mass, height=0.7)
        axes.set_yticks(positions, names, fontsize=7)
        axes.axvline(1 / len(names), color="#1a202c", linewidth=0.8)
        axes.set_xlabel("mean probability over the training images; line: equal classes")
    else:
        figure, axes = plots.panels(height=3.0)
        axes.fill_between(np.arange(len(names)), np.sort(mass)[::-1] * len(names))
        axes.axhline(1, color="#1a202c", linewidth=0.8)
        axes.set_xlabel(f"{len(names)} classes, the most frequent first")
        axes.set_ylabel("mean probability x classes")
    plots.save(figure, path)


def _entropy(manifest: Manifest, path: pathlib.Path) -> None:
    figure, axes = plots.panels(height=3.0)
    edges = np.arange(ENTROPY_BINS) / ENTROPY_BINS
    for name, split in manifest.splits.items():
        counts = np.sum([shard.entropy for shard in split.shards], axis=0)
        axes.step(edges, counts / max(counts.sum(), 1), where="post", label=name)
    axes.legend(fontsize=8, frameon=False)
    axes.set_xlabel("entropy of the teacher, as a share of the largest possible")
    axes.set_ylabel("share of the images")
    plots.save(figure, path)


def figures(samples: Sequence[Sample]) -> str:
    """The same grid as HTML, for `STYLE`.

    Args:
      samples: The images.
    """
    cells = []
    for sample in samples:
        file = io.BytesIO()
        codec.from_array(sample.pixels).save(file, "PNG")
        picture = base64.b64encode(file.getvalue()).decode()
        top = "".join(
            f"<br>{value:.2f} {html.escape(one_line(name))}" for name, value in sample.top
        )
        cells.append(
            f'<figure><img alt="" src="data:image/png;base64,{picture}">'
            f"<figcaption><b>{html.escape(one_line(sample.label))}</b>{top}</figcaption></figure>"
        )
    return f'<div class="sheet">{"".join(cells)}</div>'


def _page(
    folder: pathlib.Path, manifest: Manifest, samples: Sequence[Sample], pictures: Sequence[str]
) -> str:
    svgs = [files.read_text(folder / name) for name in pictures]
    request = manifest.request
    teacher = request.teacher.spec.name if request.teacher else "none"
    body = f"""<h1>{html.escape(folder.name)}</h1>
<p>{html.escape(request.source)}, recipe {html.escape(request.recipe)},
replicas: {request.replicas}, {request.size} px, teacher {html.escape(teacher)}</p>
<pre>{html.escape(summary(manifest))}</pre>
<p>Training images: the label, and below it the teacher's most likely classes.</p>
{figures(samples)}
{"".join(map(inline_svg, svgs))}"""
    return document(folder.name, body, STYLE)


STYLE = """
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(8rem,1fr));gap:.6rem}
figure{margin:0;font-size:.72rem;line-height:1.25}
figure img{width:100%;image-rendering:pixelated}
"""
"""CSS of the grid."""
