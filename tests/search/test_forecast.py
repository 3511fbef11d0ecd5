"""Forecasts against closed forms, and against the one public figure."""

from __future__ import annotations

import dataclasses
import pathlib
import re

import pytest

import search_spaces
from nas.engine import forecast, planning
from nas.run.config import RunConfig
from search_spaces import ArchSpec, yaml_io

SPEC = """
name: one
resolution: 4
blocks:
- {kind: conv, filters: 8, kernel: 1}
- {kind: pool}
- {kind: classifier, classes: 2}
"""
CHIP = forecast.Accelerator(1e9, 1e6, 1e6, None, "a test")


def test_by_hand() -> None:
    """16 pixels, 3 to 8 channels: 384 MACs, 176 elements, a norm of 128; mean 128 to 8; 8 to 2."""
    spec = yaml_io.parse_model(SPEC, ArchSpec, "one")
    elements = (48 + 128) + 2 * 128 + (128 + 8) + (8 + 2)
    assert forecast.seconds_an_image(spec, CHIP) == pytest.approx(2 * elements / 1e6)
    # Now layers with weights are bound by arithmetic.
    slow = dataclasses.replace(CHIP, peak_flops=1e3)
    expected = 2 * 384 / 1e3 + 2 * 2 * 128 / 1e6 + 2 * 136 / 1e6 + 2 * 16 / 1e3
    assert forecast.seconds_an_image(spec, slow) == pytest.approx(expected)


def test_the_public_figure() -> None:
    """Conv-L, 400 epochs of ImageNet in 2.3 h on 128 TPU v5e: source of the default utilisation."""
    seconds = forecast.seconds_an_image(
        search_spaces.zoo("mnv4-conv-l"), forecast.ACCELERATORS["tpu-v5e"]
    )
    hours = 400 * 1_281_167 * 3 * seconds / 128 / 3600
    assert hours == pytest.approx(0.98, abs=0.01)
    assert hours / forecast.UTILISATION == pytest.approx(2.3, rel=0.02)


def test_of_a_plan(tiny_recipe: pathlib.Path, tmp_path: pathlib.Path) -> None:
    plan = planning.plan("coarse", yaml_io.load_model(tiny_recipe, RunConfig), tmp_path)
    one, two = (
        forecast.forecast(plan, forecast.parse_machine(f"tpu-v5e:{count}@0.5")) for count in (1, 2)
    )
    largest = search_spaces.freeze(plan.space, [d.largest for d in plan.space.decisions])
    images = 3 * 4 + 8  # trained and scored, of each of two replicas
    an_image = forecast.seconds_an_image(largest, forecast.ACCELERATORS["tpu-v5e"], 4)
    seconds = 60 * 2 * images * an_image / 0.5
    assert one.hours == pytest.approx(seconds / 3600) and two.hours == pytest.approx(one.hours / 2)
    assert one.chip_hours == pytest.approx(two.chip_hours)
    assert one.dollars == pytest.approx(1.2 * one.chip_hours)
    text = forecast.text(plan, forecast.parse_machine("h100:2"))
    assert f"60 steps, {60 * 2 * 4} training images ({60 * 8 / 48:.1f} epochs)" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tpu-v5e", "expected NAME:COUNT[@UTILISATION]"),
        (
            "tpu-v9:4",
            "`plan` 'tpu-v9:4': expected NAME:COUNT[@UTILISATION], e.g. tpu-v5e:128; known:",
        ),
        ("tpu-v6:4", "did you mean 'tpu-v"),
        ("tpu-v5e:0", "expected NAME:COUNT"),
        ("tpu-v5e:4@2", "got a utilisation of 2"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        forecast.parse_machine(text)


def test_chips_that_do_not_share_the_replicas(
    tiny_recipe: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    plan = planning.plan("coarse", yaml_io.load_model(tiny_recipe, RunConfig), tmp_path)
    with pytest.raises(
        ValueError, match=r"3 chips share the replicas evenly, got search.replicas 2; use 3"
    ):
        forecast.forecast(plan, forecast.parse_machine("a100:3"))
