"""Images in a grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganserve.cli.grid import GAP_PX, WHITE, compose_grid


@given(
    st.integers(1, 20), st.none() | st.integers(1, 25), st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 3])
)
def test_every_image_stands_in_its_cell_and_the_rest_is_white(
    count: int, columns: int | None, height: int, width: int, channels: int
) -> None:
    images = [np.full((height, width, channels), index, np.uint8) for index in range(count)]
    grid = compose_grid(images, columns)
    across = (grid.shape[1] + GAP_PX) // (width + GAP_PX)
    assert columns is None or across == min(columns, count)
    rest = np.ones(grid.shape, bool)
    for index, image in enumerate(images):
        top, left = (
            place * (side + GAP_PX) for place, side in zip(divmod(index, across), (height, width), strict=True)
        )
        cell = np.s_[top : top + height, left : left + width]
        np.testing.assert_array_equal(grid[cell], image)
        rest[cell] = False
    assert (grid[rest] == WHITE).all()


@pytest.mark.parametrize(("count", "across"), [(1, 1), (2, 2), (4, 2), (5, 3), (16, 4)])
def test_a_grid_is_as_square_as_it_gets(count: int, across: int) -> None:
    grid = compose_grid([np.zeros((10, 10, 3), np.uint8)] * count)
    assert grid.shape[1] == across * (10 + GAP_PX) - GAP_PX


def test_what_makes_no_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        compose_grid([])
    with pytest.raises(ValueError, match="one size"):
        compose_grid([np.zeros((1, 1, 3), np.uint8), np.zeros((2, 1, 3), np.uint8)])
    with pytest.raises(ValueError, match="columns must be"):
        compose_grid([np.zeros((1, 1, 3), np.uint8)], columns=0)
