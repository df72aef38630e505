"""The finished film: the new video, and everything else of the source as it was."""

import heapq
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from ganserve.cli.media.film.colour import Colour
from ganserve.cli.media.film.segments import AS_THEY_ARE, Segments
from ganserve.cli.media.film.source import OTHERS_LEAD_S, Span, main_stream, opened
from ganserve.cli.output import CommandError

FORMATS = {".mkv": "matroska", ".webm": "webm", ".m4v": "mp4"}


def check_streams(source: Path, target: Path) -> list[str]:
    """Tries whether the target's container takes the source's other streams; the data streams that it cannot carry.

    Raises:
        CommandError: sound or subtitles that it cannot carry.
    """
    lost = []
    with opened(source) as container:
        video = main_stream(container)
        for stream in container.streams:
            if stream is video or stream.type == "attachment":
                continue
            if not _fits(container, stream, target):
                name = f"stream {stream.index} ({stream.type}, {_codec_name(stream)})"
                if stream.type != "data":
                    raise CommandError(
                        f"{name} of {source} cannot be in a {target.suffix} file; .mkv or the input's own may"
                    )
                lost.append(name)
    return lost


def _codec_name(stream: Any) -> str:
    return "unknown codec" if stream.codec_context is None else str(stream.codec_context.name)


def _fits(container: Any, stream: Any, target: Path) -> bool:
    """Whether the target's container takes the stream, of sound with a packet: some look at it only when they end."""
    if stream.type == "data" and stream.codec_context is None:
        return False
    trial = target.with_name(f".{target.name}.trial{target.suffix}")
    try:
        with av.open(str(trial), "w", format=FORMATS.get(target.suffix.lower())) as out:
            copied = out.add_stream_from_template(stream, opaque=True)
            out.start_encoding()
            packets = container.demux(stream) if stream.type == "audio" else ()
            if packet := next((each for each in packets if each.dts is not None), None):
                packet.stream = copied
                out.mux(packet)
    except (av.FFmpegError, ValueError):
        return False
    finally:
        trial.unlink(missing_ok=True)
        container.seek(0)
    return True


def mux(
    source: Path,
    segments: Segments,
    part: Path,
    target: Path,
    lost: list[str],
    first: Any,
    wanted: Span,
    rate: Fraction | None,
) -> None:
    """Writes the film to `part`, in the container that `target` names.

    Args:
        first: the source's first frame.
        wanted: what of the source; a part begins at 0.
        rate: frames in a second, in a container without time stamps.
    """
    with (
        opened(source) as read,
        segments.stream() as made,
        av.open(str(part), "w", format=FORMATS.get(target.suffix.lower()), options=AS_THEY_ARE) as out,
    ):
        video = main_stream(read)
        streams: dict[int, Any] = {}
        for stream in read.streams:
            if stream is video:
                new_video = _video_stream(out, made.streams.video[0], video, first, rate)
            elif stream.type == "attachment":
                out.add_attachment(stream.name, stream.mimetype, stream.data)
            elif f"stream {stream.index} ({stream.type}, {_codec_name(stream)})" not in lost:
                streams[stream.index] = _copied(out.add_stream_from_template(stream, opaque=True), stream)
        out.metadata.update(read.metadata)
        out.set_chapters(_chapters(read.chapters(), wanted))
        others = [read.streams[index] for index in streams]
        if others and wanted.start:
            read.seek(max(0, int((wanted.start - OTHERS_LEAD_S) * av.time_base)), backward=True)
        new = _paced(segments.packets(video.time_base), rate)
        for index, packet in _in_time(new, _within(read.demux(others), wanted) if others else ()):
            if wanted.start is not None:
                _shift(packet, wanted.start)
            packet.stream = new_video if index is None else streams[index]
            out.mux(packet)


def _chapters(found: list[Any], wanted: Span) -> list[Any]:
    """Those that are in the part, cut to it."""
    if wanted.start is None and wanted.end is None:
        return found
    kept = []
    for each in found:
        base = Fraction(each["time_base"])
        start = round((wanted.start or 0) / base)
        end = each["end"] if wanted.end is None else min(each["end"], round(wanted.end / base))
        if max(each["start"], start) < end:
            kept.append({**each, "start": max(0, each["start"] - start), "end": end - start})
    return kept


def _within(packets: Iterator[Any], wanted: Span) -> Iterator[Any]:
    """Packets that are heard or seen in the part; a subtitle that began before it begins with it."""
    for packet in packets:
        if packet.pts is not None and (wanted.start is not None or wanted.end is not None):
            start, base = Fraction(packet.pts * packet.time_base), Fraction(packet.time_base)
            end = start + (packet.duration or 0) * base
            if (wanted.end is not None and start >= wanted.end) or (wanted.start is not None and end <= wanted.start):
                continue
            if wanted.start is not None and start < wanted.start and packet.stream.type == "subtitle":
                packet.pts = packet.dts = round(wanted.start / base)
                packet.duration = round((end - wanted.start) / base)
        yield packet


def _shift(packet: Any, start: Fraction) -> None:
    ticks = round(start / packet.time_base)
    packet.pts = None if packet.pts is None else packet.pts - ticks
    packet.dts = None if packet.dts is None else packet.dts - ticks


def _paced(packets: Iterator[Any], rate: Fraction | None) -> Iterator[Any]:
    """Packets that are counted instead of timed, if there is a rate: frame k is shown after k / rate seconds."""
    for packet in packets:
        if rate is not None:
            place = round(packet.pts * packet.time_base * rate)
            packet.time_base = 1 / rate
            packet.pts = packet.dts = place
        yield packet


def _video_stream(out: Any, pattern: Any, source: Any, first: Any, rate: Fraction | None) -> Any:
    stream = out.add_stream_from_template(pattern, opaque=True)
    stream.time_base = source.time_base if rate is None else 1 / rate
    if rate is not None:
        stream.codec_context.framerate = rate
    Colour.of(first).tag(stream.codec_context)  # not every piece's container has them
    if first.rotation:
        stream.set_display_rotation(first.rotation)
    return _copied(stream, source)


def _copied(stream: Any, source: Any) -> Any:
    stream.metadata.update(source.metadata)
    stream.disposition = source.disposition
    return stream


def _in_time(video: Iterator[Any], others: Any) -> Iterator[tuple[int | None, Any]]:
    """Packets of both, merged by decoding time, so that the muxer holds none back; None marks the video."""

    def timed(packets: Any, is_video: bool) -> Iterator[tuple[float, int, int | None, Any]]:
        last = 0.0
        for count, packet in enumerate(packets):
            if packet.dts is None and packet.pts is None:
                continue  # the end of a stream
            stamp = packet.pts if packet.dts is None else packet.dts
            last = max(last, float(stamp * packet.time_base))
            yield last, count, None if is_video else packet.stream.index, packet

    merged = heapq.merge(timed(video, True), timed(others, False), key=lambda each: each[0])
    yield from ((index, packet) for _, _, index, packet in merged)
