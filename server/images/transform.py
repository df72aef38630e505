"""One encoded image through a network that takes images: its tiles share batches with other callers' tiles.

Memory is the decoded image, a window of tiles and the bands that they are in; the network never sees more than a tile,
and a PNG is encoded as the bands come. Networks that need the image whole get it as one tile, and share batches with
images of the same padded size.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeAlias, TypeVar

from server.batching.batcher import Batcher
from server.batching.chain import Run
from server.batching.job import Done
from server.images import codecs
from server.images.bands import Bands, Plane, Prepared, prepare
from server.images.channels import ChannelPlan
from server.images.codecs import DecodedImage, Encoding
from server.images.concurrency import run_bounded, together
from server.images.encoded import EncodedImage, Output
from server.images.header import Format
from server.images.marking import marked
from server.images.memory import window_of
from server.images.metadata.block import Metadata, Policy
from server.images.metadata.write import fit
from server.images.rows import Canvas, Pixels, Rows
from server.images.sizes import TransformPlan
from server.images.turns import mean
from server.images.workers import Workers
from server.observability.context import show_phase
from server.observability.image_window import ImageWindow

T = TypeVar("T")
Watch: TypeAlias = Callable[[int, bytes], Awaitable[None]]

# Of EXIF, XMP and texts: what puts more into a format is no work for the loop's thread.
_LONG_METADATA_BYTES = 64 << 10


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
    """`largest_batch`: of the batches that its tiles were computed in. `warnings`: what of the sent image's metadata is
    lost."""

    tiles: int
    largest_batch: int
    decode_s: float
    warnings: tuple[str, ...] = ()


async def transform(
    batcher: Batcher,
    plan: TransformPlan,
    sent: bytes,
    encoding: Encoding,
    deadline: float | None,
    workers: Workers,
    watch: Watch | None = None,
    max_metadata_bytes: int = 0,
    recount: Callable[[float], None] = lambda detail: None,
) -> TransformedImage:
    """The image `sent`, through the network. Leaving (also by cancellation) drops the tiles that have not run.

    `watch` gets how many tiles are done, and what of the encoded image is there; its `data` is the rest then. The work
    goes on when it returns. `max_metadata_bytes`: of EXIF, XMP and texts, if they are kept. `recount` gets the share
    that a PNG takes of its pixels' bytes, as soon as that is known.

    Raises:
        InvalidRequest: the image is damaged, or has colours and the network takes grey.
        CapacityError: rejected on arrival, or the deadline passed.
        InferenceFailed: the engine could not compute a tile.
    """
    batch = batcher.max_batch_size
    tally = _Tally(batcher.statistics.images)
    last = plan.passes[-1]
    kept_bytes = max_metadata_bytes if encoding.metadata is Policy.KEEP else None
    window = max(window_of(each, batch) for each in plan.passes)
    with batcher.admit(plan.tiles, plan.input_bytes, deadline, window=window) as admission:
        prepared, started_at, decode_s = await workers.run(_decode, sent, plan, kept_bytes)
        show_phase("decode", started_at, decode_s)
        for each, following in pairwise(plan.passes):
            canvas = Canvas(each.shape, each.dtype)
            finish = partial(_prepare_again, canvas, prepared, following)
            told = partial(_tell, watch, tally, None)
            prepared = await _pass(admission.run, batch, each, prepared, canvas, finish, workers, tally, told)
        is_long = prepared.metadata.nbytes > _LONG_METADATA_BYTES
        output, warnings = await workers.run_if(is_long, _begin, plan, encoding, prepared.metadata)
        # what is signed is sent when it is whole
        sends = None if encoding.marking is not None and encoding.marking.is_signed else output
        told = partial(_tell, watch, tally, sends, partial(_recount, recount, output))
        data = await _pass(admission.run, batch, last, prepared, output, output.finish, workers, tally, told)
    show_phase("encode", output.started_at, output.seconds)
    return TransformedImage(
        data=data,
        shape=(plan.height, plan.width, encoding.channels(plan.channels)),
        queue_s=tally.queue_s,
        compute_s=tally.compute_s,
        encode_s=output.seconds,
        tiles=tally.tiles,
        largest_batch=tally.largest_batch,
        decode_s=decode_s,
        warnings=warnings,
    )


async def pass_through(run: Run, batcher: Batcher, plan: ChannelPlan, image: DecodedImage, workers: Workers) -> Passed:
    """An image that is decoded already, through the network. `run`: of an admission for `plan.tiles` jobs."""
    tally = _Tally(batcher.statistics.images)
    prepared = await workers.run(prepare, image, plan)
    canvas = Canvas(plan.shape, plan.dtype)
    finish = partial(DecodedImage, canvas.pixels, prepared.metadata)
    passed = await _pass(run, batcher.max_batch_size, plan, prepared, canvas, finish, workers, tally)
    return Passed(passed, tally.tiles, tally.largest_batch, tally.queue_s, tally.compute_s)


@dataclass
class _Tally:
    """How the tiles of an image went so far; the seconds are the longest of one. `seen`: looks at some of them."""

    seen: ImageWindow | None
    tiles: int = 0
    largest_batch: int = 0
    queue_s: float = 0.0
    compute_s: float = 0.0

    def add(self, done: Done) -> None:
        self.tiles += 1
        self.largest_batch = max(self.largest_batch, done.batch_size)
        self.queue_s = max(self.queue_s, done.queue_s)
        self.compute_s = max(self.compute_s, done.compute_s)


async def _pass(
    run: Run,
    max_batch_size: int,
    plan: ChannelPlan,
    prepared: Prepared,
    rows: Rows,
    finish: Callable[[], T],
    workers: Workers,
    tally: _Tally,
    told: Callable[[], Awaitable[None]] | None = None,
) -> T:
    """Runs the tiles, whose rows go to `rows` from the top down; what `finish` returns when all of them are there.
    `told`: awaited after every tile but the last."""
    bands = Bands(plan, prepared, rows)

    async def run_turned(plane: Plane, index: int, number: int) -> Pixels:
        is_long = plan.is_float or number  # samples become floats, or are gathered from everywhere
        tile = await workers.run_if(bool(is_long), plane.tile, index, plan.input_channels, plan.is_float, number)
        done = await run({plan.input_name: tile, **plan.others})
        tally.add(done)
        output: Pixels = done.outputs[plan.output_name][0]
        return output

    async def run_tile(plane: Plane, index: int) -> int:
        band = bands.open(index)
        if plan.turns == 1:
            output = await run_turned(plane, index, 0)
        else:
            output = await workers.run(mean, await together(run_turned(plane, index, n) for n in range(plan.turns)))
        if tally.seen is not None and plane is prepared.planes[0]:  # the colours
            tally.seen.see(output)
        await workers.run(bands.place, band, plane, index, output)
        return index

    columns = len(plan.grid.column_spans)
    work = (
        run_tile(plane, index)
        for first in range(0, len(plan.grid), columns)
        for plane in prepared.planes
        for index in range(first, first + columns)
    )
    async with aclosing(run_bounded(work, window_of(plan, max_batch_size) // plan.turns)) as ready:
        async for index in ready:
            leaving = bands.leaving(index)
            if bands.are_complete:
                return await workers.run(_end, bands, leaving, finish)
            for row in leaving:
                await workers.run(bands.close, row)
            if told is not None:
                await told()
    raise AssertionError("the last tile completes the bands")


async def _tell(
    watch: Watch | None, tally: _Tally, output: Output | None, recount: Callable[[], None] = lambda: None
) -> None:
    recount()
    if watch is not None:
        await watch(tally.tiles, b"" if output is None else output.take())


def _recount(recount: Callable[[float], None], output: Output) -> None:
    if (share := output.share) is not None:
        recount(share)


def _end(bands: Bands, leaving: list[int], finish: Callable[[], T]) -> T:
    for row in leaving:
        bands.close(row)
    return finish()


def _decode(sent: bytes, plan: TransformPlan, metadata_bytes: int | None) -> tuple[Prepared, float, float]:
    """What of the image `sent` is run first, when that started on the monotonic clock, and the seconds that it took.
    For a worker."""
    started_at = time.monotonic()
    header = plan.header
    if header.format is Format.RAW:
        image = codecs.decode_raw(sent, header, plan.bits)
    else:
        image = codecs.decode(sent, header, plan.bits, metadata_bytes)
    if (crop := plan.crop) is not None:
        part = image.pixels[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        image = DecodedImage(part, image.metadata)
    prepared = prepare(image, plan.passes[0])
    return prepared, started_at, time.monotonic() - started_at


def _begin(plan: TransformPlan, encoding: Encoding, found: Metadata) -> tuple[Output, tuple[str, ...]]:
    """The image to be sent, with what of the metadata goes into it, and warnings for what does not."""
    fitting = fit(found, encoding.metadata, encoding.format, plan.shape)
    return Output(plan, encoding, marked(fitting.metadata, encoding.marking, encoding.format)), fitting.warnings


def _prepare_again(canvas: Canvas, before: Prepared, plan: ChannelPlan) -> Prepared:
    return prepare(DecodedImage(canvas.pixels, before.metadata), plan)
