"""Latents -> encoded pictures: one job per image, encoded as the batches come back."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from server.batching.batcher import Admission
from server.images import codecs, latents
from server.images.codecs import Encoding, Picture
from server.images.concurrency import as_ready
from server.images.header import Format
from server.images.latents import Noise
from server.observability.context import show_phase
from server.repository.loader import Model

# Images of one request that may be computed and not yet taken, in batches, and the bytes that they may hold.
_WINDOW_BATCHES = 4
_WINDOW_BYTES = 256 << 20
# Numbers of noise that are drawn faster (50 us) than handed to another thread.
_LITTLE_NOISE = 2048


@dataclass(frozen=True)
class Order:
    """What to draw. `arrays`: the model's inputs in the graph's order, n rows each; those of `noise` are drawn later.

    `output`: the name of its picture, (H, W, C) `shape` each.
    """

    arrays: dict[str, NDArray[Any]]
    output: str
    n: int
    seeds: Sequence[int] | None  # None for explicit latents and ws
    labels: NDArray[Any] | None
    noise: Noise | None  # None for a model without noise
    encoding: Encoding
    shape: tuple[int, int, int]

    @property
    def nbytes(self) -> int:
        """Bytes of the inputs."""
        return sum(array.nbytes for array in self.arrays.values())

    @property
    def image_bytes(self) -> int:
        """Bytes of one picture's pixels."""
        height, width, channels = self.shape
        return height * width * channels

    def row(self, index: int) -> dict[str, NDArray[Any]]:
        """The inputs of one image, noise included. Any thread."""
        row = latents.rows(self.arrays, index, index + 1)
        if self.noise is not None:
            row["noise"] = self.noise.row(index)
        return row


@dataclass(frozen=True)
class Drawn:
    """One encoded picture, (H, W, C) `shape`; `index` in its order; how its batch was."""

    index: int
    data: bytes
    shape: tuple[int, int, int]
    batch_size: int
    queue_s: float
    compute_s: float
    encode_s: float


async def draw(model: Model, order: Order, deadline: float | None, codec_pool: Executor) -> AsyncGenerator[Drawn, None]:
    """The pictures of an order as they become ready; closing the iterator drops the rest.

    Raises:
        CapacityError: at the door, or at the deadline.
        InferenceFailed: the engine could not run one of the images.
    """
    with model.batcher.admit(order.n, order.nbytes, deadline) as admission:
        if order.n == 1:
            yield await _draw_one(admission, order, 0, codec_pool)
            return
        batch = model.batcher.max_batch_size
        image_bytes = order.image_bytes + order.nbytes // order.n
        window = max(batch, min(_WINDOW_BATCHES * batch, _WINDOW_BYTES // image_bytes))
        work = (_draw_one(admission, order, index, codec_pool) for index in range(order.n))
        async with aclosing(as_ready(work, window)) as images:
            async for image in images:
                yield image


async def _draw_one(admission: Admission, order: Order, index: int, codec_pool: Executor) -> Drawn:
    loop = asyncio.get_running_loop()
    if order.noise is not None and order.noise.size > _LITTLE_NOISE:
        row = await loop.run_in_executor(codec_pool, order.row, index)
    else:
        row = order.row(index)
    done = await admission.run(row)
    picture = Picture(done.outputs[order.output][0])
    if order.encoding.format is Format.RAW:
        data, encode_s = picture.pixels.tobytes(), 0.0
    else:
        data, began_at, encode_s = await loop.run_in_executor(codec_pool, encode_timed, picture, order.encoding)
        show_phase("encode", began_at, encode_s)
    height, width, channels = picture.pixels.shape
    shape = (height, width, order.encoding.channels(channels))
    return Drawn(index, data, shape, done.batch_size, done.queue_s, done.compute_s, encode_s)


def encode_timed(picture: Picture, encoding: Encoding) -> tuple[bytes, float, float]:
    """The encoded picture, when that began on the monotonic clock, and the seconds that it took."""
    began_at = time.monotonic()
    data = codecs.encode(picture, encoding)
    return data, began_at, time.monotonic() - began_at
