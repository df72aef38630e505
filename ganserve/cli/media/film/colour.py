"""Frames of a film <-> RGB, by the film's own matrix and range.

libswscale only changes the sampling of the colour planes; the matrix is applied here, so that neither its defaults nor
PyAV's count. Coefficients: Rec. ITU-R BT.601, BT.709, BT.2020, SMPTE 240M, by the numbers of ITU-T H.273.
"""

from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ganserve.cli.output import CommandError
from ganserve.client.png import Pixels

UNSPECIFIED = 2
RGB = 0
WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
WEIGHTS[9] = (0.2627, 0.0593)  # of red and blue in luminance, by matrix
BT709, BT601_625, BT601_525 = (1, 1, 1), (5, 6, 5), (6, 6, 6)  # primaries, transfer, matrix
HD_HEIGHT, PAL_HEIGHTS = 720, (288, 576)
FULL = 2


@dataclass(frozen=True)
class Colour:
    """How a film's numbers stand for colours: H.273's primaries, transfer and matrix, and whether 0 is black."""

    primaries: int
    transfer: int
    matrix: int
    full: bool

    @staticmethod
    def of(frame: av.VideoFrame) -> "Colour":
        """The frame's tags; where it has none, those of its size.

        Raises:
            CommandError: a matrix that is not linear in RGB.
        """
        by_size = BT709 if frame.height >= HD_HEIGHT else BT601_625 if frame.height in PAL_HEIGHTS else BT601_525
        matrix = by_size[2] if frame.colorspace == UNSPECIFIED or _is_rgb(frame) else int(frame.colorspace)
        if matrix not in WEIGHTS:
            raise CommandError(f"its colours are coded by matrix {matrix} of H.273, which is not supported")
        primaries = by_size[0] if frame.color_primaries in (0, UNSPECIFIED) else int(frame.color_primaries)
        transfer = by_size[1] if frame.color_trc in (0, UNSPECIFIED) else int(frame.color_trc)
        full = frame.color_range == FULL or frame.format.name.startswith("yuvj")
        return Colour(primaries, transfer, matrix, full and not _is_rgb(frame))

    def pixels(self, frame: av.VideoFrame) -> Pixels:
        """(H, W, 3) of a frame: uint8, with more than 8 bits in the file uint16."""
        deep = bits_of(frame.format) > 8
        if _is_rgb(frame):
            packed: Pixels = _planes(frame.reformat(format="rgb48le" if deep else "rgb24"), packed=True)
            return packed
        full_name = "yuvj444p" if frame.format.name.startswith("yuvj") else "yuv444p"
        yuv = _planes(frame.reformat(format="yuv444p16le" if deep else full_name, interpolation="BICUBIC"))
        unit = np.float32(256 if deep else 1)
        y, u, v = (plane.astype(np.float32) / unit for plane in yuv)
        if self.full:
            y, u, v = y / 255, (u - 128) / 255, (v - 128) / 255
        else:
            y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
        red, blue = WEIGHTS[self.matrix]
        r = y + 2 * (1 - red) * v
        b = y + 2 * (1 - blue) * u
        g = (y - red * r - blue * b) / (1 - red - blue)
        top, kind = (65535, np.uint16) if deep else (255, np.uint8)
        rgb = np.stack([r, g, b], 2)
        levels: Pixels = np.rint(rgb.clip(0, 1) * top).astype(kind)
        return levels

    def frame(self, pixels: Pixels, pixel_format: str) -> av.VideoFrame:
        """A frame in the format, tagged, of (H, W, 1 or 3 or more): grey, or colours."""
        top = 65535 if pixels.dtype == np.uint16 else 255
        rgb = np.broadcast_to(pixels, (*pixels.shape[:2], 3)) if pixels.shape[2] < 3 else pixels[..., :3]
        r, g, b = (rgb[..., channel].astype(np.float32) / top for channel in range(3))
        red, blue = WEIGHTS[self.matrix]
        y = red * r + blue * b + (1 - red - blue) * g
        u, v = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
        scales = ((255, 0), (255, 128), (255, 128)) if self.full else ((219, 16), (224, 128), (224, 128))
        deep = bits_of(av.VideoFormat(pixel_format)) > 8
        unit, limit = (256, 65535) if deep else (1, 255)
        made = av.VideoFrame(pixels.shape[1], pixels.shape[0], "yuv444p16le" if deep else "yuv444p")
        for plane, values, (scale, offset) in zip(made.planes, (y, u, v), scales, strict=True):
            levels = np.rint((values * scale + offset) * unit).clip(0, limit)
            _fill(plane, levels.astype(np.uint16 if deep else np.uint8))
        made = made.reformat(format=pixel_format, interpolation="BICUBIC")
        made.colorspace, made.color_range = self.matrix, FULL if self.full else 1
        made.color_primaries, made.color_trc = self.primaries, self.transfer
        return made

    def tag(self, context: Any) -> None:
        """Writes the tags into an encoder's context."""
        context.colorspace, context.color_range = self.matrix, FULL if self.full else 1
        context.color_primaries, context.color_trc = self.primaries, self.transfer


def bits_of(format: av.VideoFormat) -> int:
    """Bits of the first component."""
    return int(format.components[0].bits)


def _is_rgb(frame: av.VideoFrame) -> bool:
    return bool(frame.format.is_rgb) or frame.format.has_palette


def _planes(frame: av.VideoFrame, packed: bool = False) -> Any:
    """(3, H, W), or (H, W, 3) of a packed frame, without the padding of rows."""
    kind: Any = np.uint16 if bits_of(frame.format) > 8 else np.uint8
    width = frame.width * 3 if packed else frame.width
    found = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), kind).reshape(-1, plane.line_size // np.dtype(kind).itemsize)
        found.append(rows[: frame.height, :width])
    return found[0].reshape(frame.height, frame.width, 3) if packed else np.stack(found)


def _fill(plane: Any, levels: NDArray[Any]) -> None:
    padded = np.zeros((plane.buffer_size // plane.line_size, plane.line_size // levels.itemsize), levels.dtype)
    padded[: levels.shape[0], : levels.shape[1]] = levels
    plane.update(padded.tobytes())
