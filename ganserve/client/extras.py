"""What goes with the pixels of a picture: read from what Pillow or tifffile has opened."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin

from ganserve.client.png import XMP_KEYWORD
from ganserve.client.tiff_tags import STORAGE, tags_of

ACROSS, DOWN, UNIT, ICC_PROFILE = 282, 283, 296, 34675
PER_INCH = {2: 1.0, 3: 2.54}


@dataclass(frozen=True)
class Extras:
    """Colour profile, EXIF, DPI, XMP, and texts by keyword."""

    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    texts: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(image: Image.Image) -> "Extras":
        """Those of an image that Pillow has opened; EXIF without the orientation, which is the pixels' matter."""
        info = image.info
        texts = {}
        if isinstance(image, PngImagePlugin.PngImageFile):
            texts = {str(name): str(text) for name, text in info.items() if isinstance(text, str)}
            texts.pop(XMP_KEYWORD, None)
        elif isinstance(comment := info.get("comment"), bytes):
            texts = {"Comment": comment.decode("utf-8", "replace")}
        xmp = info.get("xmp")
        xmp = xmp.encode() if isinstance(xmp, str) else xmp
        return Extras(info.get("icc_profile"), _exif_of(image), _checked(info.get("dpi")), xmp, texts)

    @staticmethod
    def of_tiff(data: bytes, page: Any) -> "Extras":
        """Those of a page that tifffile has opened."""
        exif, xmp = tags_of(data)
        factor = PER_INCH.get(int(page.tags.valueof(UNIT) or 2))
        sides = [page.tags.valueof(tag) for tag in (ACROSS, DOWN)]
        dpi = None
        if factor is not None and all(isinstance(each, tuple) and all(each) for each in sides):
            dpi = sides[0][0] / sides[0][1] * factor, sides[1][0] / sides[1][1] * factor
        return Extras(page.tags.valueof(ICC_PROFILE), exif or None, dpi, xmp or None)


def _exif_of(image: Image.Image) -> bytes | None:
    found = Image.Exif()
    found.load(image.getexif().tobytes())
    for tag in (ExifTags.Base.Orientation, *STORAGE):
        found.pop(tag, None)
    return found.tobytes() if found else None


def _checked(found: Any) -> tuple[float, float] | None:
    try:
        across, down = (float(n) for n in found)
    except (TypeError, ValueError):
        return None
    return (across, down) if across > 0 and down > 0 else None
