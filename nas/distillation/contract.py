"""Contract of a teacher: what its YAML declares, held against its answers to a sample.

Letters: n images, k classes, o outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from nas.data.distilled import labels as soft
from nas.data.distilled.manifest import TeacherSpec
from nas.distillation import class_names as names
from nas.distillation.class_order import CHANCE, Evidence, better_order, by_chance
from nas.distillation.teacher import Teacher
from nas.host.terminal import listed

_LARGEST, _NARROWEST = 10.0, 0.1
"""Networks are fed with numbers up to this, over a range of at least that. Source: ours."""
_CERTAIN, _UNIFORM = 0.001, 0.97
"""Entropy as a share of the largest possible: labels outside of these bounds teach little."""
_LOW = 0.4
"""Agreement with the labels that is worth a note."""
_HALF = 128
"""Most images on which another way to feed the network is tried."""
_NONE_RIGHT = 8
"""Images of a class without one right answer that are worth a note."""
_PREPARED = (
    ((0.0,), (1.0,)),
    ((0.0,), (255.0,)),
    ((127.5,), (127.5,)),
    ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
)
"""Usual (mean, std): pixels as they are, to 0..1, to -1..1, and that of ImageNet."""


class Verdict(NamedTuple):
    """Judgement of a teacher.

    Attributes:
      probabilities: float32 [n, k], as they would be stored; [0, k] where the outputs allow none.
      notes: Sentences on what is doubtful.
      contradiction: First contradiction, with the line to change; "" if there is none.
    """

    probabilities: np.ndarray
    notes: tuple[str, ...]
    contradiction: str


def judge(
    teacher: Teacher,
    images: Sequence[Image.Image],
    labels: np.ndarray,
    raw: np.ndarray,
    class_names: Sequence[str],
) -> Verdict:
    """Hold the answers of a teacher against its YAML.

    Args:
      teacher: The teacher.
      images: The n images.
      labels: int [n], -1 without a label.
      raw: float64 [n, o], its outputs for them.
      class_names: Names of the classes.

    Returns:
      The judgement.
    """
    notes = [*teacher.backend.doubts, *teacher.outputs.notes]
    contradictions = []
    for contradiction, note in (
        units(teacher.spec) if teacher.backend.takes_reals else ("", ""),
        kind(teacher.spec, raw, teacher.backend.step),
    ):
        contradictions += [contradiction] * bool(contradiction)
        notes += [note] * bool(note)
    try:
        probabilities = teacher.probabilities(raw)
    except ValueError as error:
        contradictions.append(str(error).removeprefix(f"{teacher.text}: "))
        probabilities = np.zeros((0, len(class_names)), np.float32)
    if not contradictions:
        sample = _Sample(teacher, images, labels, probabilities)
        for contradiction, note in (
            _order(teacher, labels, raw, class_names),
            _agreement(sample, class_names),
            _entropy(sample),
        ):
            contradictions += [contradiction] * bool(contradiction)
            notes += [note] * bool(note)
        if not contradictions and (note := _channels(sample)):
            notes.append(note)
    return Verdict(probabilities, tuple(notes), contradictions[0] if contradictions else "")


def units(spec: TeacherSpec) -> tuple[str, str]:
    """Find mean and std that are not in the units of pixels 0..255.

    Args:
      spec: Conventions of the teacher.

    Returns:
      The contradiction, if other units give a usual range, else a note; "" where there is none.
    """
    mean, std = np.broadcast_arrays(np.array(spec.mean), np.array(spec.std))
    # A mean of less than one step of a pixel is none.
    is_share = 0.05 < np.abs(mean).max() < 1
    if (_is_usual(mean, std) and not (is_share and std.min() > 1)) or (
        # Networks that scale pixels themselves, and those of Caffe.
        (std == 1).all() and not is_share
    ):
        return "", ""
    low, high = (0 - mean / std).min(), ((255 - mean) / std).max()
    fed = f"mean and std of its YAML feed it with {low:.4g} to {high:.4g}"
    for factors in ((255, 255), (1, 255), (255, 1), (1 / 255, 1 / 255), (1, 1 / 255)):
        other = mean * factors[0], std * factors[1]
        if _is_usual(*other) and not 0.05 < np.abs(other[0]).max() < 1:
            return f"{fed}; they belong to pixels 0..255: write {_lines(*other)} in its YAML", ""
    return "", f"{fed}; check them: they belong to pixels 0..255"


def kind(spec: TeacherSpec, raw: np.ndarray, step: float = 0.0) -> tuple[str, str]:
    """Compare the kind of the outputs with the declared one.

    Args:
      spec: Conventions of the teacher.
      raw: float64 [n, o], outputs.
      step: Difference of neighbouring values; 0 for real numbers.

    Returns:
      The contradiction and a note; "" where there is none.
    """
    if not np.isfinite(raw).all() or len(raw) < 3:
        return "", ""
    sums = raw.sum(1)
    are_shares = raw.min() >= -1e-3 and raw.max() <= 1.01 + step
    sum_to_one = np.abs(sums - 1).max() <= 0.01 + step * raw.shape[1] / 2
    if not are_shares:
        if spec.output == "logits":
            return "", ""
        return (
            f"its outputs are no probabilities: they lie in {raw.min():.4g}..{raw.max():.4g}; "
            "write `output: logits` in its YAML",
            "",
        )
    seen = f"its outputs lie in {raw.min():.3g}..{raw.max():.3g} and sum to"
    if sum_to_one:
        if spec.output != "logits":
            return "", ""
        return (
            f"{seen} 1: they are probabilities, but its YAML takes them as logits; write "
            "`output: probabilities` in it",
            "",
        )
    seen += f" {sums.min():.3g}..{sums.max():.3g}"
    if spec.output == "probabilities":
        if sums.max() > 1.01 + step * raw.shape[1] / 2:
            return (
                f"{seen}: they are no probabilities of one class; write `output: sigmoid` in its "
                "YAML",
                "",
            )
        return "", f"{seen}; each is divided by the sum"
    if spec.output == "logits":
        doubt = f"{seen}: they look like probabilities of a sigmoid, but are taken as logits"
        is_sure = raw.min() < 0.02 and raw.max() > 0.98 and "output" not in spec.model_fields_set
        if is_sure:
            return f"{doubt}; write `output: sigmoid`, or `output: logits` if they are, in it", ""
        return "", f"{doubt}, and give nearly the same label for every image"
    return "", ""


class _Sample(NamedTuple):
    """The images of a trial with the answers to them."""

    teacher: Teacher
    images: Sequence[Image.Image]
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def known(self) -> np.ndarray:
        return self.labels >= 0

    @property
    def right(self) -> np.ndarray:
        """Whether each answer is the label, bool [n]."""
        return self.probabilities.argmax(1) == self.labels

    @property
    def entropy(self) -> float:
        """Mean entropy as a share of the largest possible."""
        return float(soft.entropy(self.probabilities).mean())

    def otherwise(
        self, images: Callable[[Image.Image], Image.Image] | None = None, **spec: object
    ) -> tuple[_Sample, _Sample]:
        """At most 128 of the images as declared, and with other images or conventions."""
        chosen = slice(_HALF)
        teacher = self.teacher.with_spec(**spec)
        part = _Sample(
            self.teacher, self.images[chosen], self.labels[chosen], self.probabilities[chosen]
        )
        shown = [images(image) for image in part.images] if images else part.images
        return part, part._replace(teacher=teacher, probabilities=teacher(shown))


def _order(
    teacher: Teacher, labels: np.ndarray, raw: np.ndarray, class_names: Sequence[str]
) -> tuple[str, str]:
    kept = teacher.outputs.kept
    # Outputs that are kept by mistake are found among all of them, where those that no class needs
    # take some of the answers.
    answers = np.array(kept)[raw[:, list(kept)].argmax(1)]
    order = better_order(labels, answers, kept, class_names)
    if (order is None or not order.is_sure) and raw.shape[1] > len(kept):
        wider = better_order(labels, raw.argmax(1), kept, class_names)
        if wider and wider.is_sure:
            order, answers = wider, raw.argmax(1)
    if order is None:
        return "", ""
    known = labels >= 0
    now, then = (
        float((np.array(outputs)[labels[known]] == answers[known]).mean())
        for outputs in (kept, order.kept)
    )
    shown = listed([f"{class_names[i]!r} is output {order.kept[i]}" for i in order.moved], 4)
    reason = f" (their order is {order.reason})" if order.reason else ""
    seen = (
        f"agrees with {now:.1%} of {int(known.sum())} labels as its outputs are declared, and with "
        f"{then:.1%} if {shown}{reason}"
    )
    if teacher.outputs.are_named:
        return "", f"{seen}, though the names of its outputs say otherwise"
    if not order.is_sure:
        return "", f"{seen}; check these classes, and the order of its outputs"
    return f"{seen}; {names.cure(order.kept)}", ""


def _agreement(sample: _Sample, class_names: Sequence[str]) -> tuple[str, str]:
    """Low agreement, and the classes without any."""
    known = sample.known
    count = int(known.sum())
    if not count:
        return "", ""
    right, labels = sample.right[known], sample.labels[known]
    share, chance = float(right.mean()), 1 / len(class_names)
    noise = 3 * math.sqrt(chance * (1 - chance) / count)
    seen = f"agrees with {share:.1%} of {count} labels"
    if share < _LOW or share <= min(chance + noise, 0.6):
        if sample.teacher.backend.takes_reals and (line := _other_feed(sample)):
            return f"{seen}; {line}", ""
        by_guessing = f" (by chance: {chance:.1%})"
        order = listed(class_names)
        return "", (
            f"{seen}{by_guessing}; check mean, std, channels, layout and the order of its outputs: "
            f"they are taken as {order}"
        )
    images = np.bincount(labels, minlength=len(class_names))
    hits = np.bincount(labels[right], minlength=len(class_names))
    missed = [
        name
        for name, n, hit in zip(class_names, images, hits, strict=True)
        if n >= _NONE_RIGHT and not hit
    ]
    if missed:
        return "", f"{seen}, but with none of {listed(missed)}"
    return "", ""


def _other_feed(sample: _Sample) -> str:
    """Usual mean and std with which the teacher is clearly right more often."""
    found = []
    for mean, std in _PREPARED:
        now, then = sample.otherwise(mean=mean, std=std)
        evidence = Evidence(now.right, then.right).of(now.known)
        if evidence.is_clear:
            found.append((float(evidence.other.mean()), len(evidence.other), mean, std))
    if not found:
        return ""
    share, count, mean, std = max(found)
    return (
        f"with {share:.1%} of {count} if it is fed otherwise: write "
        f"{_lines(np.array(mean), np.array(std))} in its YAML"
    )


def _entropy(sample: _Sample) -> tuple[str, str]:
    share = sample.entropy
    spec = sample.teacher.spec
    seen = f"the entropy of its labels is {share:.2%} of the largest possible"
    if share > _UNIFORM:
        return "", f"{seen}: nearly the same for every class, so they teach little"
    if share >= _CERTAIN:
        return "", ""
    as_they_are = set(spec.mean) == {0.0} and set(spec.std) == {1.0}
    if as_they_are and sample.teacher.backend.takes_reals and sample.known.any():
        now, then = sample.otherwise(std=(255.0,))
        known = now.known
        losses = (now.right & ~then.right)[known].sum()
        if _CERTAIN <= then.entropy <= _UNIFORM and not losses:
            return (
                f"{seen}, with pixels / 255 it is {then.entropy:.2%} at the same agreement: write "
                "`std: [255]` in its YAML",
                "",
            )
    return "", f"{seen}: nearly one class for each image, so they teach little more than labels"


def _channels(sample: _Sample) -> str:
    """The note that the teacher is clearly better with red and blue exchanged."""
    if all((np.asarray(i)[..., 0] == np.asarray(i)[..., 2]).all() for i in sample.images[:_HALF]):
        return ""
    now, then = sample.otherwise(images=_exchanged)
    known = now.known
    if known.any():
        wins, losses = (
            int((a.right & ~b.right)[known].sum()) for a, b in ((then, now), (now, then))
        )
        is_clear = by_chance(wins, losses) < CHANCE and wins - losses > 0.1 * known.sum()
        seen = f"agrees with {now.right[known].mean():.1%} of {int(known.sum())} labels, and with "
        seen += f"{then.right[known].mean():.1%}"
    else:
        sure = [part.probabilities.max(1) for part in (now, then)]
        wins = int((sure[1] > sure[0]).sum())
        gain = float((sure[1] - sure[0]).mean())
        is_clear = by_chance(wins, len(sure[0]) - wins) < CHANCE and gain > 0.1
        seen = f"its mean largest probability is {sure[0].mean():.3f}, and {sure[1].mean():.3f}"
    if not is_clear:
        return ""
    other = "rgb" if sample.teacher.spec.channels == "bgr" else "bgr"
    return f"{seen} with red and blue exchanged; if so, write `channels: {other}` in its YAML"


def _exchanged(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(np.asarray(image)[..., ::-1]))


def _is_usual(mean: np.ndarray, std: np.ndarray) -> bool:
    ends = np.stack([-mean / std, (255 - mean) / std])
    return bool(np.abs(ends).max() <= _LARGEST and (255 / std).min() >= _NARROWEST)


def _lines(mean: np.ndarray, std: np.ndarray) -> str:
    """Both lines of YAML; equal numbers are written once."""
    texts = []
    for name, values in (("mean", mean), ("std", std)):
        shown = list(dict.fromkeys(f"{value:.6g}" for value in values.tolist()))
        shown = shown if len(shown) == 1 else [f"{value:.6g}" for value in values.tolist()]
        texts.append(f"`{name}: [{', '.join(shown)}]`")
    return " and ".join(texts)
