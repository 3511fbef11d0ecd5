"""Fashion in clutter: the embedded data set, replayed from stored items and seeds.

Ten kinds of clothing (Fashion-MNIST items, 28x28 grey) lie turned, scaled and tinted among patches of other items in
noisy 32x32 RGB scenes. On the plain items the seed of a training run moves the accuracy more than the network does; in
clutter networks can be told apart. Stored are items, labels and a teacher's soft labels (`embedded/fashion_clutter/`,
rebuilt by `experiments.datasets.fashion_clutter`); scenes are rendered on first use and kept in a cache folder.

Letters: m items, n scenes.
"""

import functools
import hashlib
import logging
import lzma
import os
import pathlib
import statistics
import uuid
import zipfile
from typing import Any, NamedTuple

import numpy as np
import yaml

from nas.data import dataset

NAME = "fashion_clutter"
CLASS_NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
"""As in the source's read-me, in lower case."""
RECIPE_VERSION = 1
"""To be raised with any change of the scenes; part of the fingerprint."""
DATASET_SEED = 0
SPLIT_NUMBERS = {"train": 0, "validation": 1, "test": 2, "teacher": 3}
"""Second part of a scene's seed. `teacher` is for scenes of items that are not embedded; `load` does not use it."""
ITEMS = {"train": 8000, "validation": 2000, "test": 5000}
"""Items of each split, in the order in which they are stored."""
SCENES_PER_ITEM = {"train": 2, "validation": 2, "test": 1}
MEAN = 0.4
STD = 0.25
EMBEDDED = pathlib.Path(__file__).parent / "embedded" / "fashion_clutter"
SEED_RULE = (
    "scene i of a split shows item i // scenes_per_item of that split; its draws are the first 817 words of "
    "numpy PCG64DXSM(SeedSequence([dataset_seed, split number, i])).random_raw"
)

_ITEM_SIDE = 28
_SCENE_SIDE = 32
_CHANNELS = 3
_PIXELS = _SCENE_SIDE * _SCENE_SIDE

# The recipe. Source: ours, measured against plain Fashion-MNIST; the numbers are a choice, not a fit.
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

# Layout of the 64-bit words drawn for a scene: one a uniform number, then four 16-bit noise samples in each.
_PATCH_WORDS = 9
_UNIFORM_WORDS = _CHANNELS + _PATCHES * _PATCH_WORDS + 4 + 2 * _CHANNELS
_NOISE_WORDS = _CHANNELS * _PIXELS // 4
_WORDS = _UNIFORM_WORDS + _NOISE_WORDS

_logger = logging.getLogger(__name__)


class Draws(NamedTuple):
    """What is random in n scenes; positions are (row, column) in pixels from the top left corner.

    `noise` holds indices into the 65,536 equally probable noise values, planar (channel, row, column).
    """

    background: np.ndarray  # float32 [n, 3], 0..120
    patch_item: np.ndarray  # int64 [n, 4], index into the items, never the item shown
    patch_side: np.ndarray  # int64 [n, 4], 8..13
    patch_source: np.ndarray  # int64 [n, 4, 2], where in its item the patch is cut
    patch_target: np.ndarray  # int64 [n, 4, 2], where in the scene it is pasted
    patch_tint: np.ndarray  # float32 [n, 4, 3], 0.3..1
    scale: np.ndarray  # float32 [n], 0.6..1
    angle: np.ndarray  # float32 [n], radians, anticlockwise
    position: np.ndarray  # float32 [n, 2], corner of the item's upright box, which lies inside the scene
    tint: np.ndarray  # float32 [n, 3], 0.5..1
    offset: np.ndarray  # float32 [n, 3], 0..40
    noise: np.ndarray  # uint16 [n, 3, 32, 32]


