"""Latents -> encoded images: one job per image; as the batches come back, through further networks if wanted, and
encoded."""

import math
from collections.abc import AsyncGenerator, Hashable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from server.batching.batcher import Batcher
from server.batching.chain import Chain, Stage
from server.batching.job import Done
from server.engines.base import Arrays
from server.images.changes import Changes
from server.images.channels import ChannelPlan
from server.images.codecs import DecodedImage, Encoding
from server.images.concurrency import run_bounded
from server.images.encoded import EncodedImage, encode_timed
from server.images.header import Format
from server.images.latents import Noise
from server.images.marking import marked
from server.images.memory import transform_bytes
from server.images.metadata.block import NOTHING
from server.images.rows import resize
from server.images.selection import Candidate, Choice, Selection, choose
from server.images.sizes import in_one_pass
from server.images.transform import pass_through
from server.images.workers import Workers
from server.observability.context import show_phase
from server.observability.image_window import ImageWindow

# The window of a request in batches, and the bytes that it may hold.
_WINDOW_BATCHES = 4
_WINDOW_BYTES = 256 << 20
# Up to so many numbers, making the noise (50 us) is faster than handing it to another thread.
_INLINE_NOISE_SIZE = 2048


@dataclass(frozen=True)
class Passage:
    """A network that every image goes through after the generator. `step`: for the texts of errors."""

    step: str
    batcher: Batcher
    plan: ChannelPlan


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
        drawn: (H, W, C) of each image, as the networks give it.
        shape: the same, as it is returned.
        then: what the images go through before they are encoded.
        step: the generator's, for the texts of errors if others follow it.
        changes: what `changed` makes of the arrays; None: nothing.
        w: what the images were generated from, (n, layers, length), if the caller wants it; None before `changed`.
        is_plain: whether nothing of them but seed, label and noise was chosen by the caller.
        selection: how each image is chosen among candidates; arrays, seeds, labels, noise and w have an item for each
            of these, image by image. None: there is one for each.
    """

    arrays: dict[str, NDArray[Any]]
    output: str
    n: int
    seeds: Sequence[int] | None
    labels: NDArray[Any] | None
    noise: Noise | None
    encoding: Encoding
    drawn: tuple[int, int, int]
    shape: tuple[int, int, int]
    then: tuple[Passage, ...] = ()
    step: str = ""
    changes: Changes | None = None
    w: NDArray[Any] | None = None
    is_plain: bool = False
    selection: Selection | None = None

    @property
    def rows(self) -> int:
        """Items that are generated at most."""
        return self.n if self.selection is None else self.n * self.selection.tries

    def changed(self) -> "GenerateJob":
        """With the changes made, if there are any. For a worker: it may run the mapping network for every image."""
        if self.changes is None:
            return self
        arrays = self.changes.apply(self.arrays, self.labels)
        return replace(self, arrays=arrays, changes=None, w=arrays["w"] if self.changes.return_w else None)

    @property
    def changing_bytes(self) -> int:
        """Bytes of memory of what `changed` makes; it takes twice as much meanwhile."""
        return 0 if self.changes is None else self.rows * self.changes.image_bytes

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

    @property
    def largest_px(self) -> int:
        """Pixels of one image where it has most of them: as it is returned, or as one of the networks gives it."""
        shapes = (self.shape, self.drawn, *(passage.plan.shape for passage in self.then))
        return max(height * width for height, width, _ in shapes)

    @property
    def reply_bytes(self) -> int:
        """Bytes of one image in the reply if it is not compressed, with its w."""
        w = self.changes.image_bytes if self.changes is not None and self.changes.return_w else 0
        return self.image_bytes + (w if self.w is None else self.w.nbytes // self.rows)

    @property
    def passing_bytes(self) -> int:
        """What one image takes while it is chosen, on its way through `then` and to its size, at its peak."""
        passages = (
            transform_bytes(in_one_pass(passage.plan), self.encoding, passage.batcher.max_batch_size, True)
            for passage in self.then
        )
        resized = math.prod(self.drawn) + self.image_bytes if self.drawn != self.shape else 0
        return max((*passages, resized, 0 if self.selection is None else self.selection.held_bytes))

    def key(self, index: int) -> Hashable:
        """What a plain image is made of; None for others."""
        if not self.is_plain or self.seeds is None:
            return None
        noise_seed = None if self.noise is None else self.noise.seeds[index]
        return self.seeds[index], None if self.labels is None else int(self.labels[index]), noise_seed

    def inputs(self, index: int) -> dict[str, NDArray[Any]]:
        """The inputs of one image, (1, ...) each, noise included. Any thread."""
        inputs = {name: array[index : index + 1] for name, array in self.arrays.items()}
        if self.noise is not None:
            inputs["noise"] = self.noise.of_image(index)
        return inputs


@dataclass(frozen=True)
class PassReport:
    """How an image went through one network after the generator. `largest_batch`: of those of its tiles."""

    tiles: int
    largest_batch: int


@dataclass(frozen=True)
class GeneratedImage(EncodedImage):
    """`index`: in its job; `row`: of its inputs, of which there may be several for an image. `batch_size`: of the batch
    that it was computed in. `passes`: one for each of the job's."""

    index: int
    row: int
    batch_size: int
    passes: tuple[PassReport, ...] = ()
    choice: Choice | None = None


