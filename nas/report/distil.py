"""What a distilled data set looks like: a contact sheet, class balance and the teacher's entropy."""

from __future__ import annotations

import base64
import html
import io
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nas.data import images as codec
from nas.data.distil.manifest import Manifest
from nas.data.distil.records import Record
from nas.data.distil.work import ENTROPY_BINS
from nas.data.order import permuted
from nas.data.stored import DistilledSplit
from nas.report import plots
from nas.report.page import inline, page

SHEET, BALANCE, ENTROPY, PAGE = "contact_sheet.png", "class_balance.svg", "entropy.svg", "report.html"
_COLUMNS, _ROWS = 8, 6
_CELL = 128  # pixels of a side of an image on the sheet
_BARS_MAX = 60


class Sample(NamedTuple):
    """One image of the sheet.

    Attributes:
      pixels: uint8 [h, w, 3].
      label: its class's name, "" where there is none.
      top: the teacher's first three classes with their probabilities.
    """

    pixels: np.ndarray
    label: str
    top: tuple[tuple[str, float], ...]


def write(folder: pathlib.Path, manifest: Manifest) -> tuple[pathlib.Path, ...]:
    """Write all pictures and the page into the folder of a data set; returns their paths."""
    split = DistilledSplit(folder, manifest, "train")
    names = manifest.request.class_names
    chosen = permuted(np.arange(min(_COLUMNS * _ROWS, len(split))), len(split), [manifest.request.seed])
    samples = [_sample(split, record, names) for record in split.records(chosen)]
    _sheet(samples, folder / SHEET)
    made = [folder / SHEET]
    _balance(manifest, folder / BALANCE)
    made.append(folder / BALANCE)
    if manifest.request.teacher:
        _entropy(manifest, folder / ENTROPY)
        made.append(folder / ENTROPY)
    (folder / PAGE).write_text(_page(folder, manifest, samples), encoding="utf-8")
    return (*made, folder / PAGE)


def summary(manifest: Manifest) -> str:
    """What was made, what it lost and what was left out, in a few lines."""
    request, lines = manifest.request, []
    for name, part in manifest.parts.items():
        size = sum(shard.bytes for shard in part.shards) / 1e6
        line = f"{name}: {part.images} images in {len(part.shards)} shards, {size:.1f} MB"
        if request.teacher:
            rest, lost = (
                sum(values) / max(part.images, 1)
                for values in ((s.rest_mass for s in part.shards), (s.lost_nats for s in part.shards))
            )
            line += f"; {rest:.2%} of the probability lies beyond the top {request.top_k}, which loses {lost:.2g} nats"
            labelled = sum(s.labelled for s in part.shards)
            if labelled:
                line += f"; teacher and label agree on {sum(s.agree for s in part.shards) / labelled:.1%}"
        lines.append(line)
    skipped = [*manifest.unreadable]
    skipped += [one for part in manifest.parts.values() for shard in part.shards for one in shard.skipped]
    if skipped:
        lines.append(f"left out, {len(skipped)} images that cannot be read:")
        lines += [f"  {one.reason}" for one in skipped[:10]]
        lines += [f"  ... and {len(skipped) - 10} more, all in manifest.yaml"] if len(skipped) > 10 else []
    return "\n".join(lines)


def _sample(split: DistilledSplit, record: Record, names: Sequence[str]) -> Sample:
    top: tuple[tuple[str, float], ...] = ()
    if record.top is not None:
        kept = zip(record.top.classes[:3], record.top.values[:3], strict=True)
        top = tuple((names[int(place)], float(value)) for place, value in kept)
    return Sample(split.pixels(record), names[record.label] if record.label >= 0 else "", top)


def _sheet(samples: Sequence[Sample], path: pathlib.Path) -> None:
    """A grid of images, each with its label and the teacher's first three classes below it."""
    width, line = _CELL + 8, 15
    height = _CELL + 4 * line + 8
    rows = -(-len(samples) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * width, rows * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for place, sample in enumerate(samples):
        x, y = place % _COLUMNS * width + 4, place // _COLUMNS * height + 4
        image = codec.from_array(sample.pixels)
        how = Image.Resampling.NEAREST if image.width < _CELL else Image.Resampling.BICUBIC
        sheet.paste(image.resize((_CELL, _CELL), how), (x, y))
        lines = [(sample.label, "black"), *((f"{value:.2f} {name}", "#4a5568") for name, value in sample.top)]
        for number, (text, colour) in enumerate(lines):
            while font.getlength(text) > _CELL:
                text = text.rstrip(".")[:-1] + "."
            draw.text((x, y + _CELL + 1 + number * line), text, fill=colour, font=font)
    sheet.save(path)


def _balance(manifest: Manifest, path: pathlib.Path) -> None:
    """Mean probability of each class over the training images; of many classes, sorted and without names."""
    part, names = manifest.parts["train"], manifest.request.class_names
    mass = np.sum([shard.class_mass for shard in part.shards], axis=0) / max(part.images, 1)
    if len(names) <= _BARS_MAX:
        figure, axes = plots.panels(height=1.0 + 0.2 * len(names))
        places = np.arange(len(names))[::-1]
        axes.barh(places, mass, height=0.7)
        axes.set_yticks(places, names, fontsize=7)
        axes.axvline(1 / len(names), color="#1a202c", linewidth=0.8)
        axes.set_xlabel("mean probability of a training image; the line: all classes alike")
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
    for name, part in manifest.parts.items():
        counts = np.sum([shard.entropy for shard in part.shards], axis=0)
        axes.step(edges, counts / max(counts.sum(), 1), where="post", label=name)
    axes.legend(fontsize=8, frameon=False)
    axes.set_xlabel("entropy of the teacher, as a share of the largest possible")
    axes.set_ylabel("share of the images")
    plots.save(figure, path)


def _page(folder: pathlib.Path, manifest: Manifest, samples: Sequence[Sample]) -> str:
    cells = []
    for sample in samples:
        file = io.BytesIO()
        codec.from_array(sample.pixels).save(file, "PNG")
        picture = base64.b64encode(file.getvalue()).decode()
        top = "".join(f"<br>{value:.2f} {html.escape(name)}" for name, value in sample.top)
        cells.append(
            f'<figure><img alt="" src="data:image/png;base64,{picture}"><figcaption><b>{html.escape(sample.label)}</b>'
            f"{top}</figcaption></figure>"
        )
    made = [name for name in (BALANCE, ENTROPY) if (folder / name).exists()]
    pictures = "\n".join(inline((folder / name).read_text(encoding="utf-8")) for name in made)
    request = manifest.request
    teacher = request.teacher.spec.name if request.teacher else "none"
    body = f"""<h1>{html.escape(folder.name)}</h1>
<p>{html.escape(request.source)}, recipe {html.escape(request.recipe)}, replicas: {request.replicas}, {request.size} px,
teacher {html.escape(teacher)}</p>
<pre>{html.escape(summary(manifest))}</pre>
<p>Training images: the label, and below it the teacher's first three classes.</p>
<div class="sheet">{"".join(cells)}</div>
{pictures}"""
    return page(folder.name, body, _STYLE)


_STYLE = """
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(8rem,1fr));gap:.6rem}
figure{margin:0;font-size:.72rem;line-height:1.25}
figure img{width:100%;image-rendering:pixelated}
"""
