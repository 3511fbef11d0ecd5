"""Fashion in clutter: the scenes, the embedded files, the cache, and the script that rebuilds them."""

import gzip
import logging
import math
import pathlib
import struct
import subprocess
import sys

import numpy as np
import pytest
import yaml

from experiments.datasets import fashion_clutter as rebuild
from nas.data import clutter_scenes, dataset, fashion_clutter
from nas.run import cache


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> dataset.Dataset:
    """The real data, rendered once."""
    return fashion_clutter.load(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def items() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 28, 28), np.uint8)


@pytest.fixture
def source(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Original files in miniature: 15 training and 6 test items a class, every item of one grey value of its own."""
    for split, count in {"train": 80, "validation": 20, "test": 50}.items():
        monkeypatch.setitem(fashion_clutter.ITEMS, split, count)
    folder = tmp_path / "source"
    folder.mkdir()
    generator = np.random.default_rng(1)
    for part, a_class in {"train": 15, "test": 6}.items():
        labels = generator.permutation(np.repeat(np.arange(10, dtype=np.uint8), a_class))
        grey = np.arange(len(labels), dtype=np.uint8) + 21
        write_idx(folder / rebuild.SOURCE_FILES[f"{part} labels"], labels)
        write_idx(
            folder / rebuild.SOURCE_FILES[f"{part} images"], np.tile(grey[:, None, None], (1, 28, 28)).astype(np.uint8)
        )
    return folder


@pytest.fixture
def folder(source: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """Embedded files in miniature."""
    rebuild.write_subset(source, tmp_path / "embedded")
    return tmp_path / "embedded"


def write_idx(path: pathlib.Path, values: np.ndarray) -> None:
    header = b"\x00\x00\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes(), 1))


def quiet_draws(background: float = 0.0) -> clutter_scenes.Draws:
    """One scene with invisible patches, no noise to speak of, and the item as it is in the corner at the top left."""
    return clutter_scenes.Draws(
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


def compose(items: np.ndarray, draws: clutter_scenes.Draws, shown: int = 0) -> np.ndarray:
    return clutter_scenes.compose(np.pad(items, ((0, 0), (1, 1), (1, 1))), np.array([shown]), draws)[0].astype(int)


# Scenes in closed form.


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
    assert np.abs(compose(items, draws) - expected.clip(0, 255)).max() <= 0.501  # rounding, and no noise to speak of


def test_quarter_turn_is_anticlockwise(items: np.ndarray) -> None:
    draws = quiet_draws()._replace(angle=np.array([math.pi / 2], np.float32), position=np.array([[4, 4]], np.float32))
    turned = np.rot90(items[0]).astype(float)
    expected = np.where(turned > 20, 0.9 * turned, 0)
    found = compose(items, draws)[4:, 4:, 0]
    sure = np.abs(turned - 20.5) > 1  # a last bit decides on which side of the threshold the others fall
    assert np.abs(found - expected)[sure].max() <= 0.501


def test_scaled_item_keeps_its_grey_inside_its_box() -> None:
    draws = quiet_draws()._replace(scale=np.array([0.75], np.float32), position=np.array([[5, 7]], np.float32))
    found = compose(np.full((2, 28, 28), 200, np.uint8), draws)[..., 1]
    expected = np.zeros((32, 32))
    expected[5:26, 7:28] = 180
    assert (found == expected).all()


def test_patches_are_tinted_and_joined_by_maximum() -> None:
    items = np.stack([np.zeros((28, 28)), np.full((28, 28), 100), np.arange(784).reshape(28, 28) % 251]).astype(
        np.uint8
    )
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


# Draws.


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
    assert (draws.patch_item != shown[:, None]).all() and set(draws.patch_item.ravel()) == set(range(5))
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
    """Stored soft labels belong to these draws. Source: computed by us, NumPy 2.4.6, x86-64; raw words, so exact."""
    draws = clutter_scenes.draw(fashion_clutter.scene_seeds("validation", 8)[7:], np.array([0]), 2000)
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
    assert clutter_scenes.render(items, np.zeros(0, int), np.zeros((0, 3), int)).shape == (0, 32, 32, 3)


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
def test_render_errors(shape: tuple[int, ...], shown: list[int], seeds: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clutter_scenes.render(np.zeros(shape, np.uint8), np.array(shown), np.array(seeds))


# The embedded files.


def test_embedded_data_have_the_stated_sizes_and_classes(embedded: dataset.Dataset) -> None:
    for split, count in {"train": 16000, "validation": 4000, "test": 5000}.items():
        part = embedded.splits()[split]
        assert part.images.shape == (count, 32, 32, 3)
        assert np.bincount(part.labels).tolist() == [count // 10] * 10
    assert embedded.test.soft_labels is None


GOLDEN_MOMENTS = [("train", 84.117, 52.57), ("validation", 81.656, 53.458), ("test", 85.378, 51.908)]


def test_embedded_scenes_look_as_they_did(embedded: dataset.Dataset) -> None:
    """Source: computed by us, NumPy 2.4.6, x86-64. Wide enough for a last bit, too narrow for another recipe."""
    for split, mean, std in GOLDEN_MOMENTS:
        images = embedded.splits()[split].images[:200].astype(np.float64)
        assert images.mean() == pytest.approx(mean, abs=0.01)
        assert images.std() == pytest.approx(std, abs=0.01)


def test_loaded_scenes_replay_from_their_seeds(embedded: dataset.Dataset) -> None:
    items = fashion_clutter.read_items(fashion_clutter.EMBEDDED)[fashion_clutter.item_slice("validation")]
    chosen = np.array([0, 1, 3999])
    seeds = fashion_clutter.scene_seeds("validation", 4000)[chosen]
    assert (clutter_scenes.render(items, chosen // 2, seeds) == embedded.validation.images[chosen]).all()


def test_no_item_lies_in_two_splits() -> None:
    items = fashion_clutter.read_items(fashion_clutter.EMBEDDED)
    parts = [{item.tobytes() for item in items[fashion_clutter.item_slice(split)]} for split in fashion_clutter.ITEMS]
    assert sum(len(part) for part in parts) == len(set.union(*parts)) == 15000


def test_embedded_size_and_licence() -> None:
    files = list(fashion_clutter.EMBEDDED.iterdir())
    assert sum(file.stat().st_size for file in files) <= 7_000_000
    assert "Zalando SE" in (fashion_clutter.EMBEDDED / "LICENSE.fashion-mnist").read_text(encoding="utf-8")


def test_manifest_agrees_with_the_code() -> None:
    manifest = fashion_clutter.read_manifest(fashion_clutter.EMBEDDED)
    assert manifest["items"] == fashion_clutter.ITEMS
    assert manifest["scenes_per_item"] == fashion_clutter.SCENES_PER_ITEM
    assert manifest["split_numbers"] == fashion_clutter.SPLIT_NUMBERS
    assert manifest["seed_rule"] == fashion_clutter.SEED_RULE
    assert f"the first {clutter_scenes.WORDS} words" in manifest["seed_rule"]
    assert manifest["dataset_seed"] == fashion_clutter.DATASET_SEED
    assert tuple(manifest["classes"]) == fashion_clutter.CLASS_NAMES
    assert manifest["normalisation"] == {"mean": fashion_clutter.MEAN, "std": fashion_clutter.STD}


def test_import_needs_no_jax() -> None:
    code = "import sys, nas.data.fashion_clutter; print({'jax', 'scipy', 'PIL'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


# The cache.


def test_cache_is_written_once_and_then_read(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "deep" / "cache"
    built = fashion_clutter.load(cache, folder)
    (file,) = cache.iterdir()
    assert file.name == f"fashion_clutter-{built.fingerprint[:16]}.npz"
    monkeypatch.delattr(fashion_clutter, "_render_all")
    again = fashion_clutter.load(cache, folder)
    assert again.fingerprint == built.fingerprint
    for split, part in built.splits().items():
        assert (again.splits()[split].images == part.images).all()
        assert (again.splits()[split].labels == part.labels).all()


@pytest.mark.parametrize("damage", ["one byte", "cut", "empty", "text", "other data", "folder"])
def test_damaged_cache_is_built_again(
    damage: str, folder: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    built = fashion_clutter.load(tmp_path, folder)
    file = next(tmp_path.glob("*.npz"))
    good = file.read_bytes()
    if damage == "one byte":
        middle = len(good) // 2
        file.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
    elif damage == "cut":
        file.write_bytes(good[:-1000])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "text":
        file.write_bytes(b"not a zip file")
    elif damage == "other data":
        images = {split: part.images * 0 for split, part in built.splits().items()}
        fashion_clutter._write_cache(file, "f" * 64, images)
    else:
        file.unlink()
        (file / "inside").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        again = fashion_clutter.load(tmp_path, folder)
    assert "cache" in caplog.text
    assert (again.train.images == built.train.images).all()
    if damage != "folder":
        assert fashion_clutter._read_cache(file, built.fingerprint) is not None
    assert not list(tmp_path.glob(".*.tmp"))


def test_unwritable_cache_only_warns(
    folder: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")  # permissions would not stop a test that runs as root
    with caplog.at_level(logging.WARNING):
        data = fashion_clutter.load(tmp_path / "file" / "cache", folder)
    assert len(data.train) == 160
    assert "cannot write the cache" in caplog.text and "MNV4_NAS_CACHE" in caplog.text


def test_cache_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("MNV4_NAS_CACHE", raising=False)
    assert cache.folder() == pathlib.Path("/home/someone/.cache/mnv4-nas")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.folder() == pathlib.Path("/xdg/mnv4-nas")
    monkeypatch.setenv("MNV4_NAS_CACHE", "/own")
    assert cache.folder() == pathlib.Path("/own")


# Rebuilding.


def test_subset_is_balanced_disjoint_and_in_file_order(source: pathlib.Path) -> None:
    train_labels = rebuild.read_idx(source / rebuild.SOURCE_FILES["train labels"])
    test_labels = rebuild.read_idx(source / rebuild.SOURCE_FILES["test labels"])
    indices = rebuild.embedded_indices(train_labels, test_labels)
    assert not set(indices["train"]) & set(indices["validation"])
    for split, labels, a_class in (
        ("train", train_labels, 8),
        ("validation", train_labels, 2),
        ("test", test_labels, 5),
    ):
        assert (np.diff(indices[split]) > 0).all()
        assert np.bincount(labels[indices[split]]).tolist() == [a_class] * 10
    for label in range(10):
        of_class = np.flatnonzero(train_labels == label)
        assert set(of_class[:8]) <= set(indices["train"]) and set(of_class[8:10]) <= set(indices["validation"])


def test_subset_holds_the_chosen_items_and_labels(source: pathlib.Path, folder: pathlib.Path) -> None:
    labels = {part: rebuild.read_idx(source / rebuild.SOURCE_FILES[f"{part} labels"]) for part in ("train", "test")}
    indices = rebuild.embedded_indices(labels["train"], labels["test"])
    items = fashion_clutter.read_items(folder)
    stored = np.load(folder / "labels.npy")
    for split in fashion_clutter.ITEMS:
        part = fashion_clutter.item_slice(split)
        assert (items[part, 0, 0] == indices[split] + 21).all()
        assert (stored[part] == labels["test" if split == "test" else "train"][indices[split]]).all()


def test_teacher_sees_only_items_that_are_not_embedded(source: pathlib.Path) -> None:
    path = source / rebuild.SOURCE_FILES["train images"]
    items = rebuild.read_idx(path).copy()
    labels = rebuild.read_idx(source / rebuild.SOURCE_FILES["train labels"])
    indices = rebuild.embedded_indices(labels, labels[:0])
    embedded_items = np.concatenate([indices["train"], indices["validation"]])
    remaining = np.setdiff1d(np.arange(150), embedded_items)
    images, image_labels = rebuild.teacher_scenes(source, seed=3, count=120)
    assert images.shape == (120, 32, 32, 3)
    assert image_labels.dtype == np.int32 and (image_labels == labels[remaining][np.arange(120) % 50]).all()
    items[embedded_items] = 255
    write_idx(path, items)
    assert (rebuild.teacher_scenes(source, seed=3, count=120)[0] == images).all()
    assert (rebuild.teacher_scenes(source, seed=4, count=120)[0] != images).any()


def test_soft_labels_survive_within_the_stated_error(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    generator = np.random.default_rng(2)
    probabilities = generator.dirichlet(np.full(10, 0.1), 200)
    probabilities[0] = np.eye(10)[3]
    probabilities[1, :] = [0.5, 0.5, *[0.0] * 8]
    before = fashion_clutter.load(tmp_path, folder)
    assert before.train.soft_labels is None
    rebuild.write_soft_labels(probabilities, {"architecture": "toy", "epochs": 1}, folder)
    after = fashion_clutter.load(tmp_path, folder)
    assert after.train.soft_labels is not None and after.validation.soft_labels is not None
    assert len(after.train.soft_labels) == 160 and len(after.validation.soft_labels) == 40
    assert after.test.soft_labels is None
    assert after.fingerprint != before.fingerprint
    decoded = np.concatenate([after.train.soft_labels, after.validation.soft_labels]).astype(float)
    assert np.abs(decoded.sum(axis=1) - 1).max() < 1e-6
    assert np.abs(decoded - probabilities).max() <= 0.0125 + 3e-5
    kept = probabilities > math.exp(-255 / 20)
    ratio = np.abs(np.log(decoded[kept] / probabilities[kept]))
    assert ratio.max() <= 0.05 + 3e-5
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text(encoding="utf-8"))
    assert manifest["teacher"]["architecture"] == "toy"
    expected = float((probabilities[160:].argmax(axis=1) == after.validation.labels).mean())
    assert manifest["teacher"]["accuracy_on_embedded_scenes"]["validation"] == pytest.approx(expected, abs=1e-4)


def test_rebuilding_keeps_soft_labels_of_the_same_items_only(source: pathlib.Path, folder: pathlib.Path) -> None:
    rebuild.write_soft_labels(np.full((200, 10), 0.1), {"architecture": "toy"}, folder)
    rebuild.write_subset(source, folder)
    assert fashion_clutter.read_manifest(folder)["teacher"]["architecture"] == "toy"
    path = source / rebuild.SOURCE_FILES["test images"]
    write_idx(path, 255 - rebuild.read_idx(path))
    rebuild.write_subset(source, folder)
    assert fashion_clutter.read_manifest(folder)["teacher"] is None
    assert not (folder / "soft_labels.npz").exists()


@pytest.mark.parametrize(
    ("probabilities", "teacher", "message"),
    [
        (np.full((160, 10), 0.1), {}, r"probabilities: got shape \(160, 10\), expected \(200, 10\)"),
        (np.full((200, 10), 0.2), {}, r"probabilities: .*softmax"),
        (np.full((200, 10), np.nan), {}, r"probabilities: got values nan"),
        (np.full((200, 10), 0.1), {"accuracy": np.float64(0.5)}, r"teacher: got .*NumPy scalars"),
    ],
)
def test_soft_label_errors(
    probabilities: np.ndarray, teacher: dict[str, object], message: str, folder: pathlib.Path
) -> None:
    with pytest.raises(ValueError, match=message):
        rebuild.write_soft_labels(probabilities, teacher, folder)
    assert fashion_clutter.read_manifest(folder)["teacher"] is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items.xz", b"other", r"items\.xz: got sha256 .*reinstall"),
        ("labels.npy", None, r"labels\.npy: cannot be read"),
        ("manifest.yaml", None, r"manifest\.yaml: cannot be read .*reinstall"),
        ("manifest.yaml", b"[]", r"manifest\.yaml: cannot be read"),
        ("manifest.yaml", b"recipe_version: 99\nfiles: {}", r"recipe_version: got 99, expected 1"),
        ("manifest.yaml", b"recipe_version: 1\nfiles: {}", r"files: got \[\], expected items\.xz"),
    ],
)
def test_damaged_embedded_files_are_named(
    name: str, content: bytes | None, message: str, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        fashion_clutter.load(tmp_path, folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot be read .*dataset-fashion-mnist"),
        (b"plain", r"cannot be read"),
        (gzip.compress(b"\x00\x00\x09\x01\x00\x00\x00\x00", mtime=0), r"got first bytes .*unsigned bytes"),
        (gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x05ab", mtime=0), r"got 2 values, expected the \(5,\)"),
    ],
)
def test_damaged_source_is_named(content: bytes | None, message: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        rebuild.read_idx(path)
