"""A look at a source, as text, as a contact sheet and as a page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nas.data.dataset import Dataset, Readable
from nas.data.look import Facts
from nas.data.order import permuted
from nas.host.terminal import listed, one_line
from nas.report.page import document

_COLUMNS, _ROWS = 8, 6
_CELL, _LINE = 128, 16  # side of an image on the sheet and height of its label, pixels
_CLASSES = 30  # classes that are listed


class Seen(NamedTuple):
    """An image as the network will see it.

    Attributes:
      pixels: uint8 [h, w, c].
      label: Name of its class.
      split: Its split.
    """

    pixels: np.ndarray
    label: str
    split: str


def seen(data: Dataset[Readable], seed: int = 0) -> list[Seen]:
    """Draw images of all splits as the network will see them: training images are cropped.

    Args:
      data: Data set as it is trained on.
      seed: Random seed of the choice.
    """
    shares = {"train": _ROWS * _COLUMNS * 2 // 3}
    found = []
    for split, images in data.splits().items():
        count = min(shares.get(split, _ROWS * _COLUMNS // 6), len(images))
        examples = images.read(permuted(np.arange(count), len(images), [seed]))
        for pixels, label in zip(examples.images, examples.labels.tolist(), strict=True):
            found.append(Seen(pixels, data.class_names[label] if label >= 0 else "", split))
    return found


def text(facts: Facts) -> str:
    """The facts as lines of text.

    Args:
      facts: From `nas.data.look.facts`.
    """
    return "\n".join([*_headline(facts), *_class_lines(facts), *_lines(facts)])


def sheet(images: Sequence[Seen]) -> bytes:
    """A contact sheet as PNG: rows of images with split and label below each.

    Args:
      images: The images.
    """
    rows = -(-len(images) // _COLUMNS)
    width, height = _CELL + 8, _CELL + _LINE + 8
    picture = Image.new("RGB", (_COLUMNS * width, max(rows, 1) * height), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    for index, image in enumerate(images):
        x, y = index % _COLUMNS * width + 4, index // _COLUMNS * height + 4
        picture.paste(_picture(image.pixels).resize((_CELL, _CELL)), (x, y))
        label = one_line(f"{image.split}: {image.label}")
        while font.getlength(label) > _CELL:
            label = label.rstrip(".")[:-1] + "."
        draw.text((x, y + _CELL + 1), label, fill="black", font=font)
    return _png(picture)


def page(source: str, facts: Facts, images: Sequence[Seen]) -> str:
    """A page with the facts and the images.

    Args:
      source: The source as given.
      facts: From `nas.data.look.facts`.
      images: From `seen`.
    """
    cells = []
    for image in images:
        data = base64.b64encode(_png(_picture(image.pixels))).decode()
        caption = f"<b>{_escaped(image.label)}</b><br>{_escaped(image.split)}"
        cells.append(
            f'<figure><img alt="" src="data:image/png;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    notes = "".join(f"<li>{_escaped(note)}</li>" for note in facts.notes)
    left_out = "".join(
        f"<tr><td>{item.count}</td><td>{_escaped(item.reason)}</td>"
        f"<td>{_escaped(listed(item.examples))}</td></tr>"
        for item in facts.left_out
    )
    body = [f"<h1>{_escaped(source)}</h1>", f"<p>{_escaped(_headline(facts)[0])}</p>"]
    if notes:
        body.append(f'<h2>To be known</h2><ul class="notes">{notes}</ul>')
    body.append(f"<h2>Classes</h2>{_class_table(facts)}")
    body.append(f"<pre>{_escaped_lines(_lines(facts, brief=True))}</pre>")
    if left_out:
        body.append(
            "<h2>Left out</h2><table><tr><th>files</th><th>reason</th><th>examples</th></tr>"
            f"{left_out}</table>"
        )
    body.append("<h2>As the network will see them</h2>")
    body.append("<p>Training images are cropped at random, others are the centre.</p>")
    body.append(f'<div class="sheet">{"".join(cells)}</div>')
    return document(source, "\n".join(body), _STYLE)


def _headline(facts: Facts) -> list[str]:
    counts = ", ".join(f"{split} {int(c.sum())}" for split, c in facts.counts.items())
    lines = [
        f"{one_line(facts.name)}: {facts.images} images, {len(facts.class_names)} classes; {counts}"
    ]
    return lines + [f"unlabelled: {facts.unlabelled} images"] * bool(facts.unlabelled)


def _class_lines(facts: Facts) -> list[str]:
    """A line a class; of many the least and the most frequent."""
    names = [one_line(name) for name in facts.class_names]
    width = max(map(len, [*names, "class"]), default=0)
    lines = ["  ".join([f"{'class':{width}}", *(f"{split:>10}" for split in facts.counts)])]
    for label in range(min(len(names), _CLASSES)):
        row = [f"{int(counts[label]):10}" for counts in facts.counts.values()]
        lines.append("  ".join([f"{names[label]:{width}}", *row]))
    if len(names) > _CLASSES:
        lines.append(f"... and {len(names) - _CLASSES} more classes")
    return lines if names else []


def _class_table(facts: Facts) -> str:
    head = "".join(f"<th>{_escaped(split)}</th>" for split in facts.counts)
    rows = "".join(
        f"<tr><td>{_escaped(name)}</td>"
        + "".join(f"<td>{int(counts[label])}</td>" for counts in facts.counts.values())
        + "</tr>"
        for label, name in enumerate(facts.class_names)
    )
    return f'<table class="classes"><tr><th>class</th>{head}</tr>{rows}</table>'


def _lines(facts: Facts, brief: bool = False) -> list[str]:
    lines = []
    train = facts.counts.get("train", np.zeros(0))
    if len(train) and train.min() > 0:
        lines.append(
            f"balance: {int(train.min())} to {int(train.max())} training images a class "
            f"({train.max() / train.min():.1f} times)"
        )
    if len(facts.sizes):
        low, high = facts.sizes.min(0), facts.sizes.max(0)
        middle = np.median(facts.sizes, axis=0).astype(int)
        different = len(np.unique(facts.sizes, axis=0))
        lines.append(
            f"sizes: {different} different; {low[0]}..{high[0]} px across, {low[1]}..{high[1]} "
            f"down, medians {middle[0]} and {middle[1]}"
        )
    if facts.kinds:
        kinds = ", ".join(f"{count} {one_line(kind)}" for kind, count in facts.kinds.items())
        lines.append(f"kinds: {kinds}")
        lines.append(f"EXIF orientation: {facts.turned} images are stored turned")
    lines.append(
        f"pixels / 255: mean {facts.mean:.3f}, deviation {facts.deviation:.3f} over a random "
        f"sample of {facts.sampled} training images"
    )
    lines += [f"teacher: {one_line(line)}" for line in facts.teacher]
    if brief:
        return lines
    for item in facts.left_out:
        lines.append(f"left out: {item}, e.g. {listed(item.examples)}")
    # What is left out has its own lines.
    notes = [note for note in facts.notes if ": left out: " not in note]
    return lines + [f"note: {one_line(note)}" for note in notes]


def _picture(pixels: np.ndarray) -> Image.Image:
    channels = pixels.shape[-1]
    image = Image.fromarray(pixels[..., 0] if channels < 3 else pixels[..., :3]).convert("RGB")
    if image.width > 2 * _CELL:
        image.thumbnail((2 * _CELL, 2 * _CELL))
    return image


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _escaped(text: str) -> str:
    return html.escape(one_line(text))


def _escaped_lines(lines: Sequence[str]) -> str:
    return "\n".join(map(_escaped, lines))


_STYLE = """
table{border-collapse:collapse;font-size:.85rem}
td,th{padding:.15rem .6rem;text-align:left;border-bottom:1px solid #c9d3dd}
table.classes td+td,table.classes th+th{text-align:right}
td{overflow-wrap:anywhere}
ul.notes{background:#fff7e6;border-left:4px solid #c05621;padding:.6rem .6rem .6rem 1.8rem}
.notes li{overflow-wrap:anywhere}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(7rem,1fr));gap:.6rem}
figure{margin:0;font-size:.72rem;line-height:1.25;overflow-wrap:anywhere}
figure img{width:100%;image-rendering:pixelated}
"""
