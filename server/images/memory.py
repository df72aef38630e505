"""Memory that all calls together hold for images, results and replies: counted before it is taken."""

from typing import Self

from server.errors import Overloaded
from server.images.channels import ChannelPlan
from server.images.codecs import Encoding
from server.images.header import Format, Header

# Bytes for each pixel at the peak of decoding and encoding, as measured (tests/server/images/test_memory.py).
_WEBP_DECODE_BYTES = {3: 20, 4: 23}
_ENCODE_BYTES = {
    Format.JPEG: {1: 3, 3: 6},
    # Of alpha that is noise; two thirds of it if alpha is even.
    Format.WEBP: {1: 12, 2: 45, 3: 14, 4: 37},
}
_SPREAD_BYTES = 12  # of colours under transparency, without those in the result
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
    if header.format is Format.RAW:
        return 0
    if header.format is Format.WEBP:
        return _WEBP_DECODE_BYTES[header.channels]
    # Pillow holds grey in 1 byte and everything else in 4, and copies it twice on its way to numpy.
    nbytes = (1 if header.channels == 1 else 4) + 2 * header.channels
    if header.bits == 16 and header.channels == 1:
        nbytes += 4
    return nbytes + header.stored_channels  # before they are converted


def encode_bytes(encoding: Encoding, channels: int) -> int:
    """For each pixel, of encoding and sending, without the image itself. A PNG counts as if it could not be
    compressed."""
    by_channels = _ENCODE_BYTES.get(encoding.format)
    return REPLY_COPIES * channels if by_channels is None else by_channels[channels]


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
