"""Latents -> encoded images: one job per image, encoded as the batches come back."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from server.batching.batcher import Admission, Batcher
from server.images import codecs
from server.images.codecs import DecodedImage, Encoding
from server.images.concurrency import run_bounded
from server.images.header import Format
from server.images.latents import Noise
from server.images.workers import Workers
from server.observability.context import show_phase

# The window of a request in batches, and the bytes that it may hold.
_WINDOW_BATCHES = 4
_WINDOW_BYTES = 256 << 20
# Up to so many numbers, making the noise (50 us) is faster than handing it to another thread.
_INLINE_NOISE_SIZE = 2048


@dataclass(frozen=True)
class GenerateJob:
    """The images that one request asks of a generator.

    Attributes:
        arrays: the model's inputs in the graph's order, n items each. That of the noise is zero until an image's turn.
        output: name of the model's output, (N, H, W, C).
        n: number of images.
        seeds: one for each image; None for explicit latents and ws.
        labels: class indices (n,); None for a model without classes.
        noise: None for a model without noise.
        encoding: of the images.
        shape: (H, W, C) of each image.
    """

    arrays: dict[str, NDArray[Any]]
    output: str
    n: int
    seeds: Sequence[int] | None
    labels: NDArray[Any] | None
    noise: Noise | None
    encoding: Encoding
    shape: tuple[int, int, int]

    @property
    def nbytes(self) -> int:
        """Bytes of the inputs."""
        return sum(array.nbytes for array in self.arrays.values())

    @property
    def held_bytes(self) -> int:
        """Bytes of memory of the inputs: those that are not given are one number, whatever their shape."""
        return sum(array.nbytes for array in self.arrays.values() if any(array.strides))

    @property
    def image_bytes(self) -> int:
        """Bytes of one image's pixels."""
        height, width, channels = self.shape
        return height * width * channels

    def inputs(self, index: int) -> dict[str, NDArray[Any]]:
        """The inputs of one image, (1, ...) each, noise included. Any thread."""
        inputs = {name: array[index : index + 1] for name, array in self.arrays.items()}
        if self.noise is not None:
            inputs["noise"] = self.noise.of_image(index)
        return inputs


@dataclass(frozen=True)
class EncodedImage:
    """An encoded image of (H, W, C) `shape`, and the seconds that each phase took (the longest of its jobs)."""

    data: bytes
    shape: tuple[int, int, int]
    queue_s: float
    compute_s: float
    encode_s: float


@dataclass(frozen=True)
class GeneratedImage(EncodedImage):
    """`index`: in its job. `batch_size`: of the batch that it was computed in."""

    index: int
    batch_size: int


def window_of(batcher: Batcher, job: GenerateJob) -> int:
    """Images of one request that may be computed and not yet taken."""
    image_bytes = job.image_bytes + job.nbytes // job.n
    batch = batcher.max_batch_size
    return min(job.n, max(batch, min(_WINDOW_BATCHES * batch, _WINDOW_BYTES // image_bytes)))


async def generate(
    batcher: Batcher, job: GenerateJob, deadline: float | None, workers: Workers, window: int | None = None
) -> AsyncGenerator[GeneratedImage, None]:
    """The images of a job as they become ready; closing the iterator drops the rest.

    `window`: images that have a place in the queue at once, for a caller who may not take them; None: all.

    Raises:
        CapacityError: rejected on arrival, or the deadline passed.
        InferenceFailed: the engine could not compute one of the images.
    """
    with batcher.admit(job.n, job.nbytes, deadline, window=window) as admission:
        if job.n == 1:
            yield await _generate_one(admission, job, 0, workers)
            return
        work = (_generate_one(admission, job, index, workers) for index in range(job.n))
        async with aclosing(run_bounded(work, window_of(batcher, job))) as images:
            async for image in images:
                yield image


async def _generate_one(admission: Admission, job: GenerateJob, index: int, workers: Workers) -> GeneratedImage:
    if job.noise is not None and job.noise.size > _INLINE_NOISE_SIZE:
        inputs = await workers.run(job.inputs, index)
    else:
        inputs = job.inputs(index)
    done = await admission.run(inputs)
    image = DecodedImage(done.outputs[job.output][0])
    if job.encoding.format is Format.RAW:
        data, encode_s = image.pixels.tobytes(), 0.0
    else:
        data, started_at, encode_s = await workers.run(encode_timed, image, job.encoding)
        show_phase("encode", started_at, encode_s)
    height, width, channels = image.pixels.shape
    shape = (height, width, job.encoding.channels(channels))
    return GeneratedImage(data, shape, done.queue_s, done.compute_s, encode_s, index, done.batch_size)


def encode_timed(image: DecodedImage, encoding: Encoding) -> tuple[bytes, float, float]:
    """The encoded image, when that started on the monotonic clock, and the seconds that it took."""
    started_at = time.monotonic()
    data = codecs.encode(image, encoding)
    return data, started_at, time.monotonic() - started_at