def load(cache_dir: pathlib.Path | None = None, folder: pathlib.Path = EMBEDDED) -> dataset.Dataset:
    """Fashion in clutter: 16,000 training, 4,000 validation and 5,000 test scenes, uint8 [n, 32, 32, 3], 10 classes.

    The first call renders the scenes (seconds) and writes them to the cache folder; later calls read them. A damaged
    cache is rebuilt; a folder that cannot be written costs only the rendering. The fingerprint covers the embedded
    files, the recipe version and the seed, not the rendered pixels: floating point may differ in the last bit between
    platforms, and a few pixels with it.

    Args:
        cache_dir: folder of the cache; None means `$MNV4_NAS_CACHE`, else `$XDG_CACHE_HOME/mnv4-nas`, else
            `~/.cache/mnv4-nas`.
        folder: holds manifest.yaml and the files that it names; another one to try rebuilt files.

    Returns:
        The data set; `soft_labels` of train and validation are set if the folder has them, those of test never.

    Raises:
        ValueError: the embedded files are missing or changed.

    Source: items from Fashion-MNIST (arXiv:1708.07747, MIT licence); scenes ours.
    """
    manifest = read_manifest(folder)
    fingerprint = _fingerprint(manifest)
    images = _cached_images(folder, fingerprint, cache_dir if cache_dir is not None else _default_cache_dir())
    item_labels = np.load(folder / "labels.npy", allow_pickle=False).astype(np.int32)
    soft_labels: dict[str, np.ndarray] = {}
    if "soft_labels.npz" in manifest["files"]:
        with np.load(folder / "soft_labels.npz", allow_pickle=False) as stored:
            decoded = decode_soft_labels(stored["levels"], float(stored["step"]))
        soft_labels["train"], soft_labels["validation"] = np.split(decoded, [len(images["train"])])
    splits = {}
    for split in ITEMS:
        labels = np.repeat(item_labels[item_slice(split)], SCENES_PER_ITEM[split])
        splits[split] = dataset.Split(images[split], labels, soft_labels.get(split))
    return dataset.Dataset(
        name=NAME,
        class_names=CLASS_NAMES,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        mean=MEAN,
        std=STD,
        fingerprint=fingerprint,
    )


def item_slice(split: str) -> slice:
    """Where the items of "train", "validation" or "test" lie among the stored 15,000."""
    names = list(ITEMS)
    start = sum(ITEMS[name] for name in names[: names.index(split)])
    return slice(start, start + ITEMS[split])


def scene_seeds(split: str, count: int, dataset_seed: int = DATASET_SEED) -> np.ndarray:
    """Seeds of scenes 0..count-1 of a split: rows (dataset seed, split number, scene index).

    Args:
        split: a key of `SPLIT_NUMBERS`.
        count: number of scenes n.
        dataset_seed: first column.

    Returns:
        int64 [n, 3].

    Source: ours.
    """
    seeds = np.empty((count, 3), np.int64)
    seeds[:, 0] = dataset_seed
    seeds[:, 1] = SPLIT_NUMBERS[split]
    seeds[:, 2] = np.arange(count)
    return seeds


def render(items: np.ndarray, shown: np.ndarray, seeds: np.ndarray, chunk: int = 128) -> np.ndarray:
    """Scenes of items among clutter; scene i depends on `items`, `shown[i]` and `seeds[i]` only.

    Four square patches of other items on a background of one colour, the item shown over them, Gaussian noise (in
    65,536 equally probable values, at most 4.3 standard deviations); see `draw` and `compose`.

    Args:
        items: uint8 [m, 28, 28], the item shown and those that clutter is cut from; one split's items, at least two.
        shown: int [n], index of the item that each scene shows.
        seeds: int [n, 3], see `scene_seeds`; each 0..2**32 - 1.
        chunk: scenes rendered at a time; changes speed and memory, never the result.

    Returns:
        uint8 [n, 32, 32, 3].

    Raises:
        ValueError: shapes or ranges do not fit.

    Source: ours; the recipe is stated in the manifest.
    """
    _check_render(items, shown, seeds)
    # One dark pixel all round: what bilinear sampling sees outside an item.
    padded = np.pad(items, ((0, 0), (1, 1), (1, 1)))
    images = np.empty((len(shown), _SCENE_SIDE, _SCENE_SIDE, _CHANNELS), np.uint8)
    for start in range(0, len(shown), chunk):
        part = slice(start, start + chunk)
        draws = draw(seeds[part], shown[part], len(items))
        images[part] = compose(padded, shown[part], draws)
    return images


