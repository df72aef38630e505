"""Files with several frames: GIF, APNG, animated WebP and AVIF, pages of a TIFF."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from ganserve.cli.output import CommandError
from ganserve.client.encode import encode_frames, to_bytes
from ganserve.client.extras import Extras
from ganserve.client.png import pixels_of

HOLD_FRAMES = (".gif", ".png", ".webp", ".avif", ".tif", ".tiff")
SUBFILE = 254  # TIFF: 0 is a page, other bits are smaller copies and masks of it


@dataclass(frozen=True)
class Frames:
    """Frames of one size, (H, W, 3 or 4) uint8 each, how long each is shown, and how often all are (0: for ever)."""

    pixels: list[NDArray[np.uint8]]
    durations_ms: list[float] | None
    loops: int | None


def count_frames(image: Image.Image) -> int:
    """1 if it is no animation; smaller copies in a TIFF are no frames."""
    n = int(getattr(image, "n_frames", 1))
    if n == 1 or image.format != "TIFF":
        return n
    for index in range(n):
        image.seek(index)
        if image.tag_v2.get(SUBFILE, 0):  # type: ignore[attr-defined]
            n = 1
            break
    image.seek(0)
    return n


def read_frames(image: Image.Image) -> Frames:
    """Every frame as it is shown: what a file stores as a change is put on the frame before."""
    pixels, durations = [], []
    for frame in ImageSequence.Iterator(image):
        transparent = frame.has_transparency_data
        pixels.append(pixels_of(frame.convert("RGBA" if transparent else "RGB")))
        durations.append(float(frame.info.get("duration", 0)))
    if len({each.shape for each in pixels}) > 1:  # a colour with and one without transparency
        pixels = [_with_alpha(each) for each in pixels]
    if len({each.shape for each in pixels}) > 1:
        raise CommandError("its pages have different sizes; pass --frames first")
    timed = image.format != "TIFF"
    return Frames(pixels, durations if timed else None, image.info.get("loop") if timed else None)


def convert_frames(
    frames: Frames,
    call: Callable[[NDArray[np.uint8]], Any],
    in_flight: int,
    suffix: str,
    extras: Extras,
    quality: int | None,
) -> tuple[bytes, Any]:
    """The file with every frame converted, equal ones once; and the last result."""
    keys = [hashlib.sha256(pixels.tobytes()).digest() for pixels in frames.pixels]
    different = dict(zip(keys, frames.pixels, strict=True))
    with ThreadPoolExecutor(in_flight) as threads:
        made = dict(zip(different, threads.map(call, different.values()), strict=True))
    results = [made[key] for key in keys]
    timing: dict[str, Any] = {}
    if frames.durations_ms is not None:
        timing["duration"] = [round(each) for each in frames.durations_ms]
    if frames.loops is not None:
        timing["loop"] = frames.loops
    if suffix == ".gif":
        timing["disposal"] = 2
    data = encode_frames([to_bytes(each.array) for each in results], suffix, extras=extras, quality=quality, **timing)
    return data, results[-1]


def _with_alpha(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels.shape[2] == 4:
        return pixels
    return np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 255, np.uint8)], 2)
