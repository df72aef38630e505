"""One image file -> the file that a call makes of it: plain, with several frames, or with a place on earth."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from ganserve.cli.media.animation import HOLD_FRAMES, convert_frames, count_frames, read_frames
from ganserve.cli.media.geotiff import cut, enlarged, read_geotiff, write_geotiff
from ganserve.cli.media.options import Metadata
from ganserve.cli.media.plan import Conversion
from ganserve.cli.media.write import write
from ganserve.cli.output import CommandError
from ganserve.client.encode import encode, left_out
from ganserve.client.extras import Extras, extras_of
from ganserve.client.formats import SUFFIXES
from ganserve.client.open_formats import open_picture
from ganserve.client.results import Translated, Upscaled
from ganserve.client.tiff_tags import tags_of, with_tags

Result = Upscaled | Translated
Call = Callable[..., Result]
"""A picture, format and quality of the reply; options that are others than the command's."""
TIFF_SUFFIXES = (".tif", ".tiff")
ANIMATED_STARTS = (b"GIF8", b"\x89PNG", b"RIFF", b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class Made:
    """A file's bytes, the result of the call that made it (the last, of several), and what its user has to know."""

    data: bytes
    result: Result
    before: Any  # what the result was made from
    frames: int = 1
    note: str = ""


@dataclass(frozen=True)
class ImageConverter:
    """Converts one image file after another, from any thread.

    Attributes:
        call: one image through the server.
        model: its name, for what is written into GeoTIFFs.
        every_frame: whether all frames of an animation are converted, or the first.
        quality: of what the client encodes.
        in_flight: frames of one file at a time.
        options: of the calls.
    """

    call: Call
    model: str
    every_frame: bool
    quality: int | None
    in_flight: int
    options: Mapping[str, Any]

    def convert(self, conversion: Conversion) -> Made:
        """Reads, calls and writes."""
        source = conversion.source
        data = sys.stdin.buffer.read() if source is None else source.read_bytes()
        made = self._convert(data, conversion.suffix)
        write(conversion.target, made.data)
        return made

    def _convert(self, data: bytes, suffix: str) -> Made:
        geo = read_geotiff(data)
        if geo is not None and suffix in TIFF_SUFFIXES:
            if self.options["metadata"] == Metadata.STRIP and geo.has_place:
                raise CommandError("--metadata strip would take its place on earth; pass icc or keep, or make it .png")
            if self.options["metadata"] == Metadata.STRIP:
                geo = replace(geo, icc=None)
            changes = {}
            width, height = self.options.get("width"), self.options.get("height")
            if self.options.get("fit") == "cover" and width and height:  # all bands and the place, not colours alone
                geo, changes = cut(geo, width, height), {"fit": "fill"}
            pixels, levels, result = enlarged(geo, lambda levels: self.call(levels, "png", None, **changes))
            written = write_geotiff(pixels, geo, self.model)
            if self.options["metadata"] == Metadata.KEEP:
                written = with_tags(written, *tags_of(data))
            return Made(written, result, levels, note="its details are invented, not measured" if geo.has_place else "")
        animated = self._animation(data, suffix)
        if animated is not None:
            return animated
        own = SUFFIXES.get(suffix)
        result = self.call(data, own or "png", self.quality if own else None)
        lost = "" if geo is None or not geo.has_place else f"{suffix} cannot hold its place on earth; .tif can"
        if own == result.format:
            return Made(result.data, result, data, note=lost)
        extras = result.extras
        made = encode(result.array, suffix, extras=extras, quality=self.quality)
        return Made(made, result, data, note="; ".join(filter(None, (lost, left_out(extras, suffix)))))

    def _kept(self, found: Extras) -> Extras:
        """What of an animation's is written again."""
        if self.options["metadata"] == Metadata.KEEP:
            return found
        return Extras() if self.options["metadata"] == Metadata.STRIP else Extras(found.icc, dpi=found.dpi)

    def _animation(self, data: bytes, suffix: str) -> Made | None:
        if not self.every_frame or not (data.startswith(ANIMATED_STARTS) or data[4:12] == b"ftypavis"):
            return None
        try:
            with open_picture(data) as image:
                n = count_frames(image)
                if n == 1:
                    return None
                if suffix not in HOLD_FRAMES:
                    raise CommandError(f"it has {n} frames and {suffix} holds one; pass --frames first, or --format")
                frames = read_frames(image)
                extras = self._kept(extras_of(image, data))
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
            return None  # what is not an animation that can be read goes to the server as it is
        made, result = convert_frames(
            frames, lambda pixels: self.call(pixels, "png", None), self.in_flight, suffix, extras, self.quality
        )
        return Made(made, result, frames.pixels[-1], frames=n, note=left_out(extras, suffix))
