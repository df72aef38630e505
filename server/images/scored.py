"""Pictures as people send them -> what a critic takes: of the generator's size and channels, 8 bits, nothing hidden."""

import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.errors import InvalidRequest
from server.images import codecs
from server.images.concurrency import run_bounded
from server.images.critic import Critic
from server.images.header import Format, Header
from server.images.memory import decode_bytes
from server.images.rows import resize
from server.images.sizes import Fit, Size, crop_of
from server.images.workers import Workers
from server.observability.context import show_phase

# Pictures of one request that are decoded and wait for a batch, or are in one.
_WINDOW_BATCHES = 2


@dataclass(frozen=True)
class ScoreJob:
    """Pictures that one request wants scored: as sent, with their headers, and labels if the critic takes them."""

    images: Sequence[bytes]
    headers: Sequence[Header]
    labels: NDArray[np.int64] | None
    fit: Fit | None
    warnings: Sequence[str]

    @property
    def n(self) -> int:
        """How many there are."""
        return len(self.images)

    @property
    def pixels(self) -> int:
        """Of all of them, as sent."""
        return sum(header.width * header.height for header in self.headers)

    @property
    def held_bytes(self) -> int:
        """Of memory: every picture at its peak."""
        return sum(
            header.width * header.height * (decode_bytes(header) + header.channels) + header.codes_bytes
            for header in self.headers
        )

    def label(self, index: int) -> int | None:
        """Of one picture."""
        return None if self.labels is None else int(self.labels[index])


@dataclass(frozen=True)
class Scored:
    """What became of one picture. `batch_size`: of the batch that it was in."""

    index: int
    score: float
    percentile: float
    batch_size: int
    queue_s: float
    compute_s: float
    decode_s: float


async def score(critic: Critic, job: ScoreJob, deadline: float | None, workers: Workers) -> list[Scored]:
    """The scores of the pictures, in their order.

    Raises:
        InvalidRequest: one of them is damaged or not like the model's images.
        CapacityError: rejected on arrival, or the deadline passed.
        InferenceFailed: the engine could not score one.
    """
    window = min(job.n, _WINDOW_BATCHES * critic.batcher.max_batch_size)
    with critic.batcher.admit(job.n, job.n * critic.item_bytes, deadline, window=window) as admission:

        async def score_one(index: int) -> Scored:
            field = f"image {index + 1} of {job.n}" if job.n > 1 else "image"
            started_at = time.monotonic()
            sent, header = job.images[index], job.headers[index]
            pixels, decode_s = await workers.run(prepare, field, sent, header, critic.spec.image_shape, job.fit)
            show_phase("decode", started_at, decode_s)
            label = job.label(index)
            done = await admission.run(critic.inputs(pixels, label))
            value = float(done.outputs["score"][0])
            percentile = critic.percentile(value, label)
            return Scored(index, value, percentile, done.batch_size, done.queue_s, done.compute_s, decode_s)

        found: list[Scored] = []
        async with aclosing(run_bounded((score_one(index) for index in range(job.n)), window)) as ready:
            async for each in ready:
                found.append(each)
    return sorted(found, key=lambda each: each.index)


def check_size(field: str, header: Header, shape: tuple[int, int, int], fit: Fit | None) -> None:
    """Checks that an image has the generator's size, or may be resized to it.

    Raises:
        InvalidRequest: it has another size, and `fit` is not given.
    """
    height, width, _ = shape
    if fit is None and (header.width, header.height) != (width, height):
        raise InvalidRequest(
            f"{field}: {header.width} x {header.height} px, the model's images have {width} x {height}; send that, "
            "or set fit to COVER or FILL"
        )


def prepare(
    field: str, sent: bytes, header: Header, shape: tuple[int, int, int], fit: Fit | None
) -> tuple[NDArray[np.uint8], float]:
    """(the image (H, W, C) uint8 of `shape`, seconds that it took). For a worker.

    Raises:
        InvalidRequest: damaged, transparent where the model has no alpha, or coloured where it makes grey images.
    """
    started = time.monotonic()
    image = codecs.decode_raw(sent, header) if header.format is Format.RAW else codecs.decode(sent, header)
    height, width, channels = shape
    pixels = _with_channels(field, image.pixels, channels)
    if pixels.shape[:2] != (height, width):
        if fit is Fit.COVER:
            crop = crop_of(Size(width=width, height=height, fit=fit), pixels.shape[1], pixels.shape[0])
            if crop is not None:
                pixels = pixels[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        pixels = resize(np.ascontiguousarray(pixels), width, height)
    return pixels, time.monotonic() - started


def _with_channels(field: str, pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """The image with the model's channels: grey becomes three equal ones, three equal ones grey, opaque alpha goes."""
    if pixels.shape[2] == channels:
        return pixels
    has_alpha = pixels.shape[2] in (2, 4)
    colours = pixels[..., :-1] if has_alpha else pixels
    if has_alpha and channels in (1, 3) and (pixels[..., -1] != 255).any():
        raise InvalidRequest(f"{field}: it is transparent in places, which the model's images are not; flatten it")
    if channels == 1:
        if (colours != colours[..., :1]).any():
            raise InvalidRequest(f"{field}: it has colours, but the model makes grey images")
        return colours[..., :1]
    if channels not in (3, 4):
        raise InvalidRequest(f"{field}: {pixels.shape[2]} channels, the model's images have {channels}; send it raw")
    colours = np.broadcast_to(colours, (*colours.shape[:2], 3))
    if channels == 3:
        return colours
    alpha = pixels[..., -1:] if has_alpha else np.full((*pixels.shape[:2], 1), 255, np.uint8)
    return np.concatenate([colours, alpha], axis=2)
