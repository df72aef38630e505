"""Memory that all calls together hold for images, results and replies: counted before it is taken."""

import math
from collections.abc import Callable
from typing import Self

from server.errors import Overloaded
from server.images.channels import ChannelPlan
from server.images.codecs import Encoding
from server.images.header import Format, Header
from server.images.metadata.block import Policy
from server.images.rows import rows_for_strip
from server.images.sizes import TransformPlan

# Bytes for each pixel at the peak of decoding and encoding, as measured (tests/server/images/test_memory.py).
_WEBP_DECODE_BYTES = {3: 20, 4: 23}
_DEEP_DECODE_BYTES = {1: 6, 2: 14, 3: 23, 4: 28}  # of 2: 12 or 16, as the heap happens to be
# Of encoding: whatever the image shows, and of its detail, all copies of what is sent included.
_ENCODE_BYTES = {
    Format.JPEG: {1: (1, 2), 3: (4, 2)},
    # Of alpha that is noise; two thirds of it if alpha is even.
    Format.WEBP: {1: (7, 5), 2: (40, 5), 3: (9, 5), 4: (32, 5)},
}
# Of each pixel of a strip: as Pillow has it, and of its new width; of grey, and of anything else.
_GREY_RESAMPLE_BYTES, _RESAMPLE_BYTES = 3, 12
_SPREAD_BYTES = 12  # of colours under transparency, without those in the result
_MEAN_BYTES = 24  # of a pixel of four channels: its mean, and that once more in levels
_PIECES_BYTES = 8 << 20  # of messages that wait for their reader
# A reply's bytes: as encoded, in the message, serialized. Those of an image that is sent: serialized, in the message.
REPLY_COPIES, SENT_COPIES = 3, 2
# A PNG's as well in the pieces that it was put together from.
PNG_COPIES = 4
# Bytes of a pixel from which a JPEG or WebP shows so much detail that a PNG of it is as large as its pixels.
_DETAILED_BYTES = 0.7
_LEAST_DETAIL = 0.3
# Calls that need less are not counted: the limits of the queue bound how many there are.
COUNTED_BYTES = 1 << 20
# Tiles of one image that are computed and not yet on its canvas.
WINDOW_BYTES = 64 << 20
_WINDOW_BATCHES = 4


