"""An image as it is sent, with what making it took."""

import time
from dataclasses import dataclass

from server.images import codecs
from server.images.codecs import DecodedImage, Encoding


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
