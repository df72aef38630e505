"""An image as it is sent, with what making it took."""

import time
from dataclasses import dataclass

from server.images import codecs
from server.images.codecs import DecodedImage, Encoding
from server.images.header import Format
from server.images.metadata.block import Metadata
from server.images.metadata.write import png_chunks
from server.images.png import PngWriter
from server.images.rows import Canvas, Pixels, Resampler, Rows
from server.images.sizes import TransformPlan


@dataclass(frozen=True)
class EncodedImage:
    """An encoded image of (H, W, C) `shape`, and the seconds that each phase took (the longest of its jobs)."""

    data: bytes
    shape: tuple[int, int, int]
    queue_s: float
    compute_s: float
    encode_s: float


def encode_timed(image: DecodedImage, encoding: Encoding) -> tuple[bytes, float, float]:
    """The encoded image, when that started on the monotonic clock, and the seconds that it took."""
    started_at = time.monotonic()
    data = codecs.encode(image, encoding)
    return data, started_at, time.monotonic() - started_at


class Output:
    """Rows that a network gives -> the encoded image: brought to its size and, in a PNG, encoded as they come. The
    other formats' libraries want the image whole. For workers, one at a time.

    `started_at`: with the first rows, on the monotonic clock; `seconds`: that it took so far.
    """

    def __init__(self, plan: TransformPlan, encoding: Encoding, metadata: Metadata) -> None:
        self.started_at = 0.0
        self.seconds = 0.0
        self._encoding = encoding
        self._metadata = metadata
        self._png: PngWriter | None = None
        self._canvas: Canvas | None = None
        rows: Rows
        if encoding.format is Format.PNG:
            rows = self._png = PngWriter(plan.shape, encoding.quality, plan.bits, png_chunks(metadata))
        else:
            rows = self._canvas = Canvas(plan.shape, plan.passes[-1].dtype)
        if plan.is_resampled:
            rows = Resampler(plan.passes[-1].shape, plan.height, plan.width, rows, plan.resampled_by)
        self._rows = rows

    def space(self, top: int, bottom: int) -> Pixels | None:
        """See `Rows`."""
        return self._rows.space(top, bottom)

    def write(self, rows: Pixels) -> None:
        """See `Rows`."""
        started_at = time.monotonic()
        self.started_at = self.started_at or started_at
        self._rows.write(rows)
        self.seconds += time.monotonic() - started_at

    @property
    def share(self) -> float | None:
        """Of a PNG, see `PngWriter`; None of other formats."""
        return None if self._png is None else self._png.share

    def take(self) -> bytes:
        """What of the encoded image there is so far and was not taken yet: of a PNG, the others are encoded whole."""
        return b"" if self._png is None else self._png.take()

    def finish(self) -> bytes:
        """The rest of the encoded image, all of whose rows were written."""
        started_at = time.monotonic()
        if self._png is not None:
            data = self._png.take()
        else:
            assert self._canvas is not None
            data = codecs.encode(DecodedImage(self._canvas.pixels, self._metadata), self._encoding)
        self.seconds += time.monotonic() - started_at
        return data
