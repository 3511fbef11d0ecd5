"""Scenes: items scaled, rotated and tinted among patches of other items, replayed from seeds.

The recipe of "fashion in clutter"; `nas.data.fashion_clutter` has the items and the seeds. Letters:
m items, n scenes.
"""

from __future__ import annotations

import functools
import statistics
from typing import NamedTuple

import numpy as np

ITEM_SIDE = 28
SCENE_SIDE = 32
CHANNELS = 3
_PIXELS = SCENE_SIDE * SCENE_SIDE

# The recipe. Source: ours, measured against plain Fashion-MNIST; the numbers are chosen, not
# fitted.
_BACKGROUND_MAX = 120.0
_PATCHES = 4
_PATCH_SIDES = (8, 13)
_PATCH_TINTS = (0.3, 1.0)
_SCALES = (0.6, 1.0)
_ANGLE_MAX_DEGREES = 25.0
_OPACITY = 0.9
_VISIBLE_ABOVE = 20.0
_TINTS = (0.5, 1.0)
_OFFSET_MAX = 40.0
_NOISE_STD = 12.0

# Layout of the 64-bit words drawn for a scene: one word per uniform number, then four 16-bit noise
# samples per word.
_PATCH_WORDS = 9
_UNIFORM_WORDS = CHANNELS + _PATCHES * _PATCH_WORDS + 4 + 2 * CHANNELS
_NOISE_WORDS = CHANNELS * _PIXELS // 4
WORDS = _UNIFORM_WORDS + _NOISE_WORDS


class SceneDraws(NamedTuple):
    """Random draws of n scenes; positions are (row, column) in pixels from the top left corner.

    Attributes:
      background: float32 [n, 3], 0..120.
      patch_item: int64 [n, 4], index into the items, never the item shown.
      patch_side: int64 [n, 4], 8..13.
      patch_source: int64 [n, 4, 2], corner of the patch in its item.
      patch_target: int64 [n, 4, 2], corner of the patch in the scene.
      patch_tint: float32 [n, 4, 3], 0.3..1.
      scale: float32 [n], 0.6..1.
      angle: float32 [n], radians, anticlockwise.
      position: float32 [n, 2], corner of the item's upright box, which lies inside the scene.
      tint: float32 [n, 3], 0.5..1.
      offset: float32 [n, 3], 0..40.
      noise: uint16 [n, 3, 32, 32], indices into the 65,536 equally probable noise values, planar
        (channel, row, column).
    """

    background: np.ndarray
    patch_item: np.ndarray
    patch_side: np.ndarray
    patch_source: np.ndarray
    patch_target: np.ndarray
    patch_tint: np.ndarray
    scale: np.ndarray
    angle: np.ndarray
    position: np.ndarray
    tint: np.ndarray
    offset: np.ndarray
    noise: np.ndarray


def render(items: np.ndarray, shown: np.ndarray, seeds: np.ndarray, chunk: int = 128) -> np.ndarray:
    """Render scenes of items among clutter; scene i depends on items, shown[i] and seeds[i] only.

    Four square patches of other items lie on a background of one colour. The item is drawn over
    them, and Gaussian noise is added (in 65,536 equally probable values, at most 4.3 standard
    deviations). See `draw` and `compose`.

    Args:
      items: uint8 [m, 28, 28], all items of one split, at least two: the items shown, and those
        from which clutter is cut.
      shown: int [n], index of the item that each scene shows.
      seeds: int [n, 3], each 0..2**32 - 1; see `nas.data.fashion_clutter.scene_seeds`.
      chunk: Number of scenes rendered at a time; changes speed and memory, never the result.

    Returns:
      uint8 [n, 32, 32, 3].

    Raises:
      ValueError: Shapes or ranges do not fit.

    Source: ours; the manifest states the recipe.
    """
    _check_render(items, shown, seeds)
    # A border of one dark pixel, which bilinear sampling reads outside an item.
    padded = np.pad(items, ((0, 0), (1, 1), (1, 1)))
    images = np.empty((len(shown), SCENE_SIDE, SCENE_SIDE, CHANNELS), np.uint8)
    for start in range(0, len(shown), chunk):
        scenes = slice(start, start + chunk)
        draws = draw(seeds[scenes], shown[scenes], len(items))
        images[scenes] = compose(padded, shown[scenes], draws)
    return images


