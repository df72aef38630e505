"""The 16 bits of a PNG's samples, which Pillow decodes to 8 unless there is one channel."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

# How Pillow unpacks each kind of samples so that none of their bytes is lost: the mode and raw mode of each decoding.
# Three and four channels are decoded for their high bytes and again for their low ones; the four bytes of grey with
# alpha look like one pixel of four channels.
_WAYS: dict[str, tuple[tuple[str, str], ...]] = {
    "I;16B": (("I;16", "I;16B"),),
    "LA;16B": (("RGBA", "RGBA"),),
    "RGB;16B": (("RGB", "RGB;16B"), ("RGB", "RGB;16L")),
    "RGBA;16B": (("RGBA", "RGBA;16B"), ("RGBA", "RGBA;16L")),
}


def read_16_bits(image: ImageFile, reopen: Callable[[], ImageFile], channels: int) -> NDArray[np.uint16]:
    """(H, W, channels) of an open PNG of 16 bits, none of whose pixels are read yet. `reopen`: opens it again.

    Raises:
        OSError, ValueError, SyntaxError: damaged.
    """
    ways = _WAYS[str(image.tile[0].args)]
    parts = [_decoded(image if number == 0 else _again(image, reopen), *way) for number, way in enumerate(ways)]
    if len(parts) == 2:
        samples = parts[0].astype(np.uint16)
        samples <<= 8
        samples |= parts[1]
    else:
        samples = parts[0].view(">u2").astype(np.uint16) if parts[0].dtype == np.uint8 else parts[0]
    samples = samples.reshape(image.height, image.width, -1)
    key = image.info.get("transparency")
    if key is not None and samples.shape[2] in (1, 3):
        opaque = np.any(samples != np.array(key, np.uint16), axis=2, keepdims=True)
        samples = np.concatenate([samples, opaque * np.uint16(65535)], axis=2)
    if samples.shape[2] != channels:
        raise ValueError(f"the header says {channels} channels, the pixels have {samples.shape[2]}")
    return samples


def _again(image: ImageFile, reopen: Callable[[], ImageFile]) -> ImageFile:
    opened = reopen()
    opened.decodermaxblock = image.decodermaxblock
    return opened


def _decoded(image: ImageFile, mode: str, raw_mode: str) -> NDArray[Any]:
    image._mode = mode
    image.tile = [image.tile[0]._replace(args=raw_mode)]
    image.load()
    return np.asarray(image)
