"""An image as a call returns it: encoded, decoded on use, saved in any format, compared with what it was made from."""

import io
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from ganserve.client.encode import encode, left_out
from ganserve.client.extras import Extras
from ganserve.client.formats import SUFFIXES, FormatName, format_of
from ganserve.client.png import decode_png, encode_png, pixels_of

if TYPE_CHECKING:
    from ganserve.client.comparison import Comparison
    from ganserve.client.pictures import Picture

# By name, not through Image.open, whose limit of pixels is for files of strangers.
OPENERS: dict[str, Any] = {
    "png": PngImagePlugin.PngImageFile,
    "jpeg": JpegImagePlugin.JpegImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
}


@dataclass(frozen=True)
class Timings:
    """Seconds that the server spent in each phase; for several images the longest of each."""

    queue_s: float = 0.0
    compute_s: float = 0.0
    decode_s: float = 0.0
    encode_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True)
class ReceivedImage:
    """One image as received. `data` is encoded in `format` (png, jpeg, webp or raw)."""

    data: bytes = field(repr=False)
    format: FormatName
    width: int
    height: int
    channels: int
    model: str
    version: str
    timings: Timings

    @cached_property
    def array(self) -> NDArray[Any]:
        """(H, W, C) uint8, with 16 bits uint16; C = 1..4; decoded on first use."""
        if self.format == "raw":
            values = self.height * self.width * self.channels
            samples = np.frombuffer(self.data, "<u2" if len(self.data) == 2 * values else np.uint8)
            return samples.reshape(self.height, self.width, self.channels)
        if self.format == "png":
            return decode_png(self.data).reshape(self.height, self.width, self.channels)
        return pixels_of(self.pil).reshape(self.height, self.width, self.channels)

    @property
    def pil(self) -> Image.Image:
        """A new PIL image: L, LA, RGB or RGBA; I;16 of grey with 16 bits. Pillow has colours of 8 bits only."""
        if self.format == "raw":
            return Image.fromarray(self.array.squeeze(2) if self.channels == 1 else self.array)
        opened: Image.Image = OPENERS[self.format](io.BytesIO(self.data))
        return opened

    def save(self, path: str | Path, *, quality: int | None = None) -> None:
        """Writes a file: the received bytes if the suffix is theirs, else encoded again.

        Colour profile, EXIF, XMP, IPTC, DPI and texts are kept where the format has a place for them, with a warning
        where it has none; and 16 bits in .png and .tif.

        Args:
            path: .png, .jpg, .webp, .tif, .bmp, .gif, .avif, or with the extra `formats` .heic and .jxl.
            quality: of what is encoded again, as in the call.

        Raises:
            ValueError: another suffix, or a format that cannot hold the image, such as an alpha channel in .jpg.
        """
        target = Path(path)
        format_of(target)
        suffix = target.suffix.lower()
        if SUFFIXES.get(suffix) == self.format and quality is None:
            target.write_bytes(self.data)
            return
        extras = self.extras
        target.write_bytes(encode(self.array, suffix, extras=extras, quality=quality))
        if lost := left_out(extras, suffix):
            warnings.warn(f"{target}: {lost}", stacklevel=2)

    @property
    def extras(self) -> Extras:
        """What goes with the pixels, as received."""
        return Extras() if self.format == "raw" else Extras.of(self.pil)

    def compare(self, before: "Picture") -> "Comparison":
        """A page with a slider between the image that it was made from and this one; notebooks show it."""
        from ganserve.client.comparison import Comparison

        return Comparison.of(before, self)

    def _repr_png_(self) -> bytes:
        """For notebooks."""
        return self.data if self.format == "png" else encode_png(self.array, icc=self.extras.icc)
