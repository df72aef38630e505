"""An image of any size -> tiles of one shape, and back.

Along an axis of length L, tiles of length T = min(L, tile size) start at evenly spaced places, the first at 0 and the
last at L - T, so that every tile of an image has the same shape and none needs padding. Neighbours overlap by at least
twice `overlap_px`. Each output pixel comes from the tile in which it is farthest from a cut edge: the border between
two neighbours is the middle of their overlap. The image's own edge is not a cut: there the network sees the edge, as it
would see it in the whole image.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from artifact.shapes import round_up
from artifact.spec import Tile


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

    def spans(self, index: int) -> tuple[TileSpan, TileSpan]:
        """The row span and the column span of tile `index`."""
        row, column = divmod(index, len(self.column_spans))
        return self.row_spans[row], self.column_spans[column]


def tile_grid(height: int, width: int, tile: Tile) -> TileGrid:
    """How an image is cut."""
    return _grid(height, width, tile.size_px, tile.overlap_px, tile.multiple_px)


def whole_grid(height: int, width: int, multiple_px: int, min_px: int = 1) -> TileGrid:
    """An image in one piece, as networks with global statistics need it; reflection extends it to the multiple and the
    minimum."""
    size = max(height, width, min_px) + multiple_px
    return _grid(height, width, size, 0, multiple_px, min_px)


def _grid(height: int, width: int, size: int, overlap: int, multiple: int, min_px: int = 1) -> TileGrid:
    padded_height, tile_height, row_spans = _cut_axis(height, size, overlap, multiple, min_px)
    padded_width, tile_width, column_spans = _cut_axis(width, size, overlap, multiple, min_px)
    return TileGrid(height, width, padded_height, padded_width, tile_height, tile_width, row_spans, column_spans)


def split(image: NDArray[np.uint8], grid: TileGrid) -> list[NDArray[np.uint8]]:
    """The tiles of `image` (H, W, C) as views, each (tile_height, tile_width, C).

    If the network needs a multiple, bottom and right are first reflected to it (a copy).
    """
    bottom, right = grid.padded_height - grid.height, grid.padded_width - grid.width
    if bottom or right:
        image = np.pad(image, ((0, bottom), (0, right), (0, 0)), "reflect")
    corners = [(row.start, column.start) for row in grid.row_spans for column in grid.column_spans]
    return [image[y : y + grid.tile_height, x : x + grid.tile_width] for y, x in corners]


def place(canvas: NDArray[np.uint8], tile: NDArray[np.uint8], grid: TileGrid, index: int, scale: int) -> None:
    """Writes the kept part of tile `index`, as the network returned it, to `canvas` (scale H, scale W, C)."""
    row, column = grid.spans(index)
    canvas[_scaled(row, 0, scale), _scaled(column, 0, scale)] = tile[
        _scaled(row, row.start, scale), _scaled(column, column.start, scale)
    ]


def _scaled(span: TileSpan, origin: int, scale: int) -> slice:
    return slice((span.keep_from - origin) * scale, (span.keep_to - origin) * scale)


def _cut_axis(
    length: int, size: int, overlap: int, multiple: int, min_px: int
) -> tuple[int, int, tuple[TileSpan, ...]]:
    """The padded length, the tile's length, and the spans of one axis. All starts are multiples of `multiple`."""
    padded = round_up(max(length, min_px), multiple)
    tile = min(padded, size // multiple * multiple)
    if padded == tile:
        return padded, tile, (TileSpan(0, 0, length),)
    step = (tile - 2 * overlap) // multiple
    if step < 1:
        raise ValueError(f"tiles of {tile} px keep nothing of an overlap of {overlap} px (multiple of {multiple} px)")
    distance = (padded - tile) // multiple
    gaps = -(-distance // step)
    starts = [i * distance // gaps * multiple for i in range(gaps + 1)]
    borders = [(left + tile + right) // 2 for left, right in pairwise(starts)]
    edges = [0, *borders, length]
    return padded, tile, tuple(TileSpan(start, edges[i], edges[i + 1]) for i, start in enumerate(starts))
