"""The frames of a film with their time stamps, from any point on, without interlacing."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

import av

from ganserve.cli.output import CommandError

SAMPLE_FRAMES = 240  # that are looked at for interlacing
LEAD_S = Fraction(1)  # of frames before the first wanted one, which the filter needs
OTHERS_LEAD_S = 30  # of sound and subtitles, which may have begun long before
IDET = "lavfi.idet.multiple.current_frame"


@dataclass(frozen=True)
class Interlacing:
    """How frames are made whole: not at all, those that the file marks, or all, by the order of their fields."""

    options: str | None

    @staticmethod
    def of(path: Path, wanted: str) -> "Interlacing":
        """By the option: `off`, `on` (all frames), or `auto`: by the file's marks and by how its frames look."""
        if wanted == "off":
            return Interlacing(None)
        marked, seen = _looked_at(path)
        parity = "bff" if seen["bff"] > seen["tff"] else "tff"
        if wanted == "on":
            return Interlacing("deint=all:parity=" + ("auto" if marked else parity))
        interlaced = seen["tff"] + seen["bff"]
        if marked and seen["progressive"] <= 4 * interlaced:
            return Interlacing("deint=interlaced")
        return Interlacing(f"deint=all:parity={parity}" if interlaced > seen["progressive"] else None)


@dataclass(frozen=True)
class Span:
    """What of a film is wanted, in its own time, seconds. None: from its beginning, to its end."""

    start: Fraction | None
    end: Fraction | None

    @staticmethod
    def of(first: Fraction, start_s: Fraction, end_s: Fraction | None) -> "Span":
        """Of a film whose first frame is shown at `first`."""
        return Span(first + start_s if start_s else None, None if end_s is None else first + end_s)

    def reaches(self, frame: Any) -> bool:
        """Whether the frame is shown before the end."""
        return self.end is None or time_of(frame) < self.end

    def frames_of(self, frames: int, duration_s: float, rate: Fraction) -> int | None:
        """How many frames that is, about; None: not known."""
        if self.start is None and self.end is None:
            return frames or int(duration_s * rate) or None
        last = duration_s if self.end is None else min(float(self.end), duration_s or float(self.end))
        return max(1, int((last - float(self.start or 0)) * rate))


def constant_rate(path: Path) -> Fraction:
    """Frames in a second, for a container that has no time stamps.

    Raises:
        CommandError: the time stamps are not evenly spaced.
    """
    with opened(path) as container:
        stream = main_stream(container)
        rate = Fraction(stream.average_rate or 25)
        times = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
        step = 1 / rate / stream.time_base
        if any(abs(pts - times[0] - place * step) > max(1, step / 4) for place, pts in enumerate(times)):
            raise CommandError("its frames are not evenly spaced in time, which .avi cannot hold; .mkv can")
    return rate


def _looked_at(path: Path) -> tuple[bool, Counter[str]]:
    """Whether a frame is marked as interlaced, and how many look so, with which field first."""
    marked, seen = False, Counter[str]()
    with opened(path) as container:
        stream = main_stream(container)
        graph = _graph(stream, "idet", None)
        for frame in islice(_decoded(container, stream), SAMPLE_FRAMES):
            marked = marked or frame.interlaced_frame
            graph.push(frame)
            for each in _pulled(graph):
                seen[str(each.metadata.get(IDET, ""))] += 1
    return marked, seen


def opened(path: Path) -> Any:
    """The container.

    Raises:
        CommandError: it is no film that can be read.
    """
    try:
        return av.open(str(path))
    except av.FFmpegError as error:
        if isinstance(error, OSError) and not path.exists():
            raise
        raise CommandError(f"no film that can be read: {error.strerror or error}") from None


def main_stream(container: Any) -> Any:
    """The first video stream that is no cover picture.

    Raises:
        CommandError: there is none.
    """
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            stream.thread_type = "AUTO"
            return stream
    raise CommandError("it has no video stream")


def frames(path: Path, interlacing: Interlacing, start: Fraction | None) -> Iterator[Any]:
    """Decoded frames in the order of their time stamps, in the stream's time base.

    Args:
        path: of the film.
        interlacing: what becomes of interlaced frames.
        start: the first wanted time in seconds; None: from the beginning.
    """
    if start is None:
        yield from _read(path, interlacing, None)
        return
    found = _read(path, interlacing, start)
    first = next(found, None)
    if first is None or time_of(first) > start:  # it cannot be sought in
        first, found = None, _read(path, interlacing, None)
    rest = found if first is None else chain([first], found)
    yield from (frame for frame in rest if time_of(frame) >= start)


def time_of(frame: Any) -> Fraction:
    """Seconds."""
    return Fraction(frame.pts * frame.time_base)


def _read(path: Path, interlacing: Interlacing, start: Fraction | None) -> Iterator[Any]:
    with opened(path) as container:
        stream = main_stream(container)
        if start is not None:
            offset = int((start - LEAD_S) / stream.time_base)
            try:
                container.seek(max(offset, stream.start_time or 0), stream=stream, backward=True)
            except av.FFmpegError:
                return
        decoded = _decoded(container, stream)
        if interlacing.options is None:
            yield from decoded
            return
        graph = _graph(stream, "bwdif", f"mode=send_frame:{interlacing.options}")
        for frame in chain(decoded, [None]):
            graph.push(frame)
            yield from _pulled(graph, stream.time_base)


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Frames with time stamps that grow; packets that are damaged are left out, as players do."""
    last = None
    step = max(1, round(1 / (stream.average_rate or 25) / stream.time_base))
    for packet in container.demux(stream):
        try:
            decoded = packet.decode()
        except av.InvalidDataError:
            continue
        for frame in decoded:
            if frame.pts is None:
                frame.pts = 0 if last is None else last + step
            if last is not None and frame.pts <= last:
                frame.pts = last + 1
            last = frame.pts
            frame.time_base = stream.time_base
            yield frame


def _graph(stream: Any, name: str, options: str | None) -> Any:
    graph = av.filter.Graph()
    nodes = [graph.add_buffer(template=stream), graph.add(name, options), graph.add("buffersink")]
    graph.link_nodes(*nodes).configure()
    return graph


def _pulled(graph: Any, time_base: Fraction | None = None) -> Iterator[Any]:
    """What the filter has ready; its time stamps in `time_base`."""
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, EOFError):
            return
        if time_base is not None:
            frame.pts, frame.time_base = round(time_of(frame) / time_base), time_base
        yield frame
