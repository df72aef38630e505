"""What goes with a picture's pixels: read from what Pillow or tifffile has opened, and what of it a format holds."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin

from ganserve.client.iptc import RAW_PROFILE, RESOURCES, iptc_of, of_raw_profile
from ganserve.client.png import XMP_KEYWORD
from ganserve.client.tiff_tags import STORAGE, tags_of

ACROSS, DOWN, UNIT, ICC_PROFILE = 282, 283, 296, 34675
PER_INCH = {2: 1.0, 3: 2.54}
# What each of Pillow's formats holds. DPI and texts also find a place in EXIF.
HOLDS: Mapping[str, tuple[str, ...]] = {
    "PNG": ("icc", "exif", "dpi", "xmp", "iptc", "texts"),
    "TIFF": ("icc", "exif", "dpi", "xmp", "iptc"),
    "JPEG": ("icc", "exif", "dpi", "xmp", "iptc", "comment"),
    "WEBP": ("icc", "exif", "xmp"),
    "AVIF": ("icc", "exif", "xmp"),
    "HEIF": ("icc", "exif", "xmp"),
    "JXL": ("icc", "exif", "xmp"),
    "GIF": ("comment",),
    "BMP": ("dpi",),
}
WORDS = {"icc": "colour profile", "exif": "EXIF", "dpi": "DPI", "xmp": "XMP", "iptc": "IPTC"}
SEGMENT_BYTES = 65_000  # what a JPEG that Pillow writes holds of EXIF, and of XMP
SRGB = (b"sRGB", "sRGB".encode("utf-16-be"))  # as profiles of either version call themselves
# Fields of EXIF, in UTF-8, that say what texts of a PNG do; a comment is in one of Windows's, in UTF-16.
COMMENT, COMMENT_FIELD = "Comment", 0x9C9C
FIELDS = {"Title": 0x010D, "Description": 0x010E, "Software": 0x0131, "Author": 0x013B, "Copyright": 0x8298}
TIME, TIME_FIELD = "Creation Time", 0x0132
ON_ITS_SIDE = (5, 6, 7, 8)  # orientations
TURNED = re.compile(rb"\b(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)\d+")  # in XMP


@dataclass(frozen=True)
class Extras:
    """Colour profile, EXIF, DPI, XMP, IPTC, and texts by keyword."""

    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    texts: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(image: Image.Image) -> "Extras":
        """Those of an image that Pillow has opened, as they are of its pixels upright."""
        info = image.info
        texts = {}
        iptc = b""
        if isinstance(image, PngImagePlugin.PngImageFile):
            texts = {str(name): str(text) for name, text in info.items() if isinstance(text, str)}
            texts.pop(XMP_KEYWORD, None)
            profiles = {name: texts.pop(name) for name in list(texts) if name.startswith(RAW_PROFILE)}
            iptc = iptc_of(of_raw_profile(profiles.get(RAW_PROFILE + "iptc", "")))
        elif isinstance(comment := info.get("comment"), bytes):
            texts = {COMMENT: comment.decode("utf-8", "replace")}
        if isinstance(resources := info.get("photoshop"), Mapping):
            iptc = resources.get(RESOURCES, b"")
        xmp = info.get("xmp")
        xmp = xmp.encode() if isinstance(xmp, str) else xmp
        exif, dpi = _exif_of(image), _checked(info.get("dpi"))
        return Extras(info.get("icc_profile"), exif, dpi, _upright(xmp), iptc or None, texts)

    @staticmethod
    def of_tiff(data: bytes, page: Any) -> "Extras":
        """Those of a page that tifffile has opened."""
        exif, xmp, iptc = tags_of(data)
        factor = PER_INCH.get(int(page.tags.valueof(UNIT) or 2))
        sides = [page.tags.valueof(tag) for tag in (ACROSS, DOWN)]
        dpi = None
        if factor is not None and all(isinstance(each, tuple) and all(each) for each in sides):
            dpi = sides[0][0] / sides[0][1] * factor, sides[1][0] / sides[1][1] * factor
        return Extras(page.tags.valueof(ICC_PROFILE), exif or None, dpi, _upright(xmp), iptc or None)

    def within(self, format: str) -> tuple["Extras", str]:
        """What of it a format of Pillow's holds, DPI and texts in EXIF if they have no place of their own, and a word
        on what it does not."""
        holds = HOLDS[format]
        lost = [name for name in WORDS if getattr(self, name) and name not in holds]
        found = self
        texts, left = dict(self.texts), []
        comment = {COMMENT: texts.pop(COMMENT)} if "comment" in holds and COMMENT in texts else {}
        if "exif" in holds and "texts" not in holds:
            exif = Image.Exif()
            exif.load(self.exif or b"")
            _keep_words(exif, exif)
            left = [keyword for keyword, words in texts.items() if not _put_text(exif, keyword, words)]
            if "dpi" in lost and self.dpi:
                exif[ACROSS], exif[DOWN], exif[UNIT] = *self.dpi, 2
                lost.remove("dpi")
            found = replace(self, exif=exif.tobytes() if exif else None, texts=comment)
        elif "texts" not in holds:
            left = list(texts)
            found = replace(self, texts=comment)
        if format == "JPEG":
            lost += [name for name in ("exif", "xmp") if len(getattr(found, name) or b"") > SEGMENT_BYTES]
        nothing: dict[str, Any] = dict.fromkeys(lost)
        found = replace(found, **nothing)
        if "icc" in lost and any(name in (self.icc or b"") for name in SRGB):
            lost.remove("icc")  # what everybody takes an image for
        words = [WORDS[name] for name in lost] + ([f"text(s) ({', '.join(left)[:200]})"] if left else [])
        return found, f"{format} cannot hold its {', '.join(words)}; .png can" if words else ""


def extras_of(image: Image.Image, data: bytes) -> Extras:
    """Those of an image that Pillow has opened from `data`. It does not say what a TIFF's IPTC is."""
    found = Extras.of(image)
    return replace(found, iptc=tags_of(data)[2] or None) if image.format == "TIFF" else found