def window_of(batcher: Batcher, job: GenerateJob) -> int:
    """Images of one request that may be computed and not yet taken: a few batches, fewer if they are large. Those that
    go on through other networks, or to another size, need not fill a batch."""
    image_bytes = job.image_bytes + job.passing_bytes + job.nbytes // job.n
    batch = batcher.max_batch_size
    least = 1 if job.then or job.shape != job.drawn else batch
    return min(job.n, max(least, min(_WINDOW_BATCHES * batch, _WINDOW_BYTES // image_bytes)))


async def generate(
    batcher: Batcher, job: GenerateJob, deadline: float | None, workers: Workers, window: int | None = None
) -> AsyncGenerator[GeneratedImage, None]:
    """The images of a job as they become ready; closing the iterator drops the rest.

    `window`: images that have a place in the queue at once, for a caller who may not take them; None: all.

    Raises:
        CapacityError: rejected on arrival, or the deadline passed.
        InferenceFailed: the engine could not compute one of the images.
    """
    with Chain(_stages(batcher, job, window), deadline) as chain:
        if job.n == 1:
            yield await _generate_one(chain, job, 0, workers, batcher.statistics.images)
            return
        seen = batcher.statistics.images
        work = (_generate_one(chain, job, index, workers, seen) for index in range(job.n))
        async with aclosing(run_bounded(work, window_of(batcher, job))) as images:
            async for image in images:
                yield image


def _stages(batcher: Batcher, job: GenerateJob, window: int | None) -> list[Stage]:
    selection = job.selection
    candidates = window if window is None or selection is None else window * selection.at_once
    stages = [Stage(job.step, batcher, job.rows, job.nbytes, candidates)]
    for passage in job.then:
        plan, at_once = passage.plan, window_of(batcher, job)
        tiles = job.n * plan.tiles
        stages.append(Stage(passage.step, passage.batcher, tiles, tiles * plan.tile_bytes, at_once * plan.tiles))
    if selection is not None:
        critic = selection.critic
        stages.append(Stage("the critic", critic.batcher, job.rows, job.rows * critic.item_bytes, candidates))
    return stages


async def _generate_one(
    chain: Chain, job: GenerateJob, index: int, workers: Workers, seen: ImageWindow | None
) -> GeneratedImage:
    async def make(row: int) -> Candidate:
        if job.noise is not None and job.noise.size > _INLINE_NOISE_SIZE:
            inputs = await workers.run(job.inputs, row)
        else:
            inputs = job.inputs(row)
        with chain.step(0) as run:
            done = await run(inputs)
        image = DecodedImage(done.outputs[job.output][0])
        if seen is not None:
            seen.see(image.pixels, job.key(row), 0 if job.labels is None else int(job.labels[row]))
        return Candidate(row, image, done.queue_s, done.compute_s, done.batch_size)

    async def judge(inputs: Arrays) -> Done:
        with chain.step(len(job.then) + 1) as run:
            return await run(inputs)

    choice: Choice | None = None
    if job.selection is None:
        drawn = await make(index)
    else:
        assert job.seeds is not None, "candidates are made of seeds"
        labels = None if job.labels is None else job.labels.tolist()
        drawn, choice = await choose(job.selection, index, job.seeds, labels, make, judge)
    image, queue_s, compute_s, passes = drawn.image, drawn.queue_s, drawn.compute_s, []
    for number, passage in enumerate(job.then, 1):
        with chain.step(number) as run:
            passed = await pass_through(run, passage.batcher, passage.plan, image, workers)
        image = passed.image
        queue_s, compute_s = queue_s + passed.queue_s, compute_s + passed.compute_s
        passes.append(PassReport(passed.tiles, passed.largest_batch))
    if job.shape != job.drawn:
        image = replace(image, pixels=await workers.run(resize, image.pixels, job.shape[1], job.shape[0]))
    metadata = marked(NOTHING, job.encoding.marking, job.encoding.format)
    image = replace(image, metadata=metadata)
    if job.encoding.format is Format.RAW:
        data, encode_s = image.pixels.tobytes(), 0.0
    else:
        data, started_at, encode_s = await workers.run(encode_timed, image, job.encoding)
        show_phase("encode", started_at, encode_s)
    height, width, channels = image.pixels.shape
    shape = (height, width, job.encoding.channels(channels))
    return GeneratedImage(
        data, shape, queue_s, compute_s, encode_s, index, drawn.row, drawn.batch_size, tuple(passes), choice
    )
