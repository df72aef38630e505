"""Memory that all calls together hold for images, results and replies: counted before it is taken."""

from typing import Self

from server.errors import Overloaded
from server.images.channels import ChannelPlan
from server.images.codecs import Encoding
from server.images.header import Format, Header

# Bytes for each pixel at the peak of decoding and encoding, as measured (tests/server/images/test_memory.py).
_DECODE_BYTES = {Format.RAW: 0, Format.PNG: 14, Format.JPEG: 14, Format.WEBP: 22}
_DECODE_GREY_BYTES = 8
_SPREAD_BYTES = 12  # of colours under transparency, without those in the result
_ENCODE_BYTES = {Format.JPEG: 6, Format.WEBP: 12}
_ENCODE_ALPHA_BYTES = 37  # WebP
# A reply's bytes: as encoded, in the message, serialized.
REPLY_COPIES = 3
# Calls that need less are not counted: the limits of the queue bound how many there are.
COUNTED_BYTES = 1 << 20
# Tiles of one image that are computed and not yet on its canvas.
WINDOW_BYTES = 64 << 20


def transform_bytes(plan: ChannelPlan, encoding: Encoding) -> int:
    """What an image takes on its way through a network, at its peak."""
    sent_px, returned_px = plan.header.width * plan.header.height, plan.width * plan.height
    pixels, canvas = sent_px * plan.header.channels, returned_px * plan.channels
    decoding = sent_px * decode_bytes(plan.header)
    if plan.hides_colours:
        pixels += sent_px * (plan.header.channels - 1)  # a copy of the colours
        decoding = max(decoding, pixels + sent_px * _SPREAD_BYTES)
    tile = plan.tile_bytes + plan.output_bytes
    tiles = max(tile, min(plan.tiles * tile, WINDOW_BYTES))
    encoding_bytes = returned_px * encode_bytes(encoding, plan.channels)
    return canvas + max(decoding, pixels + tiles, pixels + encoding_bytes)


def decode_bytes(header: Header) -> int:
    """For each pixel, its bytes in the result included."""
    grey = header.channels == 1 and header.format in (Format.PNG, Format.JPEG)
    return _DECODE_GREY_BYTES if grey else _DECODE_BYTES[header.format]


def encode_bytes(encoding: Encoding, channels: int) -> int:
    """For each pixel, of encoding and sending, without the image itself."""
    if encoding.format is Format.WEBP and channels in (2, 4):
        return _ENCODE_ALPHA_BYTES
    return _ENCODE_BYTES.get(encoding.format, REPLY_COPIES * channels)


class MemoryBudget:
    """Bytes that may be held at once (max_held_bytes). Loop thread only."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0


class Hold:
    """What one call holds of the budget."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self.nbytes = 0

    def take(self, nbytes: int) -> None:
        """Counts `nbytes` more. A call always fits while no other holds anything.

        Raises:
            Overloaded: the others hold too much.
        """
        budget = self._budget
        others = budget.held_bytes - self.nbytes
        if others and budget.held_bytes + nbytes > budget.limit_bytes:
            raise Overloaded(
                f"the call needs {self.nbytes + nbytes} bytes of memory, others hold {others}, limit "
                f"{budget.limit_bytes} (max_held_bytes)"
            )
        self.nbytes += nbytes
        budget.held_bytes += nbytes

    def shrink(self, nbytes: int) -> None:
        """Gives back all but `nbytes`."""
        if nbytes < self.nbytes:
            self._budget.held_bytes -= self.nbytes - nbytes
            self.nbytes = nbytes

    def release(self) -> None:
        """Gives back everything, as leaving the context does."""
        self.shrink(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