def draw(seeds: np.ndarray, shown: np.ndarray, item_count: int) -> Draws:
    """What is random in n scenes, each from its own generator.

    Only raw generator words are used: NumPy keeps those stable between versions, while it may change what `Generator`
    makes of them (NEP 19), and the stored soft labels, which belong to exact scenes, would go stale unnoticed.

    Args:
        seeds: int [n, 3].
        shown: int [n], the items shown, which clutter must avoid.
        item_count: number of items m to choose clutter from.

    Returns:
        The draws.

    Source: ours.
    """
    count = len(seeds)
    # Little-endian words, so that the 16-bit noise samples come in the same order everywhere.
    words = np.empty((count, _WORDS), "<u8")
    for row, seed in enumerate(seeds.tolist()):
        words[row] = np.random.PCG64DXSM(np.random.SeedSequence(seed)).random_raw(_WORDS)
    uniforms = (words[:, :_UNIFORM_WORDS] >> np.uint64(11)) * 2.0**-53
    background, patches, item = np.split(uniforms, [_CHANNELS, _CHANNELS + _PATCHES * _PATCH_WORDS], axis=1)
    patches = patches.reshape(count, _PATCHES, _PATCH_WORDS)
    patch_item = _whole(patches[..., 0], item_count - 1)
    patch_side = _PATCH_SIDES[0] + _whole(patches[..., 1], _PATCH_SIDES[1] - _PATCH_SIDES[0] + 1)
    scale = _between(item[:, 0], _SCALES)
    # The item's box has to fit, so the room to move is what the scaled item leaves free.
    room = _SCENE_SIDE - _ITEM_SIDE * scale
    return Draws(
        background=_between(background, (0.0, _BACKGROUND_MAX)),
        patch_item=patch_item + (patch_item >= shown[:, None]),
        patch_side=patch_side,
        patch_source=_whole(patches[..., 2:4], _ITEM_SIDE - patch_side[..., None] + 1),
        patch_target=_whole(patches[..., 4:6], _SCENE_SIDE - patch_side[..., None] + 1),
        patch_tint=_between(patches[..., 6:9], _PATCH_TINTS),
        scale=scale,
        angle=np.radians(_between(item[:, 1], (-_ANGLE_MAX_DEGREES, _ANGLE_MAX_DEGREES))),
        position=(item[:, 2:4] * room[:, None]).astype(np.float32),
        tint=_between(item[:, 4:7], _TINTS),
        offset=_between(item[:, 7:10], (0.0, _OFFSET_MAX)),
        noise=words[:, _UNIFORM_WORDS:].view("<u2").reshape(count, _CHANNELS, _SCENE_SIDE, _SCENE_SIDE),
    )


def compose(padded: np.ndarray, shown: np.ndarray, draws: Draws) -> np.ndarray:
    """Scenes from given draws.

    scene = max(background, patch tint * patch)
    scene = 0.1 scene + 0.9 (tint * item + offset) where item > 20
    scene = clip(round(scene + noise), 0, 255)

    Args:
        padded: uint8 [m, 30, 30], items with a border of one zero pixel.
        shown: int [n], index of the item shown.
        draws: what is random.

    Returns:
        uint8 [n, 32, 32, 3].

    Source: ours.
    """
    count = len(shown)
    # Planar [n, 3, 1024] until the end: NumPy is several times slower when its innermost axis has length 3.
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
    scene += _noise_values()[draws.noise.reshape(count, _CHANNELS, _PIXELS)]
    np.rint(scene, out=scene)
    np.clip(scene, 0, 255, out=scene)
    planar = scene.astype(np.uint8).reshape(count, _CHANNELS, _SCENE_SIDE, _SCENE_SIDE)
    return planar.transpose(0, 2, 3, 1)


def _patch_layer(padded: np.ndarray, draws: Draws, patch: int) -> np.ndarray:
    """Grey values of one patch on an otherwise black scene: float32 [n, 1024]."""
    side = draws.patch_side[:, patch, None, None]
    step = np.arange(_PATCH_SIDES[1])
    scene, row, column = np.nonzero((step[:, None] < side) & (step < side))
    source = draws.patch_source[scene, patch] + 1
    target = draws.patch_target[scene, patch]
    layer = np.zeros((len(side), _PIXELS), np.float32)
    layer[scene, (target[:, 0] + row) * _SCENE_SIDE + target[:, 1] + column] = padded[
        draws.patch_item[scene, patch], source[:, 0] + row, source[:, 1] + column
    ]
    return layer


