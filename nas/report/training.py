"""The report of a training as one page: measures, curves, exports, images. No JAX."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import pydantic
from PIL import Image

from nas.data.dataset import Readable
from nas.report import export, plots
from nas.report.page import document, inline_svg
from nas.run import log
from nas.run.folder import TrainFolder
from nas.run.log import read_log
from nas.training.record import (
    AVERAGED,
    TrainMeasures,
    TrainRecord,
    is_training,
    read_confusion,
    read_summary,
)
from search_spaces import files, plain_json, yaml_io
from search_spaces.frozen import FrozenModel

_SHOWN = 12  # images of each kind
_LOOKED_AT = 2048  # test images among which they are chosen
_SIDE = 112  # of a shown image, pixels
_NAMED = 30  # classes of a confusion matrix that are named
_EXAMPLES = "examples.json"
_STYLE = """
figure{display:inline-block;margin:.2rem .5rem .6rem 0;width:8.2rem;font-size:.75rem;
vertical-align:top}
figure img{width:7rem;height:7rem;image-rendering:pixelated;display:block}
figure.wrong img{outline:3px solid #c05621}
table.measures td,table.measures th{padding:.1rem .8rem .1rem 0;text-align:right}
table.measures td:first-child{text-align:left}
"""


@dataclasses.dataclass(frozen=True)
class Example:
    """A test image and what the network says of it.

    Attributes:
      png: The image, a PNG file.
      label: Name of its class.
      answer: Name of the most likely class.
      probability: Its probability.
    """

    png: bytes
    label: str
    answer: str
    probability: float


def examples(
    predict: Callable[[np.ndarray], np.ndarray], data: Readable, classes: Sequence[str]
) -> list[Example]:
    """Test images to look at: the surest wrong answers, then right answers in the data's order.

    Args:
      predict: From uint8 images [n, h, w, c] to class probabilities [n, classes].
      data: The test split, of which the first 2,048 images are looked at.
      classes: Names of the classes.
    """
    batch = data.read(np.arange(min(len(data), _LOOKED_AT)))
    p = predict(batch.images)
    answers, sure = p.argmax(1), p.max(1)
    known = batch.labels >= 0
    wrong = np.flatnonzero(known & (answers != batch.labels))
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:_SHOWN]
    right = np.flatnonzero(known & (answers == batch.labels))[:_SHOWN]
    return [
        Example(
            _png(batch.images[i]),
            classes[int(batch.labels[i])],
            classes[int(answers[i])],
            float(sure[i]),
        )
        for i in (*wrong, *right)
    ]


def keep_examples(folder: TrainFolder, shown: Sequence[Example]) -> None:
    """Keep the images that reports of a training show.

    Args:
      folder: Folder of the training.
      shown: The images.
    """
    kept = [
        {**dataclasses.asdict(each), "png": base64.b64encode(each.png).decode("ascii")}
        for each in shown
    ]
    files.write_atomically(folder.path / _EXAMPLES, json.dumps(kept, indent=1) + "\n")


class _Kept(FrozenModel):
    png: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9+/]+={0,2}$")]
    label: str
    answer: str
    probability: Annotated[float, pydantic.Field(ge=0, le=1)]


def _read_examples(path: pathlib.Path) -> list[Example]:
    data = plain_json.parse(files.read_text(path), str(path))
    if not isinstance(data, list):
        raise ValueError(f"{path}:1: expected a list of images")
    kept = [yaml_io.validate(each, _Kept, str(path)) for each in data]
    return [
        Example(base64.b64decode(one.png), one.label, one.answer, one.probability) for one in kept
    ]


def write(folder: TrainFolder) -> pathlib.Path:
    """Write the report of a training that has begun.

    Args:
      folder: Folder of the training.

    Returns:
      The page.

    Raises:
      ValueError: The folder holds no training.
    """
    if not is_training(folder):
        raise ValueError(f"{folder}: holds no training; run `nas-train` first")
    record = yaml_io.load_model(folder.record, TrainRecord)
    title = f"{record.network}, trained"
    parts = [f"<h1>{html.escape(title)}</h1>"]
    if folder.result.exists():
        parts.append(_measures(yaml_io.load_model(folder.result, TrainMeasures)))
    else:
        parts.append("<p>Not finished.</p>")
    if rows := read_log(folder.metrics):
        parts += ["<h2>Training</h2>", _curves(rows, read_summary(folder), folder.metrics)]
    if folder.confusion.exists():
        parts += ["<h2>Confusion matrix, test images</h2>", _confusion(folder.confusion)]
    if (folder.path / _EXAMPLES).exists():
        parts += ["<h2>Test images</h2>", _images(_read_examples(folder.path / _EXAMPLES))]
    parts.append(export.section(folder))
    configuration = html.escape(yaml_io.to_yaml(record, defaults=True))
    parts += ["<h2>Configuration</h2>", f"<pre>{configuration}</pre>"]
    files.write_atomically(folder.page, document(title, "\n".join(parts), _STYLE + export.STYLE))
    return folder.page


def _measures(measures: TrainMeasures) -> str:
    error = 1.96 * (measures.test["accuracy"] * (1 - measures.test["accuracy"])) ** 0.5
    error /= measures.test_images**0.5
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{value:.4f}</td>"
        f"<td>{measures.test[name]:.4f}{f' ± {error:.4f}' if name == 'accuracy' else ''}</td></tr>"
        for name, value in measures.validation.items()
    )
    weights = "averaged weights" if measures.averaged else "weights"
    return (
        f"<p>Best {weights} on the validation split, of step {measures.best_step} of "
        f"{measures.steps}; {measures.seconds:.0f} s of training. The test split "
        f"({measures.test_images} images) was read once, at the end.</p>"
        "<table class='measures'><tr><th></th><th>validation</th><th>test</th></tr>"
        f"{rows}</table>"
    )


def _curves(rows: list[dict], summary: list[dict[str, float]], path: pathlib.Path) -> str:
    figure, (left, right) = plots.panels(width=9.0, height=3.4, columns=2)
    steps = np.array([row["step"] for row in rows])
    window = max(len(rows) // 100, 1)
    count = len(rows) // window * window
    loss = log.values(rows, "loss", path)[:count].reshape(-1, window).mean(1)
    left.plot(steps[:count:window], loss, color=plots.COLOURS[0], linewidth=1.3)
    left.set_title("training loss", fontsize=10, loc="left")
    for prefix, name, colour in (
        ("", "weights", plots.COLOURS[0]),
        (AVERAGED, "averaged weights", plots.COLOURS[1]),
    ):
        if summary and f"{prefix}accuracy" in summary[0]:
            x = [row["step"] for row in summary]
            y = [row[f"{prefix}accuracy"] for row in summary]
            right.plot(x, y, ".-", color=colour, linewidth=1.3, label=name)
    right.set_title("validation accuracy", fontsize=10, loc="left")
    if summary:
        right.legend(fontsize=8, frameon=False)
    for axes in (left, right):
        axes.set_xlabel("step")
    return inline_svg(plots.text(figure))


def _confusion(path: pathlib.Path) -> str:
    """Shares of each label's images by answer, and the pairs that are confused most often."""
    names, counts = read_confusion(path)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 3.5 + 0.16 * min(len(names), _NAMED)
    figure, axes = plots.panels(width=side + 1.5, height=side)
    axes.grid(visible=False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("answer")
    axes.set_ylabel("label")
    if len(names) <= _NAMED:
        places = np.arange(len(names))
        axes.set_xticks(places, names, rotation=90, fontsize=7)
        axes.set_yticks(places, names, fontsize=7)
    mistakes = np.where(np.eye(len(names), dtype=bool), 0, counts)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:5]
    pairs = [divmod(int(place), len(names)) for place in order if mistakes.flat[place]]
    items = "".join(
        f"<li>{html.escape(names[a])} taken for {html.escape(names[b])}: {counts[a, b]} of "
        f"{counts[a].sum()}</li>"
        for a, b in pairs
    )
    return inline_svg(plots.text(figure)) + (f"<ul>{items}</ul>" if items else "")


def _images(shown: Sequence[Example]) -> str:
    figures = []
    for example in shown:
        wrong = example.label != example.answer
        data = base64.b64encode(example.png).decode("ascii")
        caption = f"{html.escape(example.answer)} {example.probability:.2f}"
        if wrong:
            caption += f"<br>label: {html.escape(example.label)}"
        figures.append(
            f'<figure class="{"wrong" if wrong else "right"}">'
            f'<img alt="{html.escape(example.label, quote=True)}" '
            f'src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
        )
    return f"<p>The surest wrong answers, then right ones.</p>{''.join(figures)}\n"


def _png(pixels: np.ndarray) -> bytes:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., :3])
    if image.width > 2 * _SIDE:
        image.thumbnail((2 * _SIDE, 2 * _SIDE))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
