"""One encoded picture through a network that takes pictures: tiles share batches with other callers' tiles.

Memory is the decoded picture, the canvas and a window of tiles; the network never sees more than a tile. Networks that
need the picture whole get it as one tile, and share batches with pictures of the same padded size.
"""

import asyncio
import time
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.batching.batcher import Admission
from server.images import codecs, tiling
from server.images.channels import Alpha, Layout
from server.images.codecs import Encoding, Picture
from server.images.concurrency import as_ready
from server.images.generate import encode_timed
from server.images.header import Format
from server.observability.context import show_phase
from server.repository.loader import Model

_WINDOW_BATCHES = 4
_WINDOW_BYTES = 64 << 20


@dataclass(frozen=True)
class Plane:
    """The channels that go through the network together: tiles of (h, w, C), and where on the canvas they go."""

    tiles: list[NDArray[np.uint8]]
    canvas: NDArray[np.uint8]

    def tile(self, index: int, channels: int) -> NDArray[np.uint8]:
        """Tile `index` as the engine takes it: (1, h, w, channels) uint8, contiguous."""
        tile = self.tiles[index]
        return np.ascontiguousarray(np.broadcast_to(tile, (*tile.shape[:2], channels)))[None]

    def place(self, tile: NDArray[np.uint8], layout: Layout, index: int) -> None:
        """Writes the network's answer, as luma where the plane is grey and the answer is not, without its alpha where
        none is wanted."""
        channels = self.canvas.shape[2]
        if tile.shape[2] > channels:
            tile = codecs.to_grey(tile) if channels == 1 else tile[..., :channels]
        tiling.place(self.canvas, tile, layout.plan, index, layout.scale)


@dataclass(frozen=True)
class Repainted:
    """The encoded picture, (H, W, C) `shape`; the longest queue and compute times of its tiles."""

    data: bytes
    shape: tuple[int, int, int]
    tiles: int
    largest_batch: int
    queue_s: float
    compute_s: float
    decode_s: float
    encode_s: float


async def repaint(
    model: Model, layout: Layout, sent: bytes, encoding: Encoding, deadline: float | None, codec_pool: Executor
) -> Repainted:
    """The picture `sent`, through the network; leaving (also by cancellation) drops the tiles that have not run.

    Raises:
        InvalidRequest: the picture is damaged, or has colours where the network takes grey.
        CapacityError: at the door, or at the deadline.
        InferenceFailed: the engine could not run a tile.
    """
    loop = asyncio.get_running_loop()
    with model.batcher.admit(layout.tiles, layout.tiles * layout.tile_bytes, deadline) as admission:
        work = await loop.run_in_executor(codec_pool, _decode, sent, layout)
        show_phase("decode", work.began_at, work.decode_s)
        window = _window(layout, model.batcher.max_batch_size)
        ran = await _run(admission, layout, work.planes, window, codec_pool)
    data, began_at, encode_s = await loop.run_in_executor(codec_pool, encode_timed, work.canvas, encoding)
    show_phase("encode", began_at, encode_s)
    return Repainted(
        data=data,
        shape=(layout.height, layout.width, encoding.channels(layout.channels)),
        tiles=len(ran),
        largest_batch=max(tile.batch_size for tile in ran),
        queue_s=max(tile.queue_s for tile in ran),
        compute_s=max(tile.compute_s for tile in ran),
        decode_s=work.decode_s,
        encode_s=encode_s,
    )


@dataclass(frozen=True)
class _Work:
    """The planes to run and the canvas that they fill; decoding began at `began_at` on the monotonic clock."""

    planes: list[Plane]
    canvas: Picture
    began_at: float
    decode_s: float


@dataclass(frozen=True)
class _Ran:
    """How one tile's batch was; without the pixels, which are on the canvas."""

    batch_size: int
    queue_s: float
    compute_s: float


def _window(layout: Layout, batch: int) -> int:
    """Tiles in flight: a few batches, fewer where they are large."""
    return max(batch, min(_WINDOW_BATCHES * batch, _WINDOW_BYTES // (layout.tile_bytes + layout.answer_bytes)))


async def _run(
    admission: Admission, layout: Layout, planes: list[Plane], window: int, codec_pool: Executor
) -> list[_Ran]:
    loop = asyncio.get_running_loop()

    async def run_tile(plane: Plane, index: int) -> _Ran:
        done = await admission.run({layout.input_name: plane.tile(index, layout.input_channels)})
        await loop.run_in_executor(codec_pool, plane.place, done.outputs[layout.output_name][0], layout, index)
        return _Ran(done.batch_size, done.queue_s, done.compute_s)

    tiles = (run_tile(plane, index) for plane in planes for index in range(len(layout.plan)))
    async with aclosing(as_ready(tiles, window)) as ran:
        return [tile async for tile in ran]


def _decode(sent: bytes, layout: Layout) -> _Work:
    """The planes of the decoded picture, and the canvas with what need not run already on it. Codec pool."""
    began_at = time.monotonic()
    header = layout.header
    if header.format is Format.RAW:
        picture = codecs.decode_raw(sent, header.width, header.height)
    else:
        picture = codecs.decode(sent, header)
    pixels = picture.pixels
    canvas = np.empty((layout.height, layout.width, layout.channels), np.uint8)
    tiles = _split(layout.feed(pixels), layout)
    planes = [Plane(tiles, canvas[..., : layout.drawn_channels])]
    alpha, sink = pixels[..., -1:], canvas[..., -1:]
    if layout.alpha is Alpha.RESIZED:
        sink[:] = codecs.resize(alpha, layout.width, layout.height)
    elif layout.alpha is Alpha.ENLARGED:
        if alpha.min() == alpha.max():
            sink[:] = alpha[0, 0]  # opaque: nothing for the network to add
        else:
            planes.append(Plane(_split(alpha, layout), sink))
    fits = layout.colours == header.channels - header.has_alpha
    return _Work(planes, Picture(canvas, picture.icc if fits else None), began_at, time.monotonic() - began_at)


def _split(pixels: NDArray[np.uint8], layout: Layout) -> list[NDArray[np.uint8]]:
    """The tiles as views; a picture that stays whole as the engine takes it, so that the loop need not copy it."""
    if len(layout.plan) == 1:
        pixels = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], layout.input_channels)))
    return tiling.split(pixels, layout.plan)
