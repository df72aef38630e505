"""How colours are spread under transparency, and that even alpha stays as it was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from server.images.cutouts import REACH_PX, SEEN_ALPHA, keep_even, spread_colours

Pixels = NDArray[np.uint8]


def random_image(height: int, width: int, channels: int, seed: int = 0) -> Pixels:
    return np.random.RandomState(seed).randint(0, 256, (height, width, channels)).astype(np.uint8)


def nearest(colours: Pixels, visible: NDArray[np.bool_]) -> tuple[Pixels, Pixels]:
    """For each pixel the lowest and highest level of each channel among the visible pixels that are nearest to it, by
    the larger of the distances along the axes."""
    ys, xs = np.nonzero(visible)
    low, high = np.empty_like(colours), np.empty_like(colours)
    for y, x in np.ndindex(visible.shape):
        distances = np.maximum(abs(ys - y), abs(xs - x))
        near = colours[ys, xs][distances == distances.min()]
        low[y, x], high[y, x] = near.min(axis=0), near.max(axis=0)
    return low, high


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 14),
    st.integers(1, 14),
    st.sampled_from([1, 3]),
    st.integers(0, 99),
    st.sampled_from([0.02, 0.3, 0.9]),
)
def test_visible_pixels_stay_and_the_others_get_colours_from_around(
    height: int, width: int, channels: int, seed: int, share: float
) -> None:
    colours = random_image(height, width, channels, seed)
    alpha = np.where(np.random.RandomState(seed + 1).rand(height, width, 1) < share, 255, 0).astype(np.uint8)
    visible = alpha[..., 0] > 0
    if not visible.any():
        assert spread_colours(colours, alpha) is colours
        return
    found = spread_colours(colours, alpha)
    assert found.shape == colours.shape
    assert np.array_equal(found[visible], colours[visible])
    beside = ~visible & _dilated(visible)
    low, high = nearest(colours, visible)
    assert (found[beside] >= low[beside]).all()
    assert (found[beside] <= high[beside]).all()
    assert (found >= colours[visible].min(axis=0)).all()
    assert (found <= colours[visible].max(axis=0)).all()
    other = np.where(visible[..., None], colours, 255 - colours)
    assert np.array_equal(spread_colours(other, alpha), found), "what was hidden does not matter"


def _dilated(visible: NDArray[np.bool_]) -> NDArray[np.bool_]:
    height, width = visible.shape
    padded = np.pad(visible, 1)
    return np.asarray(np.any([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0))


def test_each_side_of_a_gap_gets_the_colour_that_is_nearer() -> None:
    colours = np.zeros((4, 31, 3), np.uint8)
    alpha = np.zeros((4, 31, 1), np.uint8)
    colours[:, 0], colours[:, 30] = (200, 10, 0), (0, 90, 250)
    alpha[:, [0, 30]] = 255
    found = spread_colours(colours, alpha)
    assert (found[:, :15] == (200, 10, 0)).all()
    assert (found[:, 15] == (100, 50, 125)).all()
    assert (found[:, 16:] == (0, 90, 250)).all()


def test_far_away_it_is_the_mean_of_what_is_visible() -> None:
    colours = np.zeros((1, REACH_PX + 52, 1), np.uint8)
    alpha = np.zeros_like(colours)
    colours[0, :2, 0] = 10, 31
    alpha[0, :2] = 255
    found = spread_colours(colours, alpha)[0, :, 0]
    assert (found[1 : 2 + REACH_PX] == 31).all()
    assert (found[2 + REACH_PX :] == 20).all()


@pytest.mark.parametrize("value", [SEEN_ALPHA, 255])
def test_without_a_hidden_pixel_nothing_is_copied(value: int) -> None:
    colours = random_image(5, 6, 3)
    assert spread_colours(colours, np.full((5, 6, 1), value, np.uint8)) is colours


def test_an_image_that_is_hardly_visible_anywhere_keeps_what_is() -> None:
    colours, alpha = random_image(5, 6, 3), np.full((5, 6, 1), SEEN_ALPHA - 1, np.uint8)
    alpha[0, 0] = 0
    found = spread_colours(colours, alpha)
    assert np.array_equal(found.reshape(-1, 3)[1:], colours.reshape(-1, 3)[1:])


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_alpha_is_given_back_where_it_is_even_and_left_elsewhere(scale: int) -> None:
    alpha = np.zeros((9, 12, 1), np.uint8)
    alpha[:, 6:9], alpha[:, 9:] = 255, 90
    canvas = random_image(9 * scale, 12 * scale, 4)
    before = canvas.copy()
    keep_even(canvas[: 4 * scale], alpha, 0, scale)
    keep_even(canvas[4 * scale :], alpha, 4, scale)
    assert np.array_equal(canvas[..., :3], before[..., :3])
    for column in range(12):
        part = np.s_[:, column * scale : (column + 1) * scale, 3]
        expected = before[part] if column in (5, 6, 8, 9) else alpha[0, column, 0]
        assert (canvas[part] == expected).all(), column


def test_a_single_pixel_leaves_its_neighbours_to_the_network() -> None:
    alpha = np.zeros((5, 5, 1), np.uint8)
    alpha[2, 2] = 255
    canvas = np.full((5, 5, 2), 7, np.uint8)
    keep_even(canvas, alpha, 0, 1)
    assert (canvas[..., 1] == 7).sum() == 9
    assert (canvas[1:4, 1:4, 1] == 7).all()
