from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from artifact.shapes import round_up
from artifact.spec import ShapeRange, Tile
from server.images import tiling

SIZE = 16
Pixels = NDArray[np.uint8]


def tile_of(size: int = SIZE, overlap: int = 3, multiple: int = 1) -> Tile:
    return Tile(size, overlap, multiple, overlap, 0.0)


def random_image(height: int, width: int, channels: int = 3) -> Pixels:
    return np.random.RandomState(height * 1000 + width).randint(0, 256, (height, width, channels)).astype(np.uint8)


def enlarge(image: Pixels, scale: int) -> Pixels:
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def join(tiles: Iterable[Pixels], grid: tiling.TileGrid, scale: int) -> Pixels:
    """The image (scale H, scale W, C) from its tiles in order, each run through a network."""
    canvas: Pixels | None = None
    for index, tile in enumerate(tiles):
        if canvas is None:
            canvas = np.empty((grid.height * scale, grid.width * scale, tile.shape[2]), np.uint8)
        row, _ = grid.spans(index)
        tiling.place(canvas[row.keep_from * scale : row.keep_to * scale], tile, grid, index, scale)
    assert canvas is not None
    return canvas


lengths = st.sampled_from([1, 2, SIZE - 1, SIZE, SIZE + 1, 2 * SIZE - 6, 3 * SIZE + 1, 7 * SIZE]) | st.integers(1, 150)
tiles = st.tuples(st.integers(1, 4), st.integers(0, 5), st.sampled_from([1, 2, 4])).map(
    lambda drawn: tile_of(size=2 * drawn[1] + drawn[0] * 4 + drawn[2], overlap=drawn[1], multiple=drawn[2])
)


@settings(deadline=None)
@given(lengths, lengths, tiles, st.sampled_from([1, 2, 4]), st.sampled_from([1, 3, 4]))
def test_a_network_that_only_enlarges_gives_back_the_image_exactly(
    height: int, width: int, tile: Tile, scale: int, channels: int
) -> None:
    image = random_image(height, width, channels)
    grid = tiling.tile_grid(height, width, tile)
    pieces = tiling.split(image, grid)
    assert len(pieces) == len(grid)
    joined = join([enlarge(piece, scale) for piece in pieces], grid, scale)
    assert np.array_equal(joined, enlarge(image, scale))


@settings(deadline=None)
@given(lengths, lengths, tiles)
def test_every_tile_of_an_image_has_one_shape_and_keeps_to_the_multiple(height: int, width: int, tile: Tile) -> None:
    grid = tiling.tile_grid(height, width, tile)
    shapes = {piece.shape for piece in tiling.split(random_image(height, width), grid)}
    assert shapes == {(grid.tile_height, grid.tile_width, 3)}
    for length in (grid.tile_height, grid.tile_width):
        assert length % tile.multiple_px == 0
        assert length <= tile.size_px
    assert all(span.start % tile.multiple_px == 0 for span in (*grid.row_spans, *grid.column_spans))


@settings(deadline=None)
@given(lengths, tiles)
def test_no_kept_pixel_is_nearer_to_a_cut_than_the_overlap(length: int, tile: Tile) -> None:
    grid = tiling.tile_grid(length, 1, tile)
    for span in grid.row_spans:
        if span.start > 0:
            assert span.keep_from - span.start >= tile.overlap_px
        if span.start + grid.tile_height < grid.padded_height:
            assert span.start + grid.tile_height - span.keep_to >= tile.overlap_px


@settings(deadline=None)
@given(lengths, tiles)
def test_each_pixel_comes_from_the_tile_where_it_is_farthest_from_a_cut(length: int, tile: Tile) -> None:
    grid = tiling.tile_grid(length, 1, tile)

    def distance(span: tiling.TileSpan, y: int) -> float:
        """px from the centre of pixel y to the nearest cut edge of a tile; negative outside."""
        before = y + 0.5 - span.start if span.start else np.inf
        end = span.start + grid.tile_height
        after = end - y - 0.5 if end < grid.padded_height else np.inf
        return float(min(before, after))

    for span in grid.row_spans:
        for y in range(span.keep_from, span.keep_to):
            assert distance(span, y) >= max(distance(other, y) for other in grid.row_spans) - 1


