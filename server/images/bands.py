"""The tiles that a network returns, in any order -> rows of the enlarged image, in theirs.

A band is what the tiles of one row of the grid become. It is open from the first of them until the last has come and
the bands above it have left.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.images import codecs, tiling
from server.images.channels import Alpha, ChannelPlan
from server.images.codecs import DecodedImage
from server.images.cutouts import keep_even
from server.images.metadata.block import Metadata
from server.images.rows import Pixels, Rows, resize
from server.images.turns import turn


@dataclass(frozen=True)
class Plane:
    """The channels that go through the network together: tiles of (h, w, C), and the channels of a band that they
    become."""

    tiles: list[Pixels]
    channels: slice

    def tile(self, index: int, channels: int, is_float: bool, number: int = 0) -> Pixels:
        """Tile `index`, turned the way of that number, as the engine takes it: (1, h, w, channels), contiguous;
        `is_float`: as floats in [0, 1]."""
        tile = turn(self.tiles[index], number)
        if is_float:
            tile = tile.astype(np.float32) / np.float32(np.iinfo(tile.dtype).max)
        return np.ascontiguousarray(np.broadcast_to(tile, (*tile.shape[:2], channels)))[None]


@dataclass(frozen=True)
class Prepared:
    """An image that is decoded: what of it goes through the network, and what of it does not.

    `planes`: colours first, then alpha if it goes through. `alpha`: as it was sent, (H, W, 1), if it is returned and
    not generated; of the returned image's size already if it goes around the network. `even_alpha`: its one value.
    """

    planes: tuple[Plane, ...]
    alpha: Pixels | None
    even_alpha: int | None
    metadata: Metadata


def prepare(image: DecodedImage, plan: ChannelPlan) -> Prepared:
    """The planes of an image. For a worker.

    Raises:
        InvalidRequest: the image has colours and the network takes grey.
    """
    pixels = image.pixels
    planes = [Plane(_split(plan.network_input(pixels), plan), slice(0, plan.network_channels))]
    alpha, even_alpha = None, None
    if plan.alpha is Alpha.PASSED:
        alpha = resize(pixels[..., -1:], plan.width, plan.height)
    elif plan.alpha is Alpha.UPSCALED:
        alpha = pixels[..., -1:]
        if alpha.min() == alpha.max():
            even_alpha = int(alpha[0, 0, 0])  # nothing for the network to add
        else:
            planes.append(Plane(_split(alpha, plan), slice(plan.channels - 1, plan.channels)))
    fits = plan.colours == plan.header.channels - plan.header.has_alpha
    return Prepared(tuple(planes), alpha, even_alpha, image.metadata if fits else image.metadata.without_colours())


def _split(pixels: Pixels, plan: ChannelPlan) -> list[Pixels]:
    """The tiles as views; an image that stays whole as the engine takes it, so that the loop need not copy it."""
    if len(plan.grid) == 1:
        pixels = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], plan.input_channels)))
    return tiling.split(pixels, plan.grid)


class Bands:
    """The bands of one image. `open` and `leaving` on the loop, `place` and `close` on workers."""

    def __init__(self, plan: ChannelPlan, prepared: Prepared, rows: Rows) -> None:
        """`rows`: where they go."""
        self._plan = plan
        self._prepared = prepared
        self._rows = rows
        self._open: dict[int, Pixels] = {}
        columns = len(plan.grid.column_spans)
        self._missing = [columns * len(prepared.planes)] * len(plan.grid.row_spans)
        self._next = 0

    def open(self, index: int) -> Pixels:
        """The band that tile `index` is in."""
        row, _ = divmod(index, len(self._plan.grid.column_spans))
        if row not in self._open:
            top, bottom = self._edges(row)
            space = self._rows.space(top, bottom)
            shape = (bottom - top, *self._plan.shape[1:])
            self._open[row] = np.empty(shape, self._plan.dtype) if space is None else space
        return self._open[row]

    def place(self, band: Pixels, plane: Plane, index: int, output: NDArray[Any]) -> None:
        """Writes the network's output for a tile (h, w, C) to its band: as luma if the plane is grey and the output is
        not, without its alpha if none is wanted."""
        target = band[..., plane.channels]
        channels = target.shape[2]
        if output.shape[2] > channels:
            output = codecs.to_grey(output) if channels == 1 else output[..., :channels]
        if output.dtype == np.float32:
            top = np.float32(np.iinfo(target.dtype).max)
            output = np.rint(np.clip(output, 0.0, 1.0) * top).astype(target.dtype)
        tiling.place(target, output, self._plan.grid, index, self._plan.scale)

    def leaving(self, index: int) -> list[int]:
        """The bands that can leave now that tile `index` has its place."""
        row, _ = divmod(index, len(self._plan.grid.column_spans))
        self._missing[row] -= 1
        first = self._next
        while self._next < len(self._missing) and not self._missing[self._next]:
            self._next += 1
        return list(range(first, self._next))

    @property
    def are_complete(self) -> bool:
        """Whether every tile has its place."""
        return self._next == len(self._missing)

    def close(self, row: int) -> None:
        """Puts the alpha that was not computed into a band, and hands it on."""
        band = self._open.pop(row)
        plan, alpha = self._plan, self._prepared.alpha
        if alpha is not None:
            top, bottom = self._edges(row)
            if plan.alpha is Alpha.PASSED:
                band[..., -1:] = alpha[top:bottom]
            elif self._prepared.even_alpha is not None:
                band[..., -1] = self._prepared.even_alpha
            else:
                keep_even(band, alpha, top // plan.scale, plan.scale)
        self._rows.write(band)

    def _edges(self, row: int) -> tuple[int, int]:
        """The rows of the enlarged image that a band has."""
        span = self._plan.grid.row_spans[row]
        return span.keep_from * self._plan.scale, span.keep_to * self._plan.scale
