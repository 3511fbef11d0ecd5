"""Forecast of a search's time and cost on accelerators, counted from its largest network.

    seconds per image = sum over operations of max(2 MACs / peak, bytes / bandwidth)
                        + bytes of norms / bandwidth

This is a forward pass. Training takes three of them: forward, gradient of the input, gradient of
the kernel. A norm reads its input twice and writes it, which cannot be one pass with the
convolution before it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import TYPE_CHECKING

import search_spaces
from search_spaces import ArchSpec
from search_spaces.naming import did_you_mean

if TYPE_CHECKING:  # loads JAX
    from nas.engine.planning import Plan

UTILISATION = 0.43
"""Share of this roofline that was reached in public.

MobileNetV4-Conv-L, 384 px, 400 epochs of ImageNet (1,281,167 images) at batch 16k took 2.3 h on
128 TPU v5e (arXiv 2404.10518 v2, appendix H); counted here 0.98 h at 1.
"""

_FORWARD_PASSES = 3  # that training an image takes
_NORM_PASSES = 2  # over a norm's output beside the counted one: read for statistics, written
_OPTIMISER_WORDS = 4  # parameter, gradient, and two of the optimiser, float32


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """A chip.

    Attributes:
      peak_flops: Operations per second in bfloat16; a multiply-accumulate is two.
      bandwidth: Memory bandwidth in bytes per second.
      memory: Memory in bytes.
      dollars_an_hour: On-demand list price of one chip; None: not known.
      source: Origin of these numbers.
    """

    peak_flops: float
    bandwidth: float
    memory: float
    dollars_an_hour: float | None
    source: str


ACCELERATORS = {
    "tpu-v5e": Accelerator(
        197e12, 819e9, 16e9, 1.2, "Google Cloud's TPU v5e page; list price us-central1, 2024"
    ),
    "tpu-v4": Accelerator(
        275e12, 1228e9, 32e9, 3.22, "Google Cloud's TPU v4 page; list price us-central2, 2024"
    ),
    "a100": Accelerator(312e12, 2039e9, 80e9, None, "NVIDIA A100 80GB SXM data sheet, dense"),
    "h100": Accelerator(989e12, 3350e9, 80e9, None, "NVIDIA H100 SXM data sheet, dense"),
}
"""Known chips by name."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """Some chips of one kind.

    Attributes:
      name: Name of the chip, a key of `ACCELERATORS`.
      count: Number of chips.
      utilisation: Share of their roofline that is reached.
    """

    name: str
    count: int
    utilisation: float = UTILISATION

    @property
    def chip(self) -> Accelerator:
        """Peak numbers of one chip."""
        return ACCELERATORS[self.name]


@dataclasses.dataclass(frozen=True)
class Forecast:
    """Expected time and cost of a stage.

    Attributes:
      steps: Steps of the search.
      hours: Duration in hours.
      chip_hours: Duration in hours times the number of chips.
      dollars: Cost at the list price; None where the price is not known.
      bytes_a_chip: Parameters, optimiser and activations of the largest network, in bytes.
    """

    steps: int
    hours: float
    chip_hours: float
    dollars: float | None
    bytes_a_chip: float


def parse_machine(text: str) -> Machine:
    """Parse "name:count[@utilisation]", e.g. "tpu-v5e:128@0.43".

    Args:
      text: Chips as a person writes them.

    Returns:
      The machine.

    Raises:
      ValueError: Malformed, or an unknown chip.
    """
    match = re.fullmatch(r"([a-z0-9-]+):(\d+)(?:@([0-9.]+))?", text.strip())
    if not match or match[1] not in ACCELERATORS or int(match[2]) < 1:
        hint = did_you_mean(match[1], ACCELERATORS) if match else ""
        raise ValueError(
            f"`plan` {text!r}: expected NAME:COUNT[@UTILISATION], e.g. tpu-v5e:128; "
            f"known: {', '.join(ACCELERATORS)}{hint}"
        )
    share = float(match[3]) if match[3] else UTILISATION
    if not 0 < share <= 1:
        raise ValueError(
            f"`plan` {text!r}: got a utilisation of {share:g}, expected above 0, at most 1"
        )
    return Machine(match[1], int(match[2]), share)


def seconds_an_image(spec: ArchSpec, chip: Accelerator, element_bytes: int = 2) -> float:
    """Seconds of one forward pass of a network on one chip at utilisation 1.

    Args:
      spec: Network without choices.
      chip: The chip.
      element_bytes: Bytes of a value.

    Returns:
      Seconds.
    """
    total = 0.0
    for op in search_spaces.lower(spec):
        traffic = element_bytes * (op.input.elements + op.output.elements)
        norm = element_bytes * _NORM_PASSES * op.output.elements if op.norm else 0.0
        arithmetic = 2 * op.macs / chip.peak_flops
        total += max(arithmetic, traffic / chip.bandwidth) + norm / chip.bandwidth
    return total


def forecast(plan: Plan, machine: Machine) -> Forecast:
    """Forecast a stage: the steps of its configuration, each at the cost of its largest network.

    Args:
      plan: Plan of the stage.
      machine: The chips.

    Returns:
      The forecast.

    Raises:
      ValueError: More chips than replicas, or chips that do not share them evenly.
    """
    search, chip = plan.config.search, machine.chip
    if search.replicas % machine.count:
        raise ValueError(
            f"`plan`: {machine.count} chips share the replicas evenly, got search.replicas "
            f"{search.replicas}; use {math.ceil(search.replicas / machine.count) * machine.count}"
        )
    spec = search_spaces.freeze(plan.space, [d.largest for d in plan.space.decisions], "largest")
    element_bytes = 2 if plan.config.weights.precision == "bfloat16" else 4
    images = _FORWARD_PASSES * search.batch + search.validation_batch
    steps = search.steps.of(plan.stage)
    slots = search.replicas // machine.count
    seconds = (
        steps * slots * images * seconds_an_image(spec, chip, element_bytes) / machine.utilisation
    )
    hours = seconds / 3600
    chip_hours = hours * machine.count
    dollars = None if chip.dollars_an_hour is None else chip_hours * chip.dollars_an_hour
    elements = sum(op.output.elements for op in search_spaces.lower(spec))
    activations = elements * element_bytes * search.batch
    weights = search_spaces.params(spec) * 4 * _OPTIMISER_WORDS
    return Forecast(steps, hours, chip_hours, dollars, weights + activations)


def text(plan: Plan, machine: Machine) -> str:
    """The forecast of a stage in one line.

    Args:
      plan: Plan of the stage.
      machine: The chips.

    Returns:
      The line.

    Raises:
      ValueError: See `forecast`.
    """
    expected, chip = forecast(plan, machine), machine.chip
    images = expected.steps * plan.config.search.replicas * plan.config.search.batch
    epochs = images / len(plan.dataset.train)
    dollars = expected.dollars
    price = "" if dollars is None else f", {dollars:,.0f} dollars at the list price"
    too_large = expected.bytes_a_chip > chip.memory
    return (
        f"on {machine.count} x {machine.name} at {machine.utilisation:.0%} of their roofline "
        f"(counted, not measured): {expected.steps:,} steps, {images:,} training images "
        f"({epochs:,.1f} epochs), {expected.hours:,.2f} h, "
        f"{expected.chip_hours:,.0f} chip hours{price}; "
        f"{expected.bytes_a_chip / 1e9:.1f} of {chip.memory / 1e9:.0f} GB a chip"
        + (": too much; use a smaller search.batch" if too_large else "")
    )
