"""Golden statistics: what is measured of images, and how far others are from it."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from artifact.golden import FIGURES, SHARES, SIDE, Golden, Measured, compare, difference, measure, points_of
from artifact.spec import Spec, SpecError
from tests.docs.test_manifest import GOLDEN, SPECS


def images(n: int, classes: int = 1, seed: int = 0, brighter: float = 0.0) -> tuple[Any, list[int]]:
    """Smooth images (n, 40, 24, 3) in the classes' brightness, and their labels."""
    random = np.random.RandomState(seed)
    labels = [index % classes for index in range(n)]
    ramp = np.linspace(0, 0.4, 40)[:, None, None] * random.uniform(0.1, 1, (n, 1, 1, 3))
    level = 0.1 + 0.5 * np.array(labels) / classes + random.uniform(0, 0.1, n)
    values = np.broadcast_to(ramp + level[:, None, None, None] + brighter, (n, 40, 24, 3))
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8), labels


def points(pixels: Any) -> Any:
    return np.stack([points_of(image) for image in pixels])


def drift(golden: Golden, pixels: Any, rows: list[int] | None = None) -> dict[str, float]:
    return dict(compare(golden, Measured.of(points(pixels)), np.array(rows or [0] * len(pixels), np.intp)))


@pytest.fixture(scope="module")
def golden() -> Golden:
    pixels, labels = images(128)
    return measure(points(pixels), labels, 1)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 200, 4), (SIDE, SIDE, 3), (1000, 7, 2)])
def test_any_size_gives_as_many_points_from_all_over_the_image(shape: tuple[int, int, int]) -> None:
    height, width, channels = shape
    image = np.zeros(shape, np.uint8)
    image[height // 2 :, width // 2 :] = 200
    found = points_of(image)
    assert found.shape == (SIDE, SIDE, channels)
    assert found[-1, -1, 0] == 200
    assert found[0, 0, 0] == (200 if shape[0] == shape[1] == 1 else 0)
    assert np.array_equal(points_of(image.astype(np.float32) / 255), found), "floats of 16-bit images"


def test_images_of_the_same_model_are_near_and_others_far(golden: Golden) -> None:
    same = drift(golden, images(128, seed=1)[0])
    assert set(same) == {*FIGURES, *SHARES}
    assert max(same.values()) < 0.5
    assert drift(golden, images(128, seed=1, brighter=0.2)[0])["mean"] > 2
    pixels = images(128, seed=1)[0].astype(int)
    noisy = pixels + np.random.RandomState(2).randint(-60, 60, pixels.shape)
    assert drift(golden, np.clip(noisy, 0, 255).astype(np.uint8))["detail"] > 2
    assert drift(golden, np.repeat(images(1)[0], 64, axis=0))["duplicate"] > 3.5
    black = drift(golden, np.zeros((64, 40, 24, 3), np.uint8))
    assert black["black"] == black["flat"] == black["saturated"] == 4


def test_a_model_of_classes_is_compared_class_by_class() -> None:
    pixels, labels = images(128, classes=4)
    golden = measure(points(pixels), labels, 4)
    only = images(128, classes=4, seed=1)[0][3::4]
    assert golden.is_by_class
    assert max(drift(golden, only, [3] * len(only)).values()) < 0.7, "callers who like one class"
    assert drift(golden, only, [0] * len(only))["mean"] > 3, "images of a wrong class"


def test_many_classes_or_few_images_of_each_have_one_row() -> None:
    pixels, labels = images(128, classes=65)
    assert not measure(points(pixels), labels, 65).is_by_class
    assert not measure(points(pixels[:5]), labels[:5], 4).is_by_class, "the last classes were seen once"


def test_two_golden_statistics_differ_as_the_images_do(golden: Golden) -> None:
    other = measure(points(images(128, seed=5)[0]), [0] * 128, 1)
    brighter = measure(points(images(128, seed=5, brighter=0.2)[0]), [0] * 128, 1)
    assert max(difference(other, golden).values()) < 0.5
    assert difference(brighter, golden)["mean"] > 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": 0}, "images must be 1 or more"),
        ({"shares": {**GOLDEN.shares, "flat": 1.5}}, "the other numbers 0 to 1"),
        ({"shares": {"flat": 0.5}}, "shares has \\['flat'\\], must have"),
        ({"spread": {**GOLDEN.spread, "detail": (0.1,)}}, "detail and spread.detail must have a number for each"),
        ({"figures": {**GOLDEN.figures, "mean": ((0.1, 0.1, 0.1),) * 5}}, "mean has 5 rows, must have 1, or one for"),
    ],
)
def test_a_manifest_with_numbers_that_cannot_be_is_refused(changes: dict[str, Any], says: str) -> None:
    golden = SPECS[0].golden
    assert golden is not None
    assert Spec.from_json(SPECS[0].to_json()).golden == golden
    spec = replace(SPECS[0], golden=replace(golden, **changes))
    with pytest.raises(SpecError, match=says):
        Spec.from_json(json.dumps(json.loads(spec.to_json())))