def draw(seeds: np.ndarray, shown: np.ndarray, item_count: int) -> SceneDraws:
    """Draw the random numbers of n scenes, each from its own generator.

    Only raw generator words are used: NumPy keeps those stable between versions, while it may
    change what `Generator` derives from them (NEP 19). The stored soft labels belong to exact
    scenes and would become wrong unnoticed.

    Args:
      seeds: int [n, 3].
      shown: int [n], index of the item that each scene shows, which clutter avoids.
      item_count: Number of items m from which clutter is cut.

    Returns:
      The draws.

    Source: ours.
    """
    count = len(seeds)
    # Little-endian words, so that the 16-bit noise samples come in the same order everywhere.
    words = np.empty((count, WORDS), "<u8")
    for row, seed in enumerate(seeds.tolist()):
        words[row] = np.random.PCG64DXSM(np.random.SeedSequence(seed)).random_raw(WORDS)
    uniforms = (words[:, :_UNIFORM_WORDS] >> np.uint64(11)) * 2.0**-53
    background, patches, item = np.split(
        uniforms, [CHANNELS, CHANNELS + _PATCHES * _PATCH_WORDS], axis=1
    )
    patches = patches.reshape(count, _PATCHES, _PATCH_WORDS)
    patch_item = _integers(patches[..., 0], item_count - 1)
    patch_side = _PATCH_SIDES[0] + _integers(patches[..., 1], _PATCH_SIDES[1] - _PATCH_SIDES[0] + 1)
    scale = _between(item[:, 0], _SCALES)
    # The item's box has to fit, so the room to move is what the scaled item leaves free.
    room = SCENE_SIDE - ITEM_SIDE * scale
    return SceneDraws(
        background=_between(background, (0.0, _BACKGROUND_MAX)),
        patch_item=patch_item + (patch_item >= shown[:, None]),
        patch_side=patch_side,
        patch_source=_integers(patches[..., 2:4], ITEM_SIDE - patch_side[..., None] + 1),
        patch_target=_integers(patches[..., 4:6], SCENE_SIDE - patch_side[..., None] + 1),
        patch_tint=_between(patches[..., 6:9], _PATCH_TINTS),
        scale=scale,
        angle=np.radians(_between(item[:, 1], (-_ANGLE_MAX_DEGREES, _ANGLE_MAX_DEGREES))),
        position=(item[:, 2:4] * room[:, None]).astype(np.float32),
        tint=_between(item[:, 4:7], _TINTS),
        offset=_between(item[:, 7:10], (0.0, _OFFSET_MAX)),
        noise=words[:, _UNIFORM_WORDS:]
        .view("<u2")
        .reshape(count, CHANNELS, SCENE_SIDE, SCENE_SIDE),
    )


def compose(padded: np.ndarray, shown: np.ndarray, draws: SceneDraws) -> np.ndarray:
    """Compose scenes from given draws.

    scene = max(background, patch tint * patch)
    scene = 0.1 scene + 0.9 (tint * item + offset) where item > 20
    scene = clip(round(scene + noise), 0, 255)

    Args:
      padded: uint8 [m, 30, 30], items with a border of one zero pixel.
      shown: int [n], index of the item that each scene shows.
      draws: Random draws of the n scenes.

    Returns:
      uint8 [n, 32, 32, 3].

    Source: ours.
    """
    count = len(shown)
    # Planar [n, 3, 1024] until the end: NumPy is several times slower when its innermost axis has
    # length 3.
    scene = np.repeat(draws.background[:, :, None], _PIXELS, axis=2)
    for patch in range(_PATCHES):
        layer = _patch_layer(padded, draws, patch)
        np.maximum(scene, draws.patch_tint[:, patch, :, None] * layer[:, None, :], out=scene)
    item = _placed_item(padded, shown, draws)
    opacity = np.where(item > _VISIBLE_ABOVE, np.float32(_OPACITY), np.float32(0))[:, None, :]
    colour = draws.tint[:, :, None] * item[:, None, :]
    colour += draws.offset[:, :, None]
    colour -= scene
    colour *= opacity
    scene += colour
    scene += _noise_values()[draws.noise.reshape(count, CHANNELS, _PIXELS)]
    np.rint(scene, out=scene)
    np.clip(scene, 0, 255, out=scene)
    planar = scene.astype(np.uint8).reshape(count, CHANNELS, SCENE_SIDE, SCENE_SIDE)
    return planar.transpose(0, 2, 3, 1)


