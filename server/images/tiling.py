"""A picture of any size -> tiles of one shape, and back.

Along an axis of length L, tiles of length T = min(L, tile size) begin at evenly spread places, the first at 0 and the
last at L - T, so every tile of a picture has the same shape and none needs padding. Neighbours overlap by at least
twice `overlap_px`. Each output pixel comes from the tile in which it is farthest from a cut edge: the border between
two neighbours is the middle of their overlap. A picture's own edge is not a cut: there the network sees the edge, as it
would see it in the whole picture.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from artifact.shapes import round_up
from artifact.spec import Tile


@dataclass(frozen=True)
class Cut:
    """One tile along one axis, in input px: it begins at `start` and answers for `keep_from`..`keep_to`-1."""

    start: int
    keep_from: int
    keep_to: int


@dataclass(frozen=True)
class Plan:
    """The tiles of one picture: every row cut with every column cut, row-major, all (tile_height, tile_width)."""

    height: int
    width: int
    padded_height: int
    padded_width: int
    tile_height: int
    tile_width: int
    row_cuts: tuple[Cut, ...]
    column_cuts: tuple[Cut, ...]

    def __len__(self) -> int:
        return len(self.row_cuts) * len(self.column_cuts)

    def cuts(self, index: int) -> tuple[Cut, Cut]:
        """The row cut and the column cut of tile `index`."""
        row, column = divmod(index, len(self.column_cuts))
        return self.row_cuts[row], self.column_cuts[column]


def plan(height: int, width: int, tile: Tile) -> Plan:
    """How a picture is cut."""
    return _plan(height, width, tile.size_px, tile.overlap_px, tile.multiple_px)


def plan_whole(height: int, width: int, multiple_px: int, least_px: int = 1) -> Plan:
    """A picture in one piece, as networks with global statistics need it, reflected out to multiple and least."""
    size = max(height, width, least_px) + multiple_px
    return _plan(height, width, size, 0, multiple_px, least_px)


def _plan(height: int, width: int, size: int, overlap: int, multiple: int, least: int = 1) -> Plan:
    padded_height, tile_height, row_cuts = _cut_axis(height, size, overlap, multiple, least)
    padded_width, tile_width, column_cuts = _cut_axis(width, size, overlap, multiple, least)
    return Plan(height, width, padded_height, padded_width, tile_height, tile_width, row_cuts, column_cuts)


def split(image: NDArray[np.uint8], plan: Plan) -> list[NDArray[np.uint8]]:
    """The tiles of `image` (H, W, C) as views, each (tile_height, tile_width, C).

    Where the network asks for a multiple, bottom and right are first reflected out to it (a copy).
    """
    bottom, right = plan.padded_height - plan.height, plan.padded_width - plan.width
    if bottom or right:
        image = np.pad(image, ((0, bottom), (0, right), (0, 0)), "reflect")
    corners = [(row.start, column.start) for row in plan.row_cuts for column in plan.column_cuts]
    return [image[y : y + plan.tile_height, x : x + plan.tile_width] for y, x in corners]


def place(canvas: NDArray[np.uint8], tile: NDArray[np.uint8], plan: Plan, index: int, scale: int) -> None:
    """Writes the part of `canvas` (scale H, scale W, C) that tile `index`, run through the network, answers for."""
    row, column = plan.cuts(index)
    canvas[_scaled(row, 0, scale), _scaled(column, 0, scale)] = tile[
        _scaled(row, row.start, scale), _scaled(column, column.start, scale)
    ]


def join(tiles: Iterable[NDArray[np.uint8]], plan: Plan, scale: int) -> NDArray[np.uint8]:
    """The picture (scale H, scale W, C) from its tiles in order, each run through the network."""
    canvas: NDArray[np.uint8] | None = None
    for index, tile in enumerate(tiles):
        if canvas is None:
            canvas = np.empty((plan.height * scale, plan.width * scale, tile.shape[2]), np.uint8)
        place(canvas, tile, plan, index, scale)
    if canvas is None:
        raise ValueError("no tiles")
    return canvas


def _scaled(cut: Cut, origin: int, scale: int) -> slice:
    return slice((cut.keep_from - origin) * scale, (cut.keep_to - origin) * scale)


def _cut_axis(length: int, size: int, overlap: int, multiple: int, least: int) -> tuple[int, int, tuple[Cut, ...]]:
    """The padded length, the tile's length, and the cuts of one axis. All starts are multiples of `multiple`."""
    padded = round_up(max(length, least), multiple)
    tile = min(padded, size // multiple * multiple)
    if padded == tile:
        return padded, tile, (Cut(0, 0, length),)
    step = (tile - 2 * overlap) // multiple
    if step < 1:
        raise ValueError(f"tiles of {tile} px keep nothing of an overlap of {overlap} px (multiple of {multiple} px)")
    distance = (padded - tile) // multiple
    gaps = -(-distance // step)
    starts = [i * distance // gaps * multiple for i in range(gaps + 1)]
    borders = [(left + tile + right) // 2 for left, right in pairwise(starts)]
    edges = [0, *borders, length]
    return padded, tile, tuple(Cut(start, edges[i], edges[i + 1]) for i, start in enumerate(starts))
