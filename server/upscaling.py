"""One encoded picture through a network that takes pictures: tiles share batches with other callers' tiles.

Memory is the decoded picture, the canvas and a window of tiles; the network never sees more than a tile.
"""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.spec import Spec, Task
from server import codecs, tiling
from server.admission import Admission
from server.codecs import Encoding, Picture
from server.drawing import encode_timed
from server.errors import InvalidRequest, Overloaded
from server.flow import as_ready
from server.loading import Model
from server.picture_header import Format, Header
from server.tiling import Plan

_WINDOW_BATCHES = 4
_WINDOW_BYTES = 64 << 20


@dataclass(frozen=True)
class Source:
    """A picture as it was sent, its header read."""

    data: bytes
    header: Header


class Room:
    """Bytes that decoded pictures and canvases may hold, of all requests together. Loop thread only."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0

    @contextmanager
    def hold(self, nbytes: int) -> Iterator[None]:
        """Counts `nbytes` while the context lasts. One request alone always fits.

        Raises:
            Overloaded: others hold too much.
        """
        if self._held_bytes and self._held_bytes + nbytes > self._limit_bytes:
            raise Overloaded(
                f"the picture needs {nbytes} bytes, others hold {self._held_bytes}, limit {self._limit_bytes} "
                "(max_queue_bytes)"
            )
        self._held_bytes += nbytes
        try:
            yield
        finally:
            self._held_bytes -= nbytes


class Layout:
    """How the channels of a picture go through a model: known from the header, before anything is decoded.

    Super-resolution: colours and alpha each go through the network (Real-ESRGAN's way), a grey plane as three equal
    channels whose luma comes back, so grey stays grey. Image-to-image: grey goes in as three channels and the network's
    own channels come out; alpha is not a picture to translate and is only resized.
    """

    def __init__(self, spec: Spec, header: Header, keep_alpha: bool) -> None:
        self.input_name, self.output_name = spec.inputs[0].name, spec.outputs[0].name
        self.input, self.output = spec.inputs[0].name, spec.outputs[0].name
        self.model_channels = spec.image_shape[2]
        self.scale = spec.scale
        colours = 1 if header.channels < 3 else 3
        if self.model_channels not in (1, 3):
            raise InvalidRequest(f"model: takes {self.model_channels} channels, not a picture; use ModelInfer")
        if colours > self.model_channels:
            raise InvalidRequest(f"image: {colours} colours, but the model takes grey pictures of one channel")
        self.drawn_channels = spec.outputs[0].shape[-1] if spec.outputs[0].shape[-1] in (1, 3) else self.model_channels
        resolves = spec.task is Task.SUPER_RESOLUTION
        self.colours = colours if resolves else self.drawn_channels
        self.has_alpha = header.has_alpha and keep_alpha
        self.resolves_alpha = self.has_alpha and resolves
        self.plan: Plan = tiling.plan(header.height, header.width, spec.tile)
        self.tiles = len(self.plan) * (2 if self.resolves_alpha else 1)
        self.height, self.width = header.height * self.scale, header.width * self.scale
        self.channels = self.colours + self.has_alpha
        # Pillow's copy, the decoded pixels, the canvas, and about as much again while it is encoded.
        self.held_bytes = header.height * header.width * 8 + 2 * self.height * self.width * self.channels

    @property
    def tile_bytes(self) -> int:
        """Bytes of one tile on its way to the engine."""
        return self.plan.tile_height * self.plan.tile_width * self.model_channels


@dataclass(frozen=True)
class Plane:
    """The channels that go through the network together: tiles of (h, w, 1 or 3), and where on the canvas they go."""

    tiles: list[NDArray[np.uint8]]
    canvas: NDArray[np.uint8]

    def tile(self, index: int, channels: int) -> NDArray[np.uint8]:
        """Tile `index` as the engine takes it: (1, h, w, channels) uint8, contiguous."""
        tile = self.tiles[index]
        return np.ascontiguousarray(np.broadcast_to(tile, (*tile.shape[:2], channels)))[None]

    def place(self, tile: NDArray[np.uint8], layout: Layout, index: int) -> None:
        """Writes the network's answer, as luma where the plane is grey and the answer is not."""
        if tile.shape[2] > self.canvas.shape[2]:
            tile = codecs.to_grey(tile)
        tiling.place(self.canvas, tile, layout.plan, index, layout.scale)


@dataclass(frozen=True)
class Upscaled:
    """The encoded picture, (H, W, C) `shape`; the longest queue and compute times of its tiles."""

    data: bytes
    shape: tuple[int, int, int]
    tiles: int
    largest_batch: int
    queue_s: float
    compute_s: float
    decode_s: float
    encode_s: float


async def upscale(
    model: Model, layout: Layout, source: Source, encoding: Encoding, deadline: float | None, codec_pool: Executor
) -> Upscaled:
    """The picture through the network; leaving (also by cancellation) drops the tiles that have not run.

    Raises:
        InvalidRequest: the picture is damaged.
        CapacityError: at the door, or at the deadline.
        InferenceFailed: the engine could not run a tile.
    """
    loop = asyncio.get_running_loop()
    with model.batcher.admit(layout.tiles, layout.tiles * layout.tile_bytes, deadline) as admission:
        work = await loop.run_in_executor(codec_pool, _decode, source, layout)
        window = _window(layout, model.batcher.max_batch_size)
        ran = await _run(admission, layout, work.planes, window, codec_pool)
    data, encode_s = await loop.run_in_executor(codec_pool, encode_timed, work.canvas, encoding)
    return Upscaled(
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
    """The planes to run and the canvas that they fill."""

    planes: list[Plane]
    canvas: Picture
    decode_s: float


@dataclass(frozen=True)
class _Ran:
    """How one tile's batch was; without the pixels, which are on the canvas."""

    batch_size: int
    queue_s: float
    compute_s: float


def _window(layout: Layout, batch: int) -> int:
    """Tiles in flight: a few batches, fewer where they are large."""
    out_bytes = layout.plan.tile_height * layout.plan.tile_width * layout.scale**2 * layout.drawn_channels
    return max(batch, min(_WINDOW_BATCHES * batch, _WINDOW_BYTES // (layout.tile_bytes + out_bytes)))


async def _run(
    admission: Admission, layout: Layout, planes: list[Plane], window: int, codec_pool: Executor
) -> list[_Ran]:
    loop = asyncio.get_running_loop()

    async def run_tile(plane: Plane, index: int) -> _Ran:
        done = await admission.run({layout.input_name: plane.tile(index, layout.model_channels)})
        await loop.run_in_executor(codec_pool, plane.place, done.outputs[layout.output_name][0], layout, index)
        return _Ran(done.batch_size, done.queue_s, done.compute_s)

    tiles = (run_tile(plane, index) for plane in planes for index in range(len(layout.plan)))
    async with aclosing(as_ready(tiles, window)) as ran:
        return [tile async for tile in ran]


def _decode(source: Source, layout: Layout) -> _Work:
    """The planes of the decoded picture, and the canvas with what need not run already on it. Codec pool."""
    started = time.perf_counter()
    header = source.header
    if header.format is Format.RAW:
        picture = codecs.decode_raw(source.data, header.width, header.height)
    else:
        picture = codecs.decode(source.data, header)
    pixels = picture.pixels
    canvas = np.empty((layout.height, layout.width, layout.channels), np.uint8)
    colours = pixels[..., : pixels.shape[2] - header.has_alpha]
    planes = [Plane(_split(colours, layout), canvas[..., : layout.colours])]
    if layout.has_alpha:
        alpha = pixels[..., -1:]
        sink = canvas[..., -1:]
        if not layout.resolves_alpha:
            sink[:] = codecs.resize(alpha, layout.width, layout.height)
        elif alpha.min() == alpha.max():
            sink[:] = alpha[0, 0]  # opaque: nothing for the network to add
        else:
            planes.append(Plane(_split(alpha, layout), sink))
    fits = layout.colours == header.channels - header.has_alpha
    return _Work(planes, Picture(canvas, picture.icc if fits else None), time.perf_counter() - started)


def _split(pixels: NDArray[np.uint8], layout: Layout) -> list[NDArray[np.uint8]]:
    """The tiles as views; a picture that stays whole as the engine takes it, so that the loop need not copy it."""
    if len(layout.plan) == 1:
        pixels = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], layout.model_channels)))
    return tiling.split(pixels, layout.plan)
