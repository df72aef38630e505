"""One encoded image through a network that takes images: its tiles share batches with other callers' tiles.

Memory is the decoded image, the canvas and a window of tiles; the network never sees more than a tile. Networks that
need the image whole get it as one tile, and share batches with images of the same padded size.
"""

import time
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.batching.batcher import Batcher
from server.batching.chain import Run
from server.images import codecs, tiling
from server.images.channels import Alpha, ChannelPlan
from server.images.codecs import DecodedImage, Encoding
from server.images.concurrency import run_bounded
from server.images.cutouts import keep_even
from server.images.encoded import EncodedImage, encode_timed
from server.images.header import Format
from server.images.memory import WINDOW_BYTES
from server.images.workers import Workers
from server.observability.context import show_phase

_WINDOW_BATCHES = 4


@dataclass(frozen=True)
class Plane:
    """The channels that go through the network together: tiles of (h, w, C), and where on the canvas they go."""

    tiles: list[NDArray[np.uint8]]
    canvas: NDArray[np.uint8]

    def tile(self, index: int, channels: int) -> NDArray[np.uint8]:
        """Tile `index` as the engine takes it: (1, h, w, channels) uint8, contiguous."""
        tile = self.tiles[index]
        return np.ascontiguousarray(np.broadcast_to(tile, (*tile.shape[:2], channels)))[None]

    def place(self, tile: NDArray[np.uint8], plan: ChannelPlan, index: int) -> None:
        """Writes the network's output to the canvas: as luma if the plane is grey and the output is not, without its
        alpha if none is wanted."""
        channels = self.canvas.shape[2]
        if tile.shape[2] > channels:
            tile = codecs.to_grey(tile) if channels == 1 else tile[..., :channels]
        tiling.place(self.canvas, tile, plan.grid, index, plan.scale)


@dataclass(frozen=True)
class Passed:
    """An image that went through a network, in so many tiles. `largest_batch`: of those that they were computed in;
    the seconds are the longest of its tiles."""

    image: DecodedImage
    tiles: int
    largest_batch: int
    queue_s: float
    compute_s: float


@dataclass(frozen=True)
class TransformedImage(EncodedImage):
    """`largest_batch`: of the batches that its tiles were computed in."""

    tiles: int
    largest_batch: int
    decode_s: float


async def transform(
    batcher: Batcher,
    plan: ChannelPlan,
    sent: bytes,
    encoding: Encoding,
    deadline: float | None,
    workers: Workers,
) -> TransformedImage:
    """The image `sent`, through the network. Leaving (also by cancellation) drops the tiles that have not run.

    Raises:
        InvalidRequest: the image is damaged, or has colours and the network takes grey.
        CapacityError: rejected on arrival, or the deadline passed.
        InferenceFailed: the engine could not compute a tile.
    """
    with batcher.admit(plan.tiles, plan.tiles * plan.tile_bytes, deadline) as admission:
        prepared, started_at, decode_s = await workers.run(_decode, sent, plan)
        show_phase("decode", started_at, decode_s)
        passed = await _pass(admission.run, batcher.max_batch_size, plan, prepared, workers)
    data, started_at, encode_s = await workers.run(encode_timed, passed.image, encoding)
    show_phase("encode", started_at, encode_s)
    return TransformedImage(
        data=data,
        shape=(plan.height, plan.width, encoding.channels(plan.channels)),
        queue_s=passed.queue_s,
        compute_s=passed.compute_s,
        encode_s=encode_s,
        tiles=passed.tiles,
        largest_batch=passed.largest_batch,
        decode_s=decode_s,
    )


async def pass_through(
    run: Run, max_batch_size: int, plan: ChannelPlan, image: DecodedImage, workers: Workers
) -> Passed:
    """An image that is decoded already, through the network. `run`: of an admission for `plan.tiles` jobs."""
    return await _pass(run, max_batch_size, plan, await workers.run(_prepare, image, plan), workers)