def _put_text(exif: Image.Exif, keyword: str, words: str) -> bool:
    """Whether a text has a field that is free; then it is there."""
    value: Any = words.encode()
    tag = FIELDS.get(keyword)
    if keyword == COMMENT:
        tag, value = COMMENT_FIELD, words.encode("utf-16-le") + b"\0\0"
    elif keyword == TIME and (time := _time_of(words)):
        tag, value = TIME_FIELD, f"{time:%Y:%m:%d %H:%M:%S}".encode()
    if tag is None or tag in exif:
        return False
    exif[tag] = value
    return True


def _time_of(words: str) -> datetime | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        with suppress(ValueError, TypeError, IndexError):
            return read(words.strip())
    return None


def _exif_of(image: Image.Image) -> bytes | None:
    found = Image.Exif()
    read = image.getexif()
    found.load(read.tobytes())
    _keep_words(read, found)
    width, height = image.size[::-1] if read.get(ExifTags.Base.Orientation) in ON_ITS_SIDE else image.size
    if ExifTags.IFD.Exif in found:
        inner = found.get_ifd(ExifTags.IFD.Exif)
        sizes = {ExifTags.Base.ExifImageWidth: width, ExifTags.Base.ExifImageHeight: height}
        inner.update({tag: pixels for tag, pixels in sizes.items() if tag in inner})
    for tag in (ExifTags.Base.Orientation, *STORAGE):
        found.pop(tag, None)
    return found.tobytes() if found else None


def _keep_words(read: Image.Exif, found: Image.Exif) -> None:
    """Puts texts of what was read as bytes into what is to be written: they are read as Latin-1, whatever they are, and
    written as ASCII."""
    for tag, value in read.items():
        if isinstance(value, str) and not value.isascii():
            found[tag] = value.encode("latin-1", "replace")


def _upright(xmp: bytes | None) -> bytes | None:
    return TURNED.sub(rb"\g<1>1", xmp) if xmp else None


def _checked(found: Any) -> tuple[float, float] | None:
    try:
        across, down = (float(n) for n in found)
    except (TypeError, ValueError):
        return None
    return (across, down) if across > 0 and down > 0 else None