@settings(deadline=None)
@given(lengths, tiles)
def test_the_kept_parts_cover_an_axis_once(length: int, tile: Tile) -> None:
    spans = tiling.tile_grid(length, 1, tile).row_spans
    assert spans[0].keep_from == 0
    assert spans[-1].keep_to == length
    assert all(left.keep_to == right.keep_from for left, right in pairwise(spans))
    assert all(span.keep_from < span.keep_to for span in spans)


@pytest.mark.parametrize(("length", "count"), [(1, 1), (SIZE - 1, 1), (SIZE, 1), (SIZE + 1, 2), (26, 2), (27, 3)])
def test_there_are_no_more_tiles_than_the_overlap_needs(length: int, count: int) -> None:
    assert len(tiling.tile_grid(length, SIZE, tile_of(overlap=3))) == count


@settings(deadline=None)
@given(lengths, tiles)
def test_tiles_are_as_short_as_their_number_allows(length: int, tile: Tile) -> None:
    grid = tiling.tile_grid(length, 1, tile)
    count, step = len(grid), round_up(tiling.STEP_PX, tile.multiple_px)
    shorter = grid.tile_height - step
    assert count == 1 or count * (shorter - 2 * tile.overlap_px) + 2 * tile.overlap_px < grid.padded_height


@pytest.mark.parametrize(
    ("size", "overlap", "height", "width", "shape", "computed"),
    [
        (256, 18, 255, 256, (255, 256), 1.0),
        (256, 18, 720, 1280, (208, 248), 1.343),
        (240, 32, 720, 1280, (232, 240), 1.692),
        (240, 32, 255, 256, (160, 160), 1.569),
        (160, 12, 255, 256, (144, 144), 1.271),
    ],
)
def test_few_pixels_are_computed_twice(
    size: int, overlap: int, height: int, width: int, shape: tuple[int, int], computed: float
) -> None:
    grid = tiling.tile_grid(height, width, tile_of(size, overlap))
    assert (grid.tile_height, grid.tile_width) == shape
    assert grid.computed_px / (height * width) == pytest.approx(computed, abs=1e-3)


def test_a_long_thin_strip_is_cut_along_its_length_alone() -> None:
    grid = tiling.tile_grid(1, 10_000, tile_of(160, 12))
    assert (len(grid.row_spans), grid.tile_height) == (1, 1)
    assert grid.computed_px < 1.2 * 10_000


SIDES = st.integers(1, 6).map(lambda eights: 8 * eights)
RANGES = st.lists(st.tuples(SIDES, SIDES, SIDES, SIDES), min_size=1, max_size=3).map(
    lambda found: [
        ShapeRange((h, w), (h + more_h - 8, w + more_w - 8), (h + more_h - 8, w + more_w - 8))
        for h, w, more_h, more_w in found
    ]
)


@settings(deadline=None)
@given(lengths, lengths, RANGES, st.sampled_from([1, 2, 4]))
def test_tiles_have_a_size_that_the_engine_takes_if_any_does(
    height: int, width: int, sizes: list[ShapeRange], multiple: int
) -> None:
    tile = tile_of(48, overlap=2, multiple=multiple)
    grid = tiling.tile_grid(height, width, tile, sizes)
    shape = (grid.tile_height, grid.tile_width)
    rows, columns = round_up(height, multiple), round_up(width, multiple)
    if any(rows >= size.min[0] and columns >= size.min[1] for size in sizes):
        assert any(size.contains(shape) for size in sizes)
    else:
        assert shape == (tiling.tile_grid(height, width, tile).tile_height, min(columns, grid.tile_width))
    image = random_image(height, width, 1)
    assert np.array_equal(join(tiling.split(image, grid), grid, 1), image)


def test_an_engine_of_one_size_gets_tiles_of_that_size() -> None:
    (fixed,) = sizes = [ShapeRange((16, 16), (16, 16), (16, 16))]
    for height, width, count in ((16, 16, 1), (17, 16, 2), (100, 40, 40)):
        grid = tiling.tile_grid(height, width, tile_of(overlap=3), sizes)
        assert (grid.tile_height, grid.tile_width, len(grid)) == (*fixed.max, count)


