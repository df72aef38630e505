"""A film through the server, frame by frame, into another film that keeps everything else."""

import hashlib
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from ganserve.cli.media.film.colour import Colour
from ganserve.cli.media.film.encoding import Chosen, chosen
from ganserve.cli.media.film.mux import check_streams, mux
from ganserve.cli.media.film.segments import Segments
from ganserve.cli.media.film.source import Interlacing, Span, constant_rate, frames, main_stream, opened, time_of
from ganserve.cli.media.image import Call, Result
from ganserve.cli.media.options import FilmOptions
from ganserve.cli.media.plan import Conversion
from ganserve.cli.media.run import progress_bar
from ganserve.cli.media.write import written_whole
from ganserve.cli.output import CommandError
from ganserve.client.png import Pixels

REUSE_BYTES = 256 << 20  # of results that are kept for equal frames


@dataclass
class FilmReport:
    """What became of a film: its size, frames, how many of these the server computed, and the last result."""

    width: int = 0
    height: int = 0
    frames: int = 0
    computed: int = 0
    resumed_at_s: float = 0.0
    notes: list[str] = field(default_factory=list)
    result: Result | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """For the JSON report."""
        names = ("width", "height", "frames", "computed", "resumed_at_s")
        model = {} if self.result is None else {"model": self.result.model, "version": self.result.version}
        return {**model, **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True)
class FilmConverter:
    """Converts one film after another.

    Attributes:
        call: one frame through the server.
        grey: whether the model takes grey images only: it then gets the frames' lightness.
        options: of the command, for films.
        in_flight: frames that are sent at a time.
        facts: of the requests; pieces that were made by others are not taken up.
    """

    call: Call
    grey: bool
    options: FilmOptions
    in_flight: int
    facts: dict[str, Any]

    def convert(self, conversion: Conversion) -> FilmReport:
        """Reads, calls and writes; goes on where an earlier run of the same was stopped.

        Raises:
            CommandError: no film, or one that the target cannot hold; before any frame is sent.
        """
        source, target = conversion.source, conversion.target
        if source is None or target is None:
            raise CommandError("a film is read from a file and written to a file, not a pipe")
        target.parent.mkdir(parents=True, exist_ok=True)
        report = FilmReport()
        first = next(frames(source, Interlacing(None), None), None)
        if first is None:
            raise CommandError("it has no frame that can be read")
        colour = Colour.of(first)
        encoder = chosen(self.options, target.suffix.lower(), first.format)
        lost = check_streams(source, target)
        report.notes += [f"{name} cannot be copied and is left out" for name in lost]
        if len(first.format.components) in (2, 4):
            report.notes.append("its alpha channel is not kept")
        wanted = Span.of(time_of(first), self.options.start_s, self.options.end_s)
        rate = constant_rate(source) if target.suffix.lower() == ".avi" else None
        segments = Segments.of(target, self._facts(source, encoder))
        if not segments.complete:
            work = _Work(self, source, colour, encoder, segments, report, wanted)
            work.run()
        with written_whole(target) as part:
            mux(source, segments, part, target, lost, first, wanted, rate)
        segments.delete()
        return report

    def _facts(self, source: Path, encoder: Chosen) -> dict[str, Any]:
        status = source.stat()
        film = {"name": source.name, "size": status.st_size, "changed_ns": status.st_mtime_ns}
        options = {"deinterlace": self.options.deinterlace, "grey": self.grey}
        options |= {"start": str(self.options.start_s), "end": str(self.options.end_s)}
        return {"film": film, "encoding": asdict(encoder), "request": self.facts, "options": options}


