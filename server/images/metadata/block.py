"""What an image has beside its pixels, in any format's terms."""

from dataclasses import dataclass, replace
from enum import StrEnum


class Policy(StrEnum):
    """What of it an image that is returned has: `icc` its colours' meaning and its density, `keep` everything that the
    format holds, `strip` nothing."""

    ICC = "icc"
    KEEP = "keep"
    STRIP = "strip"


@dataclass(frozen=True)
class Density:
    """Pixels on a metre, or, if `is_ratio`, only how many there are across for so many down."""

    across: int
    down: int
    is_ratio: bool = False

    @property
    def dpi(self) -> tuple[int, int]:
        """Pixels on an inch."""
        return round(self.across * 0.0254), round(self.down * 0.0254)


@dataclass(frozen=True)
class Metadata:
    """`icc`: the colours' profile. `colours`: the chunks cICP, sRGB, gAMA and cHRM of a PNG. `exif`: a TIFF structure.
    `xmp`: a packet; `xmp_more`: a second one, of what a JPEG has no room for in the first. `iptc`: a block of IPTC-IIM.
    `texts`: chunks of a PNG, comments of a JPEG among them. `damaged`: what else there was, in words."""

    icc: bytes | None = None
    colours: bytes = b""
    density: Density | None = None
    exif: bytes = b""
    xmp: bytes = b""
    xmp_more: bytes = b""
    iptc: bytes = b""
    texts: tuple[bytes, ...] = ()
    damaged: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Of what is kept on request only."""
        blocks = (self.exif, self.xmp, self.xmp_more, self.iptc, *self.texts)
        return sum(map(len, blocks))

    def without_kept(self) -> "Metadata":
        """Without it."""
        return replace(self, exif=b"", xmp=b"", xmp_more=b"", iptc=b"", texts=(), damaged=())

    def without_colours(self) -> "Metadata":
        """For pixels that have other channels than it describes."""
        return replace(self, icc=None, colours=b"")


NOTHING = Metadata()