def window_of(plan: ChannelPlan, batch: int) -> int:
    """Tiles of one image in flight: a few batches, fewer if they are large. A tile in all its ways is not divided."""
    window = max(batch, min(_WINDOW_BATCHES * batch, WINDOW_BYTES // (plan.tile_bytes + plan.output_bytes)))
    return max(1, window // plan.turns) * plan.turns


def detail_of(header: Header, sent_bytes: int) -> float:
    """How much an image that was sent in so many bytes shows, which decides how many it takes as encoded: from 0 of a
    plain one to 1 of noise, whose PNG is as large as its pixels. A guess, until the first rows are encoded."""
    if header.format is Format.RAW:
        return 1.0
    pixel_bytes = _DETAILED_BYTES
    if header.format is Format.PNG:
        pixel_bytes = (header.stored_channels or header.channels) * header.bits / 8
    return min(1.0, max(_LEAST_DETAIL, sent_bytes / (header.width * header.height * pixel_bytes)))


def transform_bytes(
    plan: TransformPlan,
    encoding: Encoding,
    batch: int,
    goes_on: bool = False,
    in_pieces: bool = False,
    detail: float = 1.0,
) -> int:
    """What an image takes on its way through a network, at its peak, without metadata. `batch`: the model's largest.
    `goes_on`: it is needed whole afterwards. `in_pieces`: what is encoded leaves before the next rows come. `detail`:
    see `detail_of`."""
    header, first = plan.header, plan.passes[0]
    sent_px = header.width * header.height
    pixels = sent_px * header.channels * first.sample_bytes
    peak = sent_px * decode_bytes(header, first.bits) + header.codes_bytes
    if first.hides_colours:
        peak = max(peak, pixels + _spread_bytes(first))
    for each in plan.passes[:-1]:
        peak = max(peak, pixels + _pass_bytes(each, batch) + each.nbytes)
        pixels = each.nbytes
    last = plan.passes[-1]
    returned_px = plan.width * plan.height
    encoded = int(returned_px * encode_bytes(encoding, plan.channels, plan.bits, detail))
    if encoding.format is Format.PNG and not goes_on:
        if in_pieces:  # at most what all bands that were open become
            open_share = min(1.0, (_bands(last, batch) + 1) * last.grid.tile_height / last.header.height)
            encoded = int(encoded * open_share) + _PIECES_BYTES
        return max(peak, pixels + _pass_bytes(last, batch) + _rows_bytes(plan, batch) + encoded)
    canvas = plan.nbytes
    rows = _rows_bytes(plan, batch) if plan.is_resampled else 0
    # Rows were freed then, but in pieces that the allocator keeps while the server works.
    return max(peak, pixels + _pass_bytes(last, batch) + rows + canvas, pixels + rows + canvas + encoded)


def call_bytes(
    plan: TransformPlan,
    encoding: Encoding,
    batch: int,
    sent_bytes: int,
    metadata_limit_bytes: int,
    in_pieces: bool,
    detail: float | None = None,
) -> int:
    """As `transform_bytes`, with the metadata that is kept of what was sent: as read, put right, and as chunks.
    `detail`: None before it is known."""
    if detail is None:  # an enlarged image has less of it in each pixel
        longer = math.sqrt(plan.width * plan.height / (plan.header.width * plan.header.height))
        detail = detail_of(plan.header, sent_bytes) * 2 / (1 + max(1.0, longer))
    kept_bytes = min(sent_bytes, metadata_limit_bytes) if encoding.metadata is Policy.KEEP else 0
    return transform_bytes(plan, encoding, batch, in_pieces=in_pieces, detail=detail) + 3 * kept_bytes


def _spread_bytes(plan: ChannelPlan) -> int:
    """Of spreading colours under transparency, the copy of the colours included."""
    return plan.header.width * plan.header.height * (plan.header.channels - 1 + _SPREAD_BYTES) * plan.sample_bytes


def _pass_bytes(plan: ChannelPlan, batch: int) -> int:
    """Of the tiles that are in flight, and of the colours that are spread."""
    in_flight = min(plan.tiles, window_of(plan, batch))
    tiles = in_flight * (plan.tile_bytes + plan.output_bytes)
    if plan.turns > 1:  # the means
        tiles += in_flight // plan.turns * plan.grid.tile_height * plan.grid.tile_width * plan.scale**2 * _MEAN_BYTES
    colours = plan.header.width * plan.header.height * (plan.header.channels - 1) if plan.hides_colours else 0
    return tiles + colours * plan.sample_bytes


def _bands(plan: ChannelPlan, batch: int) -> int:
    """Rows of tiles that may be open at once."""
    columns, rows = len(plan.grid.column_spans), len(plan.grid.row_spans)
    return min(rows, -(-min(plan.tiles, window_of(plan, batch)) // (columns * plan.turns)) + 1)


def _rows_bytes(plan: TransformPlan, batch: int) -> int:
    """Of the bands that are open and, if the image is brought to another size, of the rows that wait for it."""
    last = plan.passes[-1]
    band = last.grid.tile_height * last.scale * last.width * last.channels * last.sample_bytes
    held = min(_bands(last, batch) * band, last.nbytes)
    if not plan.is_resampled:
        return held
    strip = min(last.height, rows_for_strip(last.height, plan.height)) * last.width
    resampled = _GREY_RESAMPLE_BYTES if last.channels < 3 and last.sample_bytes == 1 else _RESAMPLE_BYTES
    return held + band + strip * (last.channels * last.sample_bytes + resampled)


def reference_bytes(header: Header) -> int:
    """What reading a reference takes, at its peak."""
    spread = header.channels + _SPREAD_BYTES if header.has_alpha else header.channels
    return header.width * header.height * max(decode_bytes(header), header.channels + spread) + header.codes_bytes


def decode_bytes(header: Header, bits: int = 8) -> int:
    """For each pixel, its bytes in the result of `bits` bits included."""
    if header.format is Format.RAW:
        return 0 if bits == header.bits else 3 * header.channels
    if bits == 16 and header.bits == 16:
        return _DEEP_DECODE_BYTES[header.channels]
    if bits == 16:  # 8 bits become 16
        return max(decode_bytes(header), (1 if header.channels == 1 else 4) + 4 * header.channels)
    if header.format is Format.WEBP:
        return _WEBP_DECODE_BYTES[header.channels]
    # Pillow holds grey in 1 byte and everything else in 4, and copies it twice on its way to numpy.
    nbytes = (1 if header.channels == 1 else 4) + 2 * header.channels
    if header.bits == 16 and header.channels < 3:
        nbytes += 4
    if header.bits == 1 and header.channels == 1:
        nbytes += 1
    return nbytes + header.stored_channels  # before they are converted


def encode_bytes(encoding: Encoding, channels: int, bits: int = 8, detail: float = 1.0) -> float:
    """For each pixel, of encoding and sending, without the image itself."""
    if encoding.format is Format.RAW:
        return REPLY_COPIES * channels * bits / 8
    if encoding.format is Format.PNG:
        return PNG_COPIES * channels * bits / 8 * detail
    fixed, of_detail = _ENCODE_BYTES[encoding.format][channels]
    return fixed + of_detail * detail


class MemoryBudget:
    """Bytes that may be held at once (max_held_bytes). Loop thread only.

    `when_short` is called when a call is rejected for want of them.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.when_short: Callable[[], None] = lambda: None


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
            budget.when_short()
            raise Overloaded(
                f"the call needs {self.nbytes + nbytes} bytes of memory, others hold {others}, limit "
                f"{budget.limit_bytes} (max_held_bytes)"
            )
        self.nbytes += nbytes
        budget.held_bytes += nbytes

    def settle(self, nbytes: int) -> None:
        """Counts what it turned out to be, whatever the others hold: what is under way is not thrown away for it."""
        self._budget.held_bytes += nbytes - self.nbytes
        self.nbytes = nbytes

    def release(self) -> None:
        """Gives back everything, as leaving the context does."""
        self.settle(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
