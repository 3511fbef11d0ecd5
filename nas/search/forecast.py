"""What a search would take on accelerators: counted from its largest network, not measured.

    seconds an image = sum over operations of max(2 MACs / peak, bytes / bandwidth) + bytes of norms / bandwidth

That of a forward pass; training takes three of them (forward, gradient of the input, gradient of the kernel). A norm
reads what it normalises twice and writes it, which cannot be one pass with the convolution that makes it.
"""

from __future__ import annotations

import dataclasses
import math
import re

import search_spaces
from nas.search.planning import Plan
from search_spaces import ArchSpec

UTILISATION = 0.43
"""Share of this roofline that was reached in public: MobileNetV4-Conv-L, 384 px, 400 epochs of ImageNet (1,281,167
images) at batch 16k took 2.3 h on 128 TPU v5e (arXiv 2404.10518 v2, appendix H); counted here 0.98 h at 1."""

_TRAINED = 3
_NORM_PASSES = 2  # outputs that a norm moves beside what is counted already: read for statistics, written
_OPTIMISER_WORDS = 4  # parameter, gradient, and two of the optimiser, float32


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """A chip.

    Attributes:
      peak_flops: a second, in bfloat16.
      bandwidth: of its memory, bytes a second.
      memory: bytes.
      dollars_an_hour: list price of one on demand, None: not known here.
      source: of all these.
    """

    peak_flops: float
    bandwidth: float
    memory: float
    dollars_an_hour: float | None
    source: str


ACCELERATORS = {
    "tpu-v5e": Accelerator(197e12, 819e9, 16e9, 1.2, "Google Cloud's TPU v5e page; list price us-central1, 2024"),
    "tpu-v4": Accelerator(275e12, 1228e9, 32e9, 3.22, "Google Cloud's TPU v4 page; list price us-central2, 2024"),
    "a100": Accelerator(312e12, 2039e9, 80e9, None, "NVIDIA A100 80GB SXM data sheet, dense"),
    "h100": Accelerator(989e12, 3350e9, 80e9, None, "NVIDIA H100 SXM data sheet, dense"),
}


@dataclasses.dataclass(frozen=True)
class Machine:
    """Some chips of one kind, and the share of their roofline that is reached."""

    name: str
    count: int
    utilisation: float = UTILISATION

    @property
    def chip(self) -> Accelerator:
        """What one of them can do."""
        return ACCELERATORS[self.name]


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a stage would take.

    Attributes:
      steps: of the search.
      hours: of all of them.
      chip_hours: times chips.
      dollars: at the list price, None where that is not known.
      bytes_a_chip: parameters, optimiser and activations of the largest network.
    """

    steps: int
    hours: float
    chip_hours: float
    dollars: float | None
    bytes_a_chip: float


def parse_machine(text: str) -> Machine:
    """Parse "name:count[@utilisation]", e.g. "tpu-v5e:128@0.43". Raises ValueError."""
    match = re.fullmatch(r"([a-z0-9-]+):(\d+)(?:@([0-9.]+))?", text.strip())
    known = ", ".join(ACCELERATORS)
    if not match or match[1] not in ACCELERATORS or int(match[2]) < 1:
        raise ValueError(f"--plan {text!r}: expected NAME:COUNT[@UTILISATION], e.g. tpu-v5e:128; known: {known}")
    share = float(match[3]) if match[3] else UTILISATION
    if not 0 < share <= 1:
        raise ValueError(f"--plan {text!r}: got a utilisation of {share:g}, expected above 0, at most 1")
    return Machine(match[1], int(match[2]), share)


def seconds_an_image(spec: ArchSpec, chip: Accelerator, element_bytes: int = 2) -> float:
    """Of one forward pass of a network on one chip at utilisation 1."""
    total = 0.0
    for op in search_spaces.lower(spec):
        traffic = element_bytes * (op.input.elements + op.output.elements)
        norm = element_bytes * _NORM_PASSES * op.output.elements if op.norm else 0.0
        total += max(2 * op.macs / chip.peak_flops, traffic / chip.bandwidth) + norm / chip.bandwidth
    return total


def forecast(plan: Plan, machine: Machine) -> Forecast:
    """What a stage would take on a machine: steps of its configuration, each at the cost of its largest network.

    Raises:
      ValueError: more chips than replicas, or chips that do not share them evenly.
    """
    search, chip = plan.config.search, machine.chip
    if search.replicas % machine.count:
        raise ValueError(
            f"--plan: {machine.count} chips share the replicas evenly, got search.replicas {search.replicas}; "
            f"use {math.ceil(search.replicas / machine.count) * machine.count}"
        )
    spec = search_spaces.freeze(plan.space, [d.largest for d in plan.space.decisions], "largest")
    element_bytes = 2 if plan.config.weights.precision == "bfloat16" else 4
    images = _TRAINED * search.batch + search.validation_batch
    steps = search.steps.of(plan.stage)
    slots = search.replicas // machine.count
    seconds = steps * slots * images * seconds_an_image(spec, chip, element_bytes) / machine.utilisation
    hours = seconds / 3600
    chip_hours = hours * machine.count
    dollars = None if chip.dollars_an_hour is None else chip_hours * chip.dollars_an_hour
    kept = sum(op.output.elements for op in search_spaces.lower(spec))
    weights = search_spaces.params(spec) * 4 * _OPTIMISER_WORDS
    return Forecast(steps, hours, chip_hours, dollars, weights + kept * element_bytes * search.batch)


def text(plan: Plan, machine: Machine) -> str:
    """The forecast, for people."""
    found, chip = forecast(plan, machine), machine.chip
    images = found.steps * plan.config.search.replicas * plan.config.search.batch
    epochs = images / len(plan.dataset.train)
    money = "" if found.dollars is None else f", {found.dollars:,.0f} dollars at the list price"
    full = found.bytes_a_chip / chip.memory
    return (
        f"on {machine.count} x {machine.name} at {machine.utilisation:.0%} of their roofline (counted, not measured): "
        f"{found.steps:,} steps, {images:,} training images ({epochs:,.1f} epochs), {found.hours:,.2f} h, "
        f"{found.chip_hours:,.0f} chip hours{money}; "
        f"{found.bytes_a_chip / 1e9:.1f} of {chip.memory / 1e9:.0f} GB a chip"
        + ("" if full <= 1 else ": too much; use a smaller search.batch")
    )