def _placed_item(padded: np.ndarray, shown: np.ndarray, draws: Draws) -> np.ndarray:
    """Grey values of the items, scaled, turned and placed by bilinear sampling: float32 [n, 1024].

    source = rotation(-angle) (pixel centre - box centre) / scale + item centre
    """
    middle = draws.position + (_ITEM_SIDE / 2) * draws.scale[:, None]
    centres = np.arange(_SCENE_SIDE, dtype=np.float32) + np.float32(0.5)
    down = (centres - middle[:, 0:1])[:, :, None]
    right = (centres - middle[:, 1:2])[:, None, :]
    cosine = (np.cos(draws.angle) / draws.scale)[:, None, None]
    sine = (np.sin(draws.angle) / draws.scale)[:, None, None]
    # Half a side to the item's corner, half a pixel to pixel centres, one pixel for the border.
    origin = np.float32(_ITEM_SIDE / 2 - 0.5 + 1)
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


def _whole(uniforms: np.ndarray, count: int | np.ndarray) -> np.ndarray:
    """Whole numbers 0..count-1; the bias of multiplying a 53-bit number is below 1e-11 for these counts."""
    return (uniforms * count).astype(np.int64)


@functools.cache
def _noise_values() -> np.ndarray:
    """Noise for each 16-bit draw k, the normal quantile at (k + 1/2) / 65536: float32 [65536]."""
    quantile = statistics.NormalDist(0.0, _NOISE_STD).inv_cdf
    upper = np.array([quantile((k + 0.5) / 65536) for k in range(32768, 65536)], np.float32)
    return np.concatenate([-upper[::-1], upper])


def _check_render(items: np.ndarray, shown: np.ndarray, seeds: np.ndarray) -> None:
    if items.dtype != np.uint8 or items.ndim != 3 or items.shape[1:] != (_ITEM_SIDE, _ITEM_SIDE) or len(items) < 2:
        raise ValueError(
            f"render: items: got {items.dtype} with shape {items.shape}, expected uint8 [m, {_ITEM_SIDE}, "
            f"{_ITEM_SIDE}] with m >= 2; give all items of one split"
        )
    if shown.ndim != 1 or seeds.shape != (len(shown), 3):
        raise ValueError(
            f"render: seeds: got shape {seeds.shape} for shown of shape {shown.shape}, expected [n, 3] and [n]; "
            "make them with scene_seeds"
        )
    if len(shown) and not 0 <= shown.min() <= shown.max() < len(items):
        raise ValueError(
            f"render: shown: got {shown.min()}..{shown.max()}, expected 0..{len(items) - 1}; index into these items"
        )
    # A larger number would take two words of the seed sequence, and two different rows could then share a stream.
    if seeds.size and not 0 <= seeds.min() <= seeds.max() < 2**32:
        raise ValueError(f"render: seeds: got {seeds.min()}..{seeds.max()}, expected 0..2**32 - 1; use smaller seeds")