@dataclass
class _Work:
    """The pieces of one film that are not there yet."""

    converter: FilmConverter
    source: Path
    colour: Colour
    encoder: Chosen
    segments: Segments
    report: FilmReport
    wanted: Span

    def run(self) -> None:
        """Makes them, one after the other.

        Raises:
            CommandError: nothing of the film is wanted.
        """
        done, origin = self.segments.done, self.segments.origin
        start = self.wanted.start
        if done and origin is not None:
            start = self.segments.start(done, origin)
            self.report.resumed_at_s = float(start - origin)
        interlacing = Interlacing.of(self.source, self.converter.options.deinterlace)
        with opened(self.source) as container:
            stream = main_stream(container)
            time_base, rate = stream.time_base, stream.average_rate or stream.guessed_rate or Fraction(25)
            aspect = stream.sample_aspect_ratio
            total = self.wanted.frames_of(stream.frames, (container.duration or 0) / 1_000_000, rate)
        bar = progress_bar("frames", total) if sys.stderr.isatty() else nullcontext(lambda n: None)
        with bar as advance, ThreadPoolExecutor(self.converter.in_flight) as threads:
            sender = _Sender(self.converter, threads)
            found = takewhile(self.wanted.reaches, frames(self.source, interlacing, start))
            for index, group in groupby(found, key=self._index):
                for missed in range(self.segments.done, index):  # a gap of more than a piece
                    self.segments.path(missed).write_bytes(b"")
                with written_whole(self.segments.path(index)) as part:
                    made = self._made(group, sender, time_base, advance)
                    self.encoder.write(part, made, colour=self.colour, time_base=time_base, rate=rate, aspect=aspect)
        if self.segments.origin is None:
            raise CommandError(f"it has no frame from {float(self.converter.options.start_s):g} s on")
        self.report.computed = sender.computed
        self.segments.finish()

    def _index(self, frame: Any) -> int:
        origin = self.segments.origin
        if origin is None:
            origin = self.segments.note_origin(time_of(frame))
        return self.segments.index(time_of(frame), origin)

    def _made(
        self, group: Iterator[Any], sender: "_Sender", time_base: Fraction, advance: Callable[[int], None]
    ) -> Iterator[Any]:
        """Encoder's frames for the decoded ones, some of which are on their way to the server at a time."""
        waiting: deque[tuple[Any, Future[Result]]] = deque()
        for frame in group:
            pixels = self.colour.pixels(frame)
            waiting.append((frame, sender.send(pixels)))
            if len(waiting) > self.converter.in_flight:
                yield self._received(*waiting.popleft(), time_base)
                advance(1)
        while waiting:
            yield self._received(*waiting.popleft(), time_base)
            advance(1)

    def _received(self, frame: Any, sent: "Future[Result]", time_base: Fraction) -> Any:
        result = sent.result()
        width, height = self.encoder.sides(result.width, result.height)
        if self.report.result is None:
            self.segments.note_version(result.version)
            if (width, height) != (result.width, result.height):
                self.report.notes.append(
                    f"cut from {result.width} x {result.height} to {width} x {height} px: {self.encoder.pixel_format} "
                    "needs even sides, --pixel-format yuv444p does not"
                )
        self.report.result = result
        self.report.width, self.report.height = width, height
        self.report.frames += 1
        made = self.colour.frame(result.array[:height, :width], self.encoder.pixel_format)
        made.pts, made.time_base = frame.pts - round((self.segments.origin or 0) / time_base), time_base
        return made


class _Sender:
    """Sends frames; equal ones once, as long as their result is kept."""

    def __init__(self, converter: FilmConverter, threads: ThreadPoolExecutor) -> None:
        self._converter = converter
        self._threads = threads
        self._kept: OrderedDict[bytes, Future[Result]] = OrderedDict()
        self.computed = 0

    def send(self, pixels: Pixels) -> "Future[Result]":
        """The result to come."""
        if self._converter.grey:
            weights = np.array((0.299, 0.587, 0.114))
            pixels = np.rint(pixels @ weights).astype(pixels.dtype)[..., None]
        key = hashlib.sha256(pixels.tobytes()).digest()
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        self.computed += 1
        wanted: Any = "raw" if pixels.dtype == np.uint8 else "png"
        future = self._threads.submit(self._converter.call, pixels, wanted, None)
        self._kept[key] = future
        self._forget()
        return future

    def _forget(self) -> None:
        """Lets go of the oldest results while all take more than REUSE_BYTES."""
        oldest = next(iter(self._kept.values()))
        if not oldest.done() or oldest.exception() is not None:
            return
        size = len(oldest.result().data) * 2  # the bytes, and what they are decoded to
        while len(self._kept) > max(self._converter.in_flight, REUSE_BYTES // size):
            self._kept.popitem(last=False)
