"""Squares out of images and back: at their place, with nothing lost, and nothing else changed."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganserve.faces.align import TEMPLATE, Placement, paste


def placed(scale: float, angle: float, centre: complex, side: int = 256) -> Placement:
    factor = scale * np.exp(1j * angle)
    return Placement(complex(factor), complex(side * (0.5 + 0.5j) - factor * centre), side)


def waves(points: Any) -> Any:
    """Smooth colours at complex points, (..., 3) 0..255."""
    parts = (points.real / 9, points.imag / 8, (points.real + points.imag) / 12)
    return np.stack([127.5 + 100 * np.sin(part) for part in parts], -1)


def centres(width: int, height: int) -> Any:
    return np.arange(width) + 0.5 + 1j * (np.arange(height)[:, None] + 0.5)


IMAGE = np.rint(waves(centres(400, 300))).astype(np.uint8)


def test_landmarks_are_brought_to_where_ffhqs_are() -> None:
    goal = (TEMPLATE + 0.5 + 0.5j) / 2
    factor, shift = 3.1 * np.exp(0.7j), 40 - 9j
    points = (goal - shift) / factor
    found = Placement.of(np.stack([points.real, points.imag], 1), 256)
    np.testing.assert_allclose((found.factor, found.shift), (factor, shift))
    # A mirrored face cannot be: the nearest turn and scale, by least squares.
    flat = Placement.of(np.stack([-points.real, points.imag], 1), 256)
    best = np.abs(flat.factor * (-points.real + 1j * points.imag) + flat.shift - goal).sum()
    assert best > 100


@pytest.mark.parametrize("scale", [0.5, 1, 4.3])
@pytest.mark.parametrize("angle", [0, 1.2])
def test_a_square_lies_where_it_should_and_goes_back_unchanged(scale: float, angle: float) -> None:
    placement = placed(scale, angle, 201.3 + 147.8j)
    square = placement.cut(Image.fromarray(IMAGE))
    points = (centres(256, 256) - placement.shift) / placement.factor
    inside = (np.abs(points.real - 200) < 190) & (np.abs(points.imag - 150) < 140)
    assert np.abs(np.asarray(square) - waves(points))[inside].max() < 5
    canvas = IMAGE.copy()
    paste(canvas, [(placement, square)])
    difference = np.abs(canvas.astype(int) - IMAGE)
    assert difference.max() <= 12, "at the edges of the image too"
    assert difference.mean() < 1.6
    left, top, right, bottom = placement.region(400, 300)
    outside = np.ones((300, 400), bool)
    outside[top:bottom, left:right] = False
    assert not difference[outside].any()


WHITE = Image.new("RGB", (256, 256), (255, 255, 255))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_kind_of_image_takes_a_square_and_keeps_its_alpha(channels: int, dtype: Any) -> None:
    canvas = np.full((300, 400, channels), 100, dtype)
    paste(canvas, [(placed(2, 0.3, 200 + 150j), WHITE)], strength=1)
    colours = 3 if channels >= 3 else 1
    assert (canvas[150, 200, :colours] == np.iinfo(dtype).max).all()
    assert (canvas[..., colours:] == 100).all()
    assert canvas[0, 0, 0] == 100
    edge = np.unique(canvas[150, 130:200, 0])
    assert len(edge) > 5, "it fades"
    half = np.full((300, 400, channels), 100, dtype)
    paste(half, [(placed(2, 0.3, 200 + 150j), WHITE)], strength=0.5)
    assert abs(float(half[150, 200, 0]) - (100 + np.iinfo(dtype).max) / 2) <= 1


def test_of_two_faces_side_by_side_each_is_its_own() -> None:
    canvas = np.full((300, 400, 3), 100, np.uint8)
    black = Image.new("RGB", (256, 256))
    left, right = placed(1.2, 0, 150 + 150j), placed(1.2, 0, 250 + 150j)
    together = canvas.copy()
    paste(together, [(left, WHITE), (right, black)])
    paste(canvas, [(left, WHITE)])
    paste(canvas, [(right, black)], [left])
    np.testing.assert_array_equal(together, canvas)
    assert together[150, 150, 0] > 240
    assert together[150, 250, 0] < 15
    assert abs(int(together[150, 200, 0]) - 127) < 5


def test_a_square_beside_the_image_changes_nothing() -> None:
    canvas = IMAGE.copy()
    paste(canvas, [(placed(2, 0.3, -400 + 150j), WHITE), (placed(2, 0, 200 + 900j), WHITE)])
    np.testing.assert_array_equal(canvas, IMAGE)
    grey = np.asarray(placed(2, 0.3, -400 + 150j).cut(Image.fromarray(IMAGE)))
    assert (grey == (132, 133, 135)).all()
