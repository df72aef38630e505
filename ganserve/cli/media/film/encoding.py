"""How a film is encoded: codec, quality, speed and pixel format, and one segment of it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.codec.context import Flags

from ganserve.cli.media.film.colour import Colour, bits_of
from ganserve.cli.media.film.segments import AS_THEY_ARE
from ganserve.cli.media.options import FilmOptions
from ganserve.cli.output import CommandError


@dataclass(frozen=True)
class Codec:
    """An encoder's name in FFmpeg, its default quality (CRF; None: it has none) and speed."""

    encoder: str
    crf: int | None
    preset: str | None


CODECS = {
    "h264": Codec("libx264", 18, "medium"),
    "hevc": Codec("libx265", 20, "medium"),
    "av1": Codec("libsvtav1", 24, "8"),
    "vp9": Codec("libvpx-vp9", 24, None),
    "prores": Codec("prores_ks", None, None),
    "ffv1": Codec("ffv1", None, None),
}
PIECES = {"prores_ks": "mov"}  # NUT has no name for it
DEFAULT_CODECS = {".webm": "vp9"}


def chosen(options: FilmOptions, suffix: str, source: av.VideoFormat) -> "Chosen":
    """The encoder for a file with this suffix, made of frames in this format.

    Raises:
        CommandError: no such codec or format, or one that does not go with the other.
    """
    name = options.codec or DEFAULT_CODECS.get(suffix, "h264")
    if name not in CODECS:
        raise CommandError(f"--codec {name}: there are {', '.join(CODECS)}")
    codec = CODECS[name]
    if options.crf is not None and codec.crf is None:
        raise CommandError(f"--crf: {name} has no such quality; it is near-lossless or lossless by itself")
    if options.preset is not None and codec.preset is None:
        raise CommandError(f"--preset: {name} has none")
    formats = [each.name for each in av.Codec(codec.encoder, "w").video_formats or []]
    pixel_format = _pixel_format(options.pixel_format, name, formats, source)
    crf = options.crf if options.crf is not None else codec.crf
    return Chosen(codec.encoder, crf, options.preset or codec.preset, pixel_format, suffix != ".avi")


def _pixel_format(asked: str | None, codec: str, formats: list[str], source: av.VideoFormat) -> str:
    """As asked, else the source's sampling of colours and bits, or the next best that the codec has."""
    if asked is not None:
        usable = [each for each in formats if each.startswith("yuv4")]
        if asked not in usable:
            raise CommandError(f"--pixel-format {asked}: {codec} has {', '.join(usable)}")
        return asked
    bits = "10le" if bits_of(source) > 8 else ""
    sampling = next((each for each in ("444", "422") if each in source.name or source.is_rgb), "420")
    wanted = [f"yuv{each}p{depth}" for depth in dict.fromkeys((bits, "10le")) for each in (sampling, "422", "420")]
    return next(each for each in wanted if each in formats)


@dataclass(frozen=True)
class Chosen:
    """An encoder with its settings."""

    encoder: str
    crf: int | None
    preset: str | None
    pixel_format: str
    reorders: bool = True  # whether frames may be stored in another order than they are shown in

    def sides(self, width: int, height: int) -> tuple[int, int]:
        """The largest size not above this one that the pixel format can have: some need even sides."""
        format = av.VideoFormat(self.pixel_format)
        across, down = 3 - format.chroma_width(2), 3 - format.chroma_height(2)
        return width // across * across, height // down * down

    def write(
        self,
        path: Path,
        frames: Iterator[Any],
        *,
        colour: Colour,
        time_base: Fraction,
        rate: Fraction,
        aspect: Fraction | None,
    ) -> int:
        """Encodes one piece, in a container that keeps every time stamp from 0 on; the number of frames."""
        n = 0
        with av.open(str(path), "w", format=PIECES.get(self.encoder, "nut"), options=AS_THEY_ARE) as container:
            stream: Any = None
            for frame in frames:
                if stream is None:
                    stream = self._stream(container, frame, colour, time_base, rate, aspect)
                container.mux(stream.encode(frame))
                n += 1
            if stream is not None:
                container.mux(stream.encode(None))
        if n == 0:
            path.write_bytes(b"")
        return n

    def _stream(
        self,
        container: Any,
        frame: Any,
        colour: Colour,
        time_base: Fraction,
        rate: Fraction,
        aspect: Fraction | None,
    ) -> Any:
        options = {} if self.crf is None else {"crf": str(self.crf)}
        if self.preset is not None:
            options["preset"] = self.preset
        if self.encoder == "libvpx-vp9":
            options |= {"b": "0", "row-mt": "1"}
        if not self.reorders:
            options["bf"] = "0"
        if self.encoder == "libx265":
            options["x265-params"] = "log-level=error"
        os.environ.setdefault("SVT_LOG", "1")  # errors only
        stream = container.add_stream(self.encoder, rate=rate, options=options)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = frame.width, frame.height, self.pixel_format
        context.time_base = time_base
        context.flags |= Flags.global_header
        if aspect:
            context.sample_aspect_ratio = aspect
        colour.tag(context)
        return stream