def test_of_several_sizes_the_one_that_computes_least_is_taken() -> None:
    sizes = [ShapeRange((side, side), (side, side), (side, side)) for side in (64, 40, 128)]
    for side, taken in ((40, 40), (64, 64), (66, 40), (110, 64), (128, 128)):
        assert tiling.tile_grid(side, side, tile_of(128, overlap=4), sizes).tile_height == taken


@settings(deadline=None)
@given(st.sampled_from([1, 2, 4, 8, 32]), st.data(), st.sampled_from([1, 2]), st.sampled_from([1, 3, 4]))
def test_a_whole_image_is_reflected_to_the_multiple_and_cropped_back(
    multiple: int, data: st.DataObject, scale: int, channels: int
) -> None:
    sides = st.integers(1, 2 * multiple + 1)
    height, width = data.draw(sides), data.draw(sides)
    image = random_image(height, width, channels)
    grid = tiling.whole_grid(height, width, multiple)
    (whole,) = tiling.split(image, grid)
    padded = whole.shape[:2]
    assert all(side % multiple == 0 for side in padded)
    assert all(0 <= side - asked < multiple for side, asked in zip(padded, (height, width), strict=True))
    assert np.array_equal(whole[:height, :width], image)
    rows, columns = (np.pad(np.arange(n), (0, m - n), "reflect") for n, m in zip((height, width), padded, strict=True))
    assert np.array_equal(whole, image[rows][:, columns])
    assert np.array_equal(join([enlarge(whole, scale)], grid, scale), enlarge(image, scale))


def test_reflection_goes_on_where_the_image_is_shorter_than_what_is_missing() -> None:
    (whole,) = tiling.split(np.array([[[1]], [[2]], [[3]]], np.uint8), tiling.whole_grid(3, 1, 8))
    assert whole[:, 0, 0].tolist() == [1, 2, 3, 2, 1, 2, 3, 2]
    assert (whole == whole[:, :1]).all(), "one pixel reflects itself"


def test_a_whole_image_is_reflected_to_the_smallest_size_that_the_network_takes() -> None:
    image = random_image(3, 40, 1)
    grid = tiling.whole_grid(3, 40, 4, 16)
    (whole,) = tiling.split(image, grid)
    assert whole.shape == (16, 40, 1)
    assert np.array_equal(join([whole], grid, 1), image)


def test_an_image_smaller_than_a_tile_is_one_tile_of_its_own_size() -> None:
    grid = tiling.tile_grid(5, 9, tile_of())
    assert (grid.tile_height, grid.tile_width, len(grid)) == (5, 9, 1)


def test_without_a_tile_the_image_stays_whole() -> None:
    grid = tiling.whole_grid(300, 7, 1)
    assert (grid.tile_height, grid.tile_width, len(grid)) == (300, 7, 1)


def test_a_blur_over_tiles_equals_the_blur_over_the_whole() -> None:
    def blur(image: Pixels) -> Pixels:
        """A mean over 7 x 7, edges repeated as a network with padding would see them."""
        padded = np.pad(image.astype(np.int64), ((3, 3), (3, 3), (0, 0)), "edge")
        total = sum(padded[y : y + image.shape[0], x : x + image.shape[1]] for y in range(7) for x in range(7))
        return np.asarray(total // 49, np.uint8)

    image = random_image(61, 45)
    grid = tiling.tile_grid(61, 45, tile_of(overlap=3))
    assert np.array_equal(join(map(blur, tiling.split(image, grid)), grid, 1), blur(image))


def test_padding_to_a_multiple_reflects_and_is_cropped_away() -> None:
    image = random_image(5, 6)
    grid = tiling.tile_grid(5, 6, tile_of(multiple=4))
    (piece,) = tiling.split(image, grid)
    assert piece.shape == (8, 8, 3)
    assert np.array_equal(piece[5], piece[3])
    assert np.array_equal(join([piece], grid, 1), image)


def test_an_overlap_that_leaves_nothing_of_a_tile_is_an_error() -> None:
    with pytest.raises(ValueError, match="keep nothing of an overlap of 8 px"):
        tiling.tile_grid(100, 100, tile_of(size=16, overlap=8))