@dataclass(frozen=True)
class _Prepared:
    """The planes to run and the canvas that they fill.

    `upscaled_alpha`: the alpha as it was sent, (H, W, 1), if it is one of the planes.
    """

    planes: list[Plane]
    canvas: DecodedImage
    upscaled_alpha: NDArray[np.uint8] | None


@dataclass(frozen=True)
class _TileRun:
    """How one tile's batch went; without the pixels, which are on the canvas."""

    batch_size: int
    queue_s: float
    compute_s: float


def _window(plan: ChannelPlan, batch: int) -> int:
    """Tiles in flight: a few batches, fewer if they are large."""
    return max(batch, min(_WINDOW_BATCHES * batch, WINDOW_BYTES // (plan.tile_bytes + plan.output_bytes)))


async def _pass(run: Run, max_batch_size: int, plan: ChannelPlan, prepared: _Prepared, workers: Workers) -> Passed:
    async def run_tile(plane: Plane, index: int) -> _TileRun:
        done = await run({plan.input_name: plane.tile(index, plan.input_channels)})
        await workers.run(plane.place, done.outputs[plan.output_name][0], plan, index)
        return _TileRun(done.batch_size, done.queue_s, done.compute_s)

    work = (run_tile(plane, index) for plane in prepared.planes for index in range(len(plan.grid)))
    async with aclosing(run_bounded(work, _window(plan, max_batch_size))) as ready:
        tiles = [tile async for tile in ready]
    if prepared.upscaled_alpha is not None:
        await workers.run(keep_even, prepared.canvas.pixels, prepared.upscaled_alpha, plan.scale)
    return Passed(
        image=prepared.canvas,
        tiles=len(tiles),
        largest_batch=max(tile.batch_size for tile in tiles),
        queue_s=max(tile.queue_s for tile in tiles),
        compute_s=max(tile.compute_s for tile in tiles),
    )


def _decode(sent: bytes, plan: ChannelPlan) -> tuple[_Prepared, float, float]:
    """What of the image `sent` is run, when that started on the monotonic clock, and the seconds that it took. For a
    worker."""
    started_at = time.monotonic()
    header = plan.header
    if header.format is Format.RAW:
        image = codecs.decode_raw(sent, header.width, header.height)
    else:
        image = codecs.decode(sent, header)
    prepared = _prepare(image, plan)
    return prepared, started_at, time.monotonic() - started_at


def _prepare(image: DecodedImage, plan: ChannelPlan) -> _Prepared:
    """The planes of an image, and the canvas with what the network does not compute already on it. For a worker."""
    pixels = image.pixels
    canvas = np.empty(plan.shape, np.uint8)
    tiles = _split(plan.network_input(pixels), plan)
    planes = [Plane(tiles, canvas[..., : plan.network_channels])]
    alpha, alpha_canvas = pixels[..., -1:], canvas[..., -1:]
    upscaled_alpha = None
    if plan.alpha is Alpha.PASSED:
        alpha_canvas[:] = codecs.resize(alpha, plan.width, plan.height)
    elif plan.alpha is Alpha.UPSCALED:
        if alpha.min() == alpha.max():
            alpha_canvas[:] = alpha[0, 0]  # opaque: nothing for the network to add
        else:
            planes.append(Plane(_split(alpha, plan), alpha_canvas))
            upscaled_alpha = alpha
    fits = plan.colours == plan.header.channels - plan.header.has_alpha
    returned = DecodedImage(canvas, image.icc if fits else None)
    return _Prepared(planes, returned, upscaled_alpha)


def _split(pixels: NDArray[np.uint8], plan: ChannelPlan) -> list[NDArray[np.uint8]]:
    """The tiles as views; an image that stays whole as the engine takes it, so that the loop need not copy it."""
    if len(plan.grid) == 1:
        pixels = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], plan.input_channels)))
    return tiling.split(pixels, plan.grid)
