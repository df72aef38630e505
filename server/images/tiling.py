"""An image of any size -> tiles of one shape, and back.

Along an axis of length L that is longer than a tile may be, the number of tiles n is the smallest that covers it with
the largest tiles, and their length T the shortest with which n tiles do: T >= (L + (n - 1) * 2 * overlap) / n, rounded
up to STEP_PX. The tiles start at evenly spaced places, the first at 0 and the last at L - T, so that every tile of an
image has the same shape and none needs padding. Neighbours overlap by at least twice `overlap_px`. Each output pixel
comes from the tile in which it is farthest from a cut edge: the border between two neighbours is the middle of their
overlap. The image's own edge is not a cut: there the network sees the edge, as it would see it in the whole image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.shapes import round_up
from artifact.spec import ShapeRange, Tile

# Tiles that are cut have sides of multiples of this, so that images of many sizes have tiles of few shapes, for which
# engines plan or compile. It costs 4 % of computed pixels on average; 16 would cost 9 %.
STEP_PX = 8


@dataclass(frozen=True)
class TileSpan:
    """One tile along one axis, in input px: it starts at `start`, and its px `keep_from`..`keep_to`-1 are kept."""

    start: int
    keep_from: int
    keep_to: int


@dataclass(frozen=True)
class TileGrid:
    """The tiles of one image: every row span with every column span, row-major, all (tile_height, tile_width)."""

    height: int
    width: int
    padded_height: int
    padded_width: int
    tile_height: int
    tile_width: int
    row_spans: tuple[TileSpan, ...]
    column_spans: tuple[TileSpan, ...]

    def __len__(self) -> int:
        return len(self.row_spans) * len(self.column_spans)

    @property
    def computed_px(self) -> int:
        """Of all tiles together, in input px."""
        return len(self) * self.tile_height * self.tile_width

    def spans(self, index: int) -> tuple[TileSpan, TileSpan]:
        """The row span and the column span of tile `index`."""
        row, column = divmod(index, len(self.column_spans))
        return self.row_spans[row], self.column_spans[column]


def tile_grid(height: int, width: int, tile: Tile, sizes: Sequence[ShapeRange] = ()) -> TileGrid:
    """How an image is cut: into tiles of one of `sizes`, the one with which the fewest pixels are computed.

    Args:
        sizes: (H, W) that tiles may have; see `artifact.shapes.tile_sizes`. If none of them can cut the image, or none
            is given: every size up to `tile.size_px`.
    """
    multiple, overlap = tile.multiple_px, tile.overlap_px
    grids = []
    for size in sizes:
        rows = _cut_axis(height, size.min[0], size.max[0], overlap, multiple)
        columns = _cut_axis(width, size.min[1], size.max[1], overlap, multiple)
        if rows is not None and columns is not None:
            grids.append(_grid(height, width, rows, columns))
    if not grids:
        rows, columns = (_cut_axis(length, 1, tile.size_px, overlap, multiple) for length in (height, width))
        if rows is None or columns is None:
            raise ValueError(
                f"tiles of {tile.size_px} px keep nothing of an overlap of {overlap} px (multiple of {multiple} px)"
            )
        return _grid(height, width, rows, columns)
    return min(grids, key=lambda grid: grid.computed_px)


def whole_grid(height: int, width: int, multiple_px: int, min_px: int = 1) -> TileGrid:
    """An image in one piece, as networks with global statistics need it; reflection extends it to the multiple and the
    minimum."""
    rows, columns = (_whole_axis(length, round_up(max(length, min_px), multiple_px)) for length in (height, width))
    return _grid(height, width, rows, columns)


def split(image: NDArray[Any], grid: TileGrid) -> list[NDArray[Any]]:
    """The tiles of `image` (H, W, C) as views, each (tile_height, tile_width, C).

    If the network needs a multiple, bottom and right are first reflected to it (a copy).
    """
    bottom, right = grid.padded_height - grid.height, grid.padded_width - grid.width
    if bottom or right:
        image = np.pad(image, ((0, bottom), (0, right), (0, 0)), "reflect")
    corners = [(row.start, column.start) for row in grid.row_spans for column in grid.column_spans]
    return [image[y : y + grid.tile_height, x : x + grid.tile_width] for y, x in corners]


def place(band: NDArray[Any], tile: NDArray[Any], grid: TileGrid, index: int, scale: int) -> None:
    """Writes the kept part of tile `index`, as the network returned it, to `band` (scale h, scale W, C): the rows of
    the enlarged image that the tiles of its row keep."""
    row, column = grid.spans(index)
    band[:, _scaled(column, 0, scale)] = tile[_scaled(row, row.start, scale), _scaled(column, column.start, scale)]


def _scaled(span: TileSpan, origin: int, scale: int) -> slice:
    return slice((span.keep_from - origin) * scale, (span.keep_to - origin) * scale)


@dataclass(frozen=True)
class _Axis:
    """One axis of a grid: its length after padding, its tiles' length, and their spans; px."""

    padded: int
    tile: int
    spans: tuple[TileSpan, ...]


def _grid(height: int, width: int, rows: _Axis, columns: _Axis) -> TileGrid:
    return TileGrid(height, width, rows.padded, columns.padded, rows.tile, columns.tile, rows.spans, columns.spans)


def _whole_axis(length: int, padded: int) -> _Axis:
    return _Axis(padded, padded, (TileSpan(0, 0, length),))


def _cut_axis(length: int, low: int, high: int, overlap: int, multiple: int) -> _Axis | None:
    """An axis in tiles of `low` to `high` px; all lengths and starts are multiples of `multiple`.

    None if there are no such sizes, if the axis is shorter than `low`, or if nothing of a tile of `high` is left
    without its overlap.
    """
    padded, low, high = round_up(length, multiple), round_up(low, multiple), high // multiple * multiple
    lost = round_up(2 * overlap, multiple)
    if padded < low or high < low:
        return None
    if padded <= high:
        return _whole_axis(length, padded)
    if high <= lost:
        return None
    gaps = -(-(padded - high) // (high - lost))
    shortest = -(-(padded + gaps * lost) // (gaps + 1))
    tile = max(low, min(high, round_up(shortest, round_up(STEP_PX, multiple))))
    distance = (padded - tile) // multiple
    starts = [i * distance // gaps * multiple for i in range(gaps + 1)]
    borders = [(left + tile + right) // 2 for left, right in pairwise(starts)]
    edges = [0, *borders, length]
    return _Axis(padded, tile, tuple(TileSpan(start, edges[i], edges[i + 1]) for i, start in enumerate(starts)))