def decode_soft_labels(levels: np.ndarray, step: float) -> np.ndarray:
    """Probabilities from stored levels: p = exp(-step level), divided by its sum over the classes.

    All classes are stored (there are only ten), so no mass is lost. With levels rounded to the nearest, a probability
    is off by at most step / 4 (near 1/2; 0.0125 for the step of 1/20 in use, typically far less) and by at most a
    factor exp(step) = 1.05; those below exp(-255 step) = 2.9e-6 are raised to it, which adds at most 3e-5 in all.

    Args:
        levels: uint8 [n, classes], -log(p) in steps.
        step: nats per level.

    Returns:
        float32 [n, classes], rows sum to 1.

    Source: ours; the encoder is in `experiments.datasets.fashion_clutter`.
    """
    weights = np.exp(-step * np.arange(256))[levels]
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def read_items(folder: pathlib.Path) -> np.ndarray:
    """The stored items: uint8 [15000, 28, 28], in the order train, validation, test."""
    raw = lzma.decompress((folder / "items.xz").read_bytes())
    return np.frombuffer(raw, np.uint8).reshape(sum(ITEMS.values()), _ITEM_SIDE, _ITEM_SIDE)


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """The manifest of a folder, after its recipe version and the hashes of its files have been checked.

    Args:
        folder: holds manifest.yaml and the files that it names.

    Returns:
        The manifest.

    Raises:
        ValueError: a file is missing or changed, or the recipe is another one.

    Source: ours.
    """
    path = folder / "manifest.yaml"
    cure = "reinstall mnv4-nas, or rebuild them with `python -m experiments.datasets.fashion_clutter subset`"
    try:
        manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
        version, files = manifest["recipe_version"], dict(manifest["files"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error!r}), expected the data set's manifest; {cure}") from error
    if version != RECIPE_VERSION:
        raise ValueError(f"{path}: recipe_version: got {version}, expected {RECIPE_VERSION}; {cure}")
    for name in ("items.xz", "labels.npy"):
        if name not in files:
            raise ValueError(f"{path}: files: got {sorted(files)}, expected {name} among them; {cure}")
    for name, expected in files.items():
        try:
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError as error:
            raise ValueError(f"{folder / name}: cannot be read ({error}), expected an embedded file; {cure}") from error
        if found != expected:
            raise ValueError(f"{folder / name}: got sha256 {found}, expected {expected} as in the manifest; {cure}")
    return manifest


def _fingerprint(manifest: dict[str, Any]) -> str:
    parts = [NAME, f"recipe {RECIPE_VERSION}", f"seed {DATASET_SEED}"]
    parts += [f"{name} {digest}" for name, digest in sorted(manifest["files"].items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _default_cache_dir() -> pathlib.Path:
    if own := os.environ.get("MNV4_NAS_CACHE"):
        return pathlib.Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "mnv4-nas"


def _cached_images(folder: pathlib.Path, fingerprint: str, cache_dir: pathlib.Path) -> dict[str, np.ndarray]:
    """Images of every split, from the cache if it holds them, else rendered and written to it."""
    path = cache_dir / f"{NAME}-{fingerprint[:16]}.npz"
    images = _read_cache(path, fingerprint)
    if images is None:
        images = _render_all(read_items(folder))
        _write_cache(path, fingerprint, images)
    return images


def _render_all(items: np.ndarray) -> dict[str, np.ndarray]:
    images = {}
    for split, count in ITEMS.items():
        shown = np.repeat(np.arange(count), SCENES_PER_ITEM[split])
        images[split] = render(items[item_slice(split)], shown, scene_seeds(split, len(shown)))
    return images


def _read_cache(path: pathlib.Path, fingerprint: str) -> dict[str, np.ndarray] | None:
    """What the cache file holds, or None if it is absent, damaged (zip checksums) or of other data."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            arrays = {}
            for name in (*ITEMS, "fingerprint"):
                with archive.open(f"{name}.npy") as member:
                    arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
                    member.read()  # to the end, where the checksum is compared
    except FileNotFoundError:
        return None
    except Exception as error:  # bytes of any kind may lie here, and fail in any way
        _logger.warning("%s: unreadable cache (%r); building it again", path, error)
        return None
    stored = arrays.pop("fingerprint")
    for split, images in arrays.items():
        shape = (ITEMS[split] * SCENES_PER_ITEM[split], _SCENE_SIDE, _SCENE_SIDE, _CHANNELS)
        if images.dtype != np.uint8 or images.shape != shape or str(stored) != fingerprint:
            _logger.warning("%s: cache of other data (fingerprint %s); building it again", path, stored)
            return None
    return arrays


def _write_cache(path: pathlib.Path, fingerprint: str, images: dict[str, np.ndarray]) -> None:
    """Writes the cache in one step, so that a reader or a second builder never meets half a file."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                np.savez(
                    file,
                    fingerprint=np.array(fingerprint),
                    train=images["train"],
                    validation=images["validation"],
                    test=images["test"],
                )
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        cure = "the next start renders again; set MNV4_NAS_CACHE to a writable folder"
        _logger.warning("%s: cannot write the cache (%s); %s", path, error, cure)
