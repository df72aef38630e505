"""Small films for tests."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import Flags
from numpy.typing import NDArray

TICKS = Fraction(1, 1000)
SUBTITLES = """1
00:00:00,100 --> 00:00:00,500
hello
"""


def moving(index: int, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """(H, W, 3): a smooth wave that moves to the right."""
    x = np.arange(width)[None, :] + 3 * index
    y = np.arange(height)[:, None]
    wave = 128 + 90 * np.sin(x / 5) * np.cos(y / 7)
    return np.stack([wave, wave[::-1], 255 - wave], 2).astype(np.uint8)


def write_clip(
    path: Path,
    frames: Sequence[Any],
    times_ms: Sequence[int] | None = None,
    *,
    codec: str = "ffv1",
    pixel_format: str = "yuv444p",
    tags: tuple[int, int, int, int] | None = None,
    aspect: Fraction | None = None,
    rotation: int = 0,
    extras: bool = False,
    options: dict[str, str] | None = None,
    interlaced: bool = False,
) -> None:
    """A film of frames, each (H, W, 3) uint8 or three levels (y, u, v) of a flat one.

    Args:
        path: its suffix says which container.
        frames: as above.
        times_ms: of each frame; None: every 40 ms.
        codec: of the video.
        pixel_format: of the video.
        tags: primaries, transfer, matrix, range by H.273's numbers.
        aspect: of a pixel.
        rotation: degrees counter-clockwise.
        extras: sound, subtitles, chapters and metadata too.
        options: of the encoder.
        interlaced: whether it is marked so.
    """
    times = times_ms or [40 * index for index in range(len(frames))]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options={"g": "10", **(options or {})})
        context = stream.codec_context
        made = [_frame(each, pixel_format) for each in frames]
        context.width, context.height, context.pix_fmt = made[0].width, made[0].height, pixel_format
        context.time_base = Fraction(1, 25) if codec == "mpeg2video" else TICKS
        if tags:
            context.color_primaries, context.color_trc, context.colorspace, context.color_range = tags
        if aspect:
            context.sample_aspect_ratio = aspect
        if interlaced:
            context.flags |= Flags.interlaced_dct | Flags.interlaced_me
        if rotation:
            stream.set_display_rotation(rotation)
        sound: Any = container.add_stream("pcm_s16le", rate=8000) if extras else None
        if extras:
            container.metadata["title"] = "a small film"
            stream.metadata["language"] = "nob"
            container.set_chapters(
                [{"id": 1, "start": 0, "end": 200, "time_base": TICKS, "metadata": {"title": "one"}}]
            )
        for frame, time in zip(made, times, strict=True):
            frame.pts, frame.time_base = time, TICKS
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if extras:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.int16), format="s16", layout="mono")
            silence.sample_rate = 8000
            container.mux(sound.encode(silence))
            container.mux(sound.encode(None))


def add_subtitles(path: Path, out: Path) -> None:
    """The film with subtitles and a font."""
    text = path.with_suffix(".srt")
    text.write_text(SUBTITLES)
    with av.open(str(path)) as film, av.open(str(text)) as words, av.open(str(out), "w") as container:
        streams = [(each, container.add_stream_from_template(each)) for each in film.streams]
        for before, after in streams:
            after.metadata.update(before.metadata)
        subtitles = container.add_stream_from_template(words.streams[0])
        subtitles.metadata["language"] = "eng"
        container.add_attachment("font.ttf", "font/ttf", b"no real font")
        container.metadata.update(film.metadata)
        container.set_chapters(film.chapters())
        for packet in film.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index][1]
                container.mux(packet)
        for packet in words.demux():
            if packet.dts is not None:
                packet.stream = subtitles
                container.mux(packet)


def read_film(path: Path) -> list[Any]:
    """Its frames."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def levels(frame: Any) -> tuple[int, ...]:
    """y, u and v in the middle of a frame."""
    kind: Any = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    found = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), kind).reshape(-1, plane.line_size // np.dtype(kind).itemsize)
        found.append(int(rows[plane.height // 2, plane.width // 2]))
    return tuple(found)


def _frame(pixels: Any, pixel_format: str) -> Any:
    if isinstance(pixels, np.ndarray):
        return av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
    frame = av.VideoFrame(64, 48, pixel_format)
    for plane, level in zip(frame.planes, pixels, strict=True):
        kind: Any = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
        plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, level, kind).tobytes())
    return frame
