"""The prefix codes of lossless WebPs: counted before anything is decoded, as libwebp reads them."""

import io
import random
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.WebPImagePlugin import WebPImageFile

from server.errors import InvalidRequest
from server.images import codecs, memory
from server.images.header import read_header
from server.images.lossless import MAX_BLOCKS

GROUP_BYTES = 568 + 4 * 2956  # without a colour cache
AXES = np.mgrid[0:150, 0:170]
PHOTO = np.stack([AXES[0], AXES[1], (AXES[0] * AXES[1] // 90) % 256], -1).astype(np.uint8)
PHOTO += np.random.RandomState(0).randint(0, 9, PHOTO.shape, np.uint8)
PICTURES = {
    "photo": PHOTO,
    "alpha": np.dstack([PHOTO, PHOTO[..., 2]]),
    "palette": PHOTO // 100 * 100,
    "two colours": np.repeat(PHOTO[..., :1] // 128 * 255, 3, 2),
    "flat": np.full((400, 400, 3), 7, np.uint8),
    "halves": np.concatenate([PHOTO, PHOTO[:, :, ::-1] // 60 * 60], 1),
}


def saved(pixels: Any, **options: Any) -> bytes:
    output = io.BytesIO()
    Image.fromarray(pixels).save(output, "WEBP", **options)
    return output.getvalue()


class Bits:
    """Writes a stream, the lowest bit of each byte first."""

    def __init__(self) -> None:
        self.value = self.count = 0

    def put(self, *fields: tuple[int, int]) -> None:
        for value, count in fields:
            self.value |= value << self.count
            self.count += count

    def code(self, *symbols: int) -> None:
        """A code of one or two symbols."""
        self.put((1, 1), (len(symbols) - 1, 1), (1, 1), *((symbol, 8) for symbol in symbols))


def stream(width: int, height: int, shift: int, groups: int) -> bytes:
    """An image, from its transforms on, with prefix codes for each block of 2 ** shift px: as many as `groups`, a power
    of two up to 16, or those that every block has."""
    bits = Bits()
    bits.put((0, 1), (0, 1), (1, 1), (shift - 2, 3), (0, 1))
    bits.code(*(0, groups - 1)[: min(groups, 2)])
    for symbol in (0, 0, 255, 0):
        bits.code(symbol)
    blocks = -(-width >> shift) * -(-height >> shift)
    bits.put(((1 << blocks) - 1 if groups > 1 else 0, blocks if groups > 1 else 0))
    for _ in range(groups):
        for symbol in (1, 2, 3, 4, 0):
            bits.code(symbol)
    return bits.value.to_bytes(bits.count // 8 + 9, "little")


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks]
    content = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def lossless(width: int, height: int, shift: int, groups: int) -> bytes:
    head = struct.pack("<BI", 0x2F, width - 1 | height - 1 << 14)
    return riff((b"VP8L", head + stream(width, height, shift, groups)))


def with_alpha(width: int, height: int, shift: int, groups: int) -> bytes:
    """A lossy image with a lossless alpha channel."""
    data = saved(np.zeros((height, width, 3), np.uint8))
    canvas = struct.pack("<IHBHB", 0x10, width - 1, 0, height - 1, 0)
    alpha = b"\1" + stream(width, height, shift, groups)
    return riff((b"VP8X", canvas), (b"ALPH", alpha), (b"VP8 ", data[20:]))


@pytest.mark.parametrize("make", [lossless, with_alpha])
@pytest.mark.parametrize("groups", [1, 2, 16])
def test_every_group_of_codes_is_counted(make: Any, groups: int) -> None:
    data = make(64, 48, 3, groups)
    header = read_header(data)
    assert header.codes_bytes == groups * GROUP_BYTES
    assert memory.reference_bytes(header) > header.codes_bytes + 64 * 48 * 19
    assert codecs.decode(data, header).pixels.shape[:2] == (48, 64)


@pytest.mark.parametrize("make", [lossless, with_alpha])
def test_more_blocks_than_encoders_make_are_rejected_unread(make: Any) -> None:
    with pytest.raises(InvalidRequest, match=f"lossless WebP in 65536 blocks of 4 x 4 px, at most {MAX_BLOCKS}"):
        read_header(make(1024, 1024, 2, 1))
    assert read_header(make(1024, 1024, 4, 1)).codes_bytes == GROUP_BYTES


@pytest.mark.parametrize("make", [lossless, with_alpha])
def test_groups_that_no_block_has_are_rejected_unread(make: Any) -> None:
    with pytest.raises(InvalidRequest, match="16 groups of prefix codes for 4 blocks"):
        read_header(make(64, 64, 5, 16))


@pytest.mark.parametrize("picture", PICTURES)
def test_what_libwebp_writes_is_read_and_takes_little(picture: str) -> None:
    for method, quality in ((0, 0), (4, 75), (6, 20)):
        header = read_header(saved(PICTURES[picture], lossless=True, method=method, quality=quality))
        assert GROUP_BYTES <= header.codes_bytes < 64 * 2 * GROUP_BYTES


@pytest.mark.parametrize("picture", PICTURES)
def test_what_libwebp_decodes_though_damaged_is_read(picture: str) -> None:
    sound = saved(PICTURES[picture], lossless=True, method=4)
    pick = random.Random(picture)
    for _ in range(100):
        data = bytearray(sound)
        at = pick.randrange(25, min(len(data), 25 + pick.choice((8, 80, 800))))
        data[at] ^= 1 << pick.randrange(8)
        try:
            WebPImageFile(io.BytesIO(data)).load()
        except OSError:
            continue
        try:
            assert read_header(bytes(data)).codes_bytes >= GROUP_BYTES
        except InvalidRequest as error:
            assert "groups of prefix codes for" in str(error)  # noqa: PT017


def test_pixels_behind_thousands_of_chunks_are_rejected() -> None:
    empty = [(b"JUNK", b"")] * 3000
    canvas = struct.pack("<IHBHB", 0, 63, 0, 63, 0)
    with pytest.raises(InvalidRequest, match="no pixels within 2048 chunks"):
        read_header(riff((b"VP8X", canvas), *empty, (b"VP8L", lossless(64, 64, 2, 1)[20:])))