def _patch_layer(padded: np.ndarray, draws: SceneDraws, patch: int) -> np.ndarray:
    """Grey values of one patch on an otherwise black scene: float32 [n, 1024]."""
    side = draws.patch_side[:, patch, None, None]
    step = np.arange(_PATCH_SIDES[1])
    scene, row, column = np.nonzero((step[:, None] < side) & (step < side))
    source = draws.patch_source[scene, patch] + 1
    target = draws.patch_target[scene, patch]
    layer = np.zeros((len(side), _PIXELS), np.float32)
    layer[scene, (target[:, 0] + row) * SCENE_SIDE + target[:, 1] + column] = padded[
        draws.patch_item[scene, patch], source[:, 0] + row, source[:, 1] + column
    ]
    return layer


def _placed_item(padded: np.ndarray, shown: np.ndarray, draws: SceneDraws) -> np.ndarray:
    """Grey values of the items, scaled, rotated and placed by bilinear sampling: float32 [n, 1024].

    source = rotation(-angle) (pixel centre - box centre) / scale + item centre
    """
    middle = draws.position + (ITEM_SIDE / 2) * draws.scale[:, None]
    centres = np.arange(SCENE_SIDE, dtype=np.float32) + np.float32(0.5)
    down = (centres - middle[:, 0:1])[:, :, None]
    right = (centres - middle[:, 1:2])[:, None, :]
    cosine = (np.cos(draws.angle) / draws.scale)[:, None, None]
    sine = (np.sin(draws.angle) / draws.scale)[:, None, None]
    # Half a side to the item's corner, half a pixel to pixel centres, one pixel for the border.
    origin = np.float32(ITEM_SIDE / 2 - 0.5 + 1)
    last = padded.shape[1] - 1
    row = np.clip(cosine * down + sine * right + origin, 0, last)
    column = np.clip(cosine * right - sine * down + origin, 0, last)
    top = np.minimum(row.astype(np.int32), last - 1)
    left = np.minimum(column.astype(np.int32), last - 1)
    row -= top
    column -= left
    width = padded.shape[2]
    grey = padded.reshape(-1)
    corner = top * width + left + (shown * (padded.shape[1] * width))[:, None, None]
    upper = _mix(grey[corner], grey[corner + 1], column)
    lower = _mix(grey[corner + width], grey[corner + width + 1], column)
    return _mix(upper, lower, row).reshape(len(shown), _PIXELS)


def _mix(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    mixed = second.astype(np.float32) - first
    mixed *= weight
    mixed += first
    return mixed


def _between(uniforms: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    return (bounds[0] + (bounds[1] - bounds[0]) * uniforms).astype(np.float32)


def _integers(uniforms: np.ndarray, count: int | np.ndarray) -> np.ndarray:
    """Integers 0..count-1; multiplying 53-bit numbers has a bias below 1e-11 for these counts."""
    return (uniforms * count).astype(np.int64)


@functools.cache
def _noise_values() -> np.ndarray:
    """Noise for each 16-bit draw k, the normal quantile at (k + 1/2) / 65536: float32 [65536]."""
    quantile = statistics.NormalDist(0.0, _NOISE_STD).inv_cdf
    upper = np.array([quantile((k + 0.5) / 65536) for k in range(32768, 65536)], np.float32)
    return np.concatenate([-upper[::-1], upper])


def _check_render(items: np.ndarray, shown: np.ndarray, seeds: np.ndarray) -> None:
    if (
        items.dtype != np.uint8
        or items.ndim != 3
        or items.shape[1:] != (ITEM_SIDE, ITEM_SIDE)
        or len(items) < 2
    ):
        raise ValueError(
            f"render: items: got {items.dtype} with shape {items.shape}, expected uint8 "
            f"[m, {ITEM_SIDE}, {ITEM_SIDE}] with m >= 2; give all items of one split"
        )
    if shown.ndim != 1 or seeds.shape != (len(shown), 3):
        raise ValueError(
            f"render: seeds: got shape {seeds.shape} for shown of shape {shown.shape}, expected "
            "[n, 3] and [n]; make them with scene_seeds"
        )
    if len(shown) and not 0 <= shown.min() <= shown.max() < len(items):
        raise ValueError(
            f"render: shown: got {shown.min()}..{shown.max()}, expected 0..{len(items) - 1}; give "
            "indices into these items"
        )
    # A larger number would take two words of the seed sequence, and two different rows could then
    # share a stream.
    if seeds.size and not 0 <= seeds.min() <= seeds.max() < 2**32:
        raise ValueError(
            f"render: seeds: got {seeds.min()}..{seeds.max()}, expected 0..2**32 - 1; use smaller "
            "seeds"
        )
