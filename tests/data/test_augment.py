"""Augmentation on images: what each operation does, and that seeds replay exactly."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from nas.data.augment import crop, rand_augment
from nas.data.augment.draws import RandomStream
from nas.data.augment.recipes import RECIPES, replay


def noise(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    )


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


class TestDraws:
    def test_the_numbers_of_a_key_never_change(self) -> None:
        draws = RandomStream(1, 2)
        raw = np.random.PCG64DXSM(np.random.SeedSequence((1, 2))).random_raw(40)
        assert [draws.uniform() for _ in range(40)] == [
            float(word >> np.uint64(11)) * 2.0**-53 for word in raw
        ]

    def test_ranges(self) -> None:
        draws = RandomStream(7)
        numbers = [draws.uniform(-2, 3) for _ in range(2000)]
        assert -2 <= min(numbers) < -1.98 and 2.98 < max(numbers) < 3
        assert {draws.integer(5) for _ in range(200)} == set(range(5))
        assert {draws.sign() for _ in range(50)} == {-1, 1}


class TestCrop:
    @pytest.mark.parametrize("shape", [(64, 64), (200, 31), (9, 150), (1, 1)])
    def test_size_and_number_of_draws(self, shape: tuple[int, int]) -> None:
        draws, same = RandomStream(3), RandomStream(3)
        assert crop.random_resized_crop(noise(*shape), 16, draws).size == (16, 16)
        for _ in range(41):
            same.uniform()
        assert draws.uniform() == same.uniform()

    def test_areas_and_places_fill_their_ranges(self) -> None:
        ramp = np.zeros((100, 100, 3), np.uint8)
        ramp[:, :, 0], ramp[:, :, 1] = np.arange(100), np.arange(100)[:, None]
        image, areas, flipped = Image.fromarray(ramp), [], 0
        for seed in range(300):
            part = pixels(crop.random_resized_crop(image, 32, RandomStream(seed)))
            width, height = (np.ptp(part[:, :, channel]) + 1 for channel in (0, 1))
            assert 0.6 < width / height < 1.7
            areas.append(width * height / 10_000)
            flipped += part[0, 0, 0] > part[0, -1, 0]
        assert min(areas) < 0.12 and max(areas) > 0.85 and 0.45 < np.mean(areas) < 0.6
        assert 110 < flipped < 190

    def test_centre(self) -> None:
        square = noise(20, 20)
        assert crop.centre_crop(square, 20) is square
        wide = Image.new("RGB", (60, 20), (255, 0, 0))
        wide.paste((0, 0, 255), (20, 0, 40, 20))
        assert (pixels(crop.centre_crop(wide, 20)) == [0, 0, 255]).all()


class TestRandAugment:
    def test_the_published_fourteen(self) -> None:
        assert len(rand_augment.OPERATIONS) == 14

    @pytest.mark.parametrize("name", sorted(rand_augment.OPERATIONS))
    @pytest.mark.parametrize("sign", [-1, 1])
    def test_every_operation_keeps_the_size_and_repeats(self, name: str, sign: int) -> None:
        image, operation = noise(), rand_augment.OPERATIONS[name]
        for share in (0.0, 0.5, 1.0):
            changed = operation(image, share, sign)
            assert changed.size == image.size and changed.mode == "RGB"
            assert (pixels(changed) == pixels(operation(image, share, sign))).all()

    @pytest.mark.parametrize(
        "name", ["identity", "rotate", "posterize", "solarize", "shear_x", "translate_y"]
    )
    def test_no_strength_changes_nothing(self, name: str) -> None:
        assert (pixels(rand_augment.OPERATIONS[name](noise(), 0.0, 1)) == pixels(noise())).all()

    @pytest.mark.parametrize("name", ["color", "contrast", "brightness", "sharpness"])
    def test_enhancers_change_nothing_at_half_strength(self, name: str) -> None:
        assert (
            np.abs(pixels(rand_augment.OPERATIONS[name](noise(), 0.5, 1)) - pixels(noise())).max()
            <= 1
        )

    def test_full_strength_in_closed_form(self) -> None:
        image, operations = noise(), rand_augment.OPERATIONS
        values = pixels(image)
        assert (pixels(operations["solarize"](image, 1.0, 1)) == 255 - values).all()
        assert (pixels(operations["posterize"](image, 1.0, 1)) == values // 16 * 16).all()
        shift = rand_augment._TRANSLATE * image.width
        moved = pixels(operations["translate_x"](image, 1.0, -1))
        assert (moved[:, : int(shift)] == 128).all() and (moved[:, int(shift) + 2 :] != 128).any()
        bright = pixels(operations["brightness"](image, 1.0, 1))
        assert np.abs(bright - np.minimum(values * 1.9, 255)).max() <= 1

    def test_layers_are_drawn_with_two_numbers_each(self) -> None:
        draws, same = RandomStream(5), RandomStream(5)
        rand_augment.rand_augment(noise(), 3, 9, draws)
        for _ in range(6):
            same.uniform()
        assert draws.uniform() == same.uniform()


class TestRecipes:
    IMAGES = tuple(noise(30, 30, seed) for seed in range(4))

    def run(self, name: str, image: int, key: tuple[int, ...]) -> np.ndarray:
        return pixels(
            replay(RECIPES[name], self.IMAGES.__getitem__, image, len(self.IMAGES), 24, key)
        )

    @pytest.mark.parametrize("name", sorted(RECIPES))
    def test_a_key_replays_and_another_differs(self, name: str) -> None:
        first = self.run(name, 0, (1, 2))
        assert first.shape == (24, 24, 3)
        assert (first == self.run(name, 0, (1, 2))).all()
        others = [self.run(name, 0, (1, seed)) for seed in range(3, 8)]
        assert any((first != other).any() for other in others) == (name != "plain")

    def test_mixup_is_between_two_augmented_images(self) -> None:
        for seed in range(10):
            draws = RandomStream(seed)
            partner, share = draws.integer(4), draws.uniform()
            first = crop.random_resized_crop(self.IMAGES[1], 24, draws)
            second = crop.random_resized_crop(self.IMAGES[partner], 24, draws)
            expected = share * pixels(first) + (1 - share) * pixels(second)
            assert np.abs(self.run("d2", 1, (seed,)) - expected).max() <= 1

    def test_plain_is_the_centre(self) -> None:
        assert (self.run("plain", 2, (0,)) == pixels(crop.centre_crop(self.IMAGES[2], 24))).all()


def test_rotation_goes_both_ways() -> None:
    image = Image.new("RGB", (31, 31))
    image.paste((255, 255, 255), (0, 0, 31, 15))
    one = rand_augment.OPERATIONS["rotate"](image, 1.0, 1)
    other = rand_augment.OPERATIONS["rotate"](image, 1.0, -1)
    assert np.abs(pixels(ImageOps.mirror(one)) - pixels(other))[5:-5, 5:-5].mean() < 6
    assert (pixels(one) != pixels(other)).any()
