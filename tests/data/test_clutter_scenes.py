"""Scenes in closed form, and draws that never change."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nas.data import clutter_scenes, fashion_clutter


def quiet_draws(background: float = 0.0) -> clutter_scenes.SceneDraws:
    """One scene: invisible patches, negligible noise, the item unchanged in the top left corner."""
    return clutter_scenes.SceneDraws(
        background=np.full((1, 3), background, np.float32),
        patch_item=np.zeros((1, 4), np.int64),
        patch_side=np.full((1, 4), 8),
        patch_source=np.zeros((1, 4, 2), np.int64),
        patch_target=np.zeros((1, 4, 2), np.int64),
        patch_tint=np.zeros((1, 4, 3), np.float32),
        scale=np.ones(1, np.float32),
        angle=np.zeros(1, np.float32),
        position=np.zeros((1, 2), np.float32),
        tint=np.ones((1, 3), np.float32),
        offset=np.zeros((1, 3), np.float32),
        noise=np.full((1, 3, 32, 32), 32768, np.uint16),
    )


def compose(items: np.ndarray, draws: clutter_scenes.SceneDraws, shown: int = 0) -> np.ndarray:
    return clutter_scenes.compose(
        np.pad(items, ((0, 0), (1, 1), (1, 1))), np.array([shown]), draws
    )[0].astype(int)


def test_identity_placement_blends_the_item_pixel_by_pixel(items: np.ndarray) -> None:
    tint, offset = np.array([1.0, 0.75, 0.5]), np.array([0.0, 10.0, 40.0])
    draws = quiet_draws(100.0)._replace(
        position=np.array([[2, 3]], np.float32),
        tint=tint[None].astype(np.float32),
        offset=offset[None].astype(np.float32),
    )
    grey = items[0, :, :, None].astype(float)
    expected = np.full((32, 32, 3), 100.0)
    expected[2:30, 3:31] = np.where(grey > 20, 0.1 * 100 + 0.9 * (tint * grey + offset), 100)
    assert (
        np.abs(compose(items, draws) - expected.clip(0, 255)).max() <= 0.501
    )  # rounding, and no noise to speak of


def test_quarter_turn_is_anticlockwise(items: np.ndarray) -> None:
    draws = quiet_draws()._replace(
        angle=np.array([math.pi / 2], np.float32), position=np.array([[4, 4]], np.float32)
    )
    turned = np.rot90(items[0]).astype(float)
    expected = np.where(turned > 20, 0.9 * turned, 0)
    found = compose(items, draws)[4:, 4:, 0]
    sure = (
        np.abs(turned - 20.5) > 1
    )  # a last bit decides on which side of the threshold the others fall
    assert np.abs(found - expected)[sure].max() <= 0.501


def test_scaled_item_keeps_its_grey_inside_its_box() -> None:
    draws = quiet_draws()._replace(
        scale=np.array([0.75], np.float32), position=np.array([[5, 7]], np.float32)
    )
    found = compose(np.full((2, 28, 28), 200, np.uint8), draws)[..., 1]
    expected = np.zeros((32, 32))
    expected[5:26, 7:28] = 180
    assert (found == expected).all()


def test_patches_are_tinted_and_joined_by_maximum() -> None:
    items = np.stack(
        [np.zeros((28, 28)), np.full((28, 28), 100), np.arange(784).reshape(28, 28) % 251]
    ).astype(np.uint8)
    draws = quiet_draws(30.0)._replace(
        patch_item=np.array([[1, 2, 1, 1]]),
        patch_side=np.array([[8, 13, 8, 8]]),
        patch_source=np.array([[[0, 0], [15, 15], [0, 0], [0, 0]]]),
        patch_target=np.array([[[0, 0], [19, 19], [4, 4], [0, 0]]]),
        patch_tint=np.array([[[1, 0.5, 0.3], [1, 1, 1], [0.8, 0.8, 0.8], [0, 0, 0]]], np.float32),
    )
    expected = np.full((32, 32, 3), 30.0)
    expected[4:12, 4:12] = 80
    expected[:8, :8] = np.maximum(expected[:8, :8], [100, 50, 30])
    expected[19:32, 19:32] = np.maximum(30, items[2, 15:, 15:, None])
    assert (compose(items, draws) == expected).all()


def test_noise_is_gaussian_with_the_stated_deviation() -> None:
    values = clutter_scenes._noise_values().astype(float)
    assert len(values) == 65536 and (np.diff(values) > 0).all()
    assert values.mean() == pytest.approx(0, abs=1e-9)
    assert values.std() == pytest.approx(12, rel=1e-3)
    assert (np.abs(values) < 12).mean() == pytest.approx(math.erf(math.sqrt(0.5)), abs=1e-4)


def test_scene_values_are_clipped(items: np.ndarray) -> None:
    loud = quiet_draws()._replace(
        noise=np.full((1, 3, 32, 32), 65535, np.uint16), offset=np.full((1, 3), 40, np.float32)
    )
    assert compose(np.full_like(items, 255), loud).max() == 255
    still = quiet_draws()._replace(noise=np.zeros((1, 3, 32, 32), np.uint16))
    assert compose(np.zeros_like(items), still).max() == 0


def test_draws_stay_in_the_ranges_of_the_recipe() -> None:
    shown = np.arange(600) % 5
    draws = clutter_scenes.draw(fashion_clutter.scene_seeds("train", 600), shown, 5)
    for values, low, high in (
        (draws.background, 0, 120),
        (draws.patch_tint, 0.3, 1),
        (draws.scale, 0.6, 1),
        (np.degrees(draws.angle), -25, 25),
        (draws.tint, 0.5, 1),
        (draws.offset, 0, 40),
    ):
        margin = 0.05 * (high - low)
        assert low <= values.min() < low + margin and high - margin < values.max() <= high + 1e-5
    assert set(draws.patch_side.ravel()) == set(range(8, 14))
    assert (draws.patch_item != shown[:, None]).all() and set(draws.patch_item.ravel()) == set(
        range(5)
    )
    for corner, size in ((draws.patch_source, 28), (draws.patch_target, 32)):
        free = size - (corner + draws.patch_side[..., None])
        assert corner.min() == 0 and free.min() == 0
    free = 32 - (draws.position + 28 * draws.scale[:, None])
    assert 0 <= draws.position.min() < 0.5 and -1e-5 <= free.min() < 0.5


GOLDEN_PATCH_ITEM = [499, 1949, 1780, 744]


GOLDEN_PATCH_TARGET = [[18, 8], [9, 17], [15, 15], [16, 12]]


GOLDEN_NOISE = [9896, 28307, 62380, 16735]


GOLDEN_BACKGROUND = [10.6408, 62.13793, 13.67141]


def test_draws_do_not_change_between_versions() -> None:
    """Stored soft labels belong to these draws.

    Source: computed by us, NumPy 2.4.6, x86-64; raw words, so exact.
    """
    draws = clutter_scenes.draw(
        fashion_clutter.scene_seeds("validation", 8)[7:], np.array([0]), 2000
    )
    assert draws.patch_item.tolist() == [GOLDEN_PATCH_ITEM]
    assert draws.patch_target.tolist() == [GOLDEN_PATCH_TARGET]
    assert draws.noise[0, 2, 31, 28:].tolist() == GOLDEN_NOISE
    assert draws.background[0].tolist() == pytest.approx(GOLDEN_BACKGROUND, rel=1e-6)


def test_a_scene_depends_on_its_own_seed_only(items: np.ndarray) -> None:
    shown, seeds = np.arange(10), fashion_clutter.scene_seeds("train", 10)
    images = clutter_scenes.render(items, shown, seeds)
    assert images.shape == (10, 32, 32, 3) and images.dtype == np.uint8
    assert (clutter_scenes.render(items, shown, seeds, chunk=3) == images).all()
    order = np.array([7, 2, 7])
    assert (clutter_scenes.render(items, shown[order], seeds[order]) == images[order]).all()
    for split, seed in (("validation", 0), ("train", 1)):
        other = clutter_scenes.render(items, shown, fashion_clutter.scene_seeds(split, 10, seed))
        assert (other != images).mean() > 0.9


def test_render_of_no_scenes_is_empty(items: np.ndarray) -> None:
    assert clutter_scenes.render(items, np.zeros(0, int), np.zeros((0, 3), int)).shape == (
        0,
        32,
        32,
        3,
    )


@pytest.mark.parametrize(
    ("shape", "shown", "seeds", "message"),
    [
        ((1, 28, 28), [0], [[0, 0, 0]], r"items: got uint8 with shape \(1, 28, 28\), .*m >= 2"),
        ((3, 32, 32), [0], [[0, 0, 0]], r"items: .*\(3, 32, 32\)"),
        ((3, 28, 28), [0, 1], [[0, 0, 0]], r"seeds: got shape \(1, 3\) for shown of shape \(2,\)"),
        ((3, 28, 28), [3], [[0, 0, 0]], r"shown: got 3\.\.3, expected 0\.\.2"),
        ((3, 28, 28), [0], [[2**32, 0, 0]], r"seeds: got 0\.\.4294967296"),
        ((3, 28, 28), [0], [[0, 0, -1]], r"seeds: got -1\.\.0"),
    ],
)
def test_render_errors(
    shape: tuple[int, ...], shown: list[int], seeds: list[list[int]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        clutter_scenes.render(np.zeros(shape, np.uint8), np.array(shown), np.array(seeds))
