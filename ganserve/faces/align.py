"""A face out of an image, upright and at the places where FFHQ's are, and back into it.

Karras, Laine, Aila, "A Style-Based Generator Architecture for Generative Adversarial Networks", 2018, arXiv:1812.04948
(FFHQ's alignment). A point x, y is the complex number x + yi here, and a turn, a scale and a shift together are
`factor * point + shift`. Points are as in `detect`: the centre of the first pixel is 0.5 + 0.5i.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganserve.client.png import Pixels

# Mean landmarks of FFHQ at 512 px, counted from the first pixel's centre, as xinntao/facexlib has them.
TEMPLATE_PX = 512
TEMPLATE = np.array(
    [
        192.98138 + 239.94708j,
        318.90277 + 240.1936j,
        256.63416 + 314.01935j,
        201.26117 + 371.41043j,
        313.08905 + 371.15118j,
    ]
)
OUTSIDE = (132, 133, 135)  # grey, where the image ends; facexlib's too, on which restorers were trained to be used
EDGE, FADE = 0.02, 0.1  # of the side: a face is not seen to there, and then more and more
CLOSENESS = 24.0  # how fast a face gives way to another one with the distance from its centre
LUMA = np.array([0.299, 0.587, 0.114])
RIM_PX = 3  # by which an image is repeated at its edges
STRIP_PX = 1 << 18  # that are blended at a time, of some 100 bytes each
Region = tuple[int, int, int, int]


@dataclass(frozen=True)
class Placement:
    """Where a face lies: of a point of the image, `factor * point + shift` is the point in the square of `side` px."""

    factor: complex
    shift: complex
    side: int

    @staticmethod
    def of(landmarks: NDArray[np.float64], side: int) -> "Placement":
        """That which brings (5, 2) landmarks nearest to FFHQ's, by least squares, at `side` px."""
        points = landmarks[:, 0] + 1j * landmarks[:, 1]
        goal = (TEMPLATE + 0.5 + 0.5j) * side / TEMPLATE_PX
        offsets = points - points.mean()
        factor = complex(np.vdot(offsets, goal - goal.mean()) / np.vdot(offsets, offsets))
        return Placement(factor, complex(goal.mean() - factor * points.mean()), side)

    def enlarged(self, scale: float) -> "Placement":
        """In an image that is enlarged so many times."""
        return replace(self, factor=self.factor / scale)

    def cut(self, image: Image.Image) -> Image.Image:
        """The square of an RGB image."""
        values = _warped(image, (self.side, self.side), 1 / self.factor, -self.shift / self.factor, OUTSIDE)
        return Image.fromarray(np.rint(np.clip(values, 0, 255)).astype(np.uint8))

    def region(self, width: int, height: int) -> Region:
        """Left, top, right and bottom of what the square covers of an image."""
        corners = (np.array([0, 1, 1j, 1 + 1j]) * self.side - self.shift) / self.factor
        low = math.floor(corners.real.min()), math.floor(corners.imag.min())
        high = math.ceil(corners.real.max()), math.ceil(corners.imag.max())
        return max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)

    def seen(self, points: NDArray[np.complex128]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How much of the face is seen there, 0 at its edge and 1 inside; and its weight against other faces."""
        places = (self.factor * points + self.shift) / self.side
        inside = np.minimum(np.minimum(places.real, 1 - places.real), np.minimum(places.imag, 1 - places.imag))
        share = np.clip((inside - EDGE) / FADE, 0, 1)
        share = share * share * (3 - 2 * share)
        return share, share * np.exp(-CLOSENESS * np.abs(places - (0.5 + 0.5j)) ** 2)


def paste(
    canvas: Pixels,
    faces: Sequence[tuple[Placement, Image.Image]],
    earlier: Sequence[Placement] = (),
    strength: float = 1.0,
) -> None:
    """Puts squares back into an image, in place: (H, W, 1..4) uint8 or uint16; grey if that is; its alpha stays.

    Where squares overlap, each pixel is most of the face that is nearer. `earlier`: of those that were pasted before.
    `strength`: 0..1, how much of a square is seen.
    """
    height, width, channels = canvas.shape
    colours = 3 if channels >= 3 else 1
    others = list(earlier)
    for placement, square in faces:
        left, top, right, bottom = placement.region(width, height)
        near = [each for each in others if _meet(each.region(width, height), (left, top, right, bottom))]
        rows = max(1, STRIP_PX // max(right - left, 1))
        for start in range(top, bottom if left < right else top, rows):
            part = canvas[start : min(start + rows, bottom), left:right, :colours]
            part[...] = _blended(part, placement, square, complex(left, start), near, strength)
        others.append(placement)


def _blended(
    part: Pixels, placement: Placement, square: Image.Image, corner: complex, near: Sequence[Placement], strength: float
) -> Pixels:
    """A piece of the image, whose upper left corner is there, with the square over it."""
    height, width, colours = part.shape
    points = corner + np.arange(width) + 1j * np.arange(height)[:, None] + (0.5 + 0.5j)
    shift = placement.factor * corner + placement.shift
    warped = np.clip(_warped(square, (width, height), placement.factor, shift), 0, 255)
    face = warped if colours == 3 else (warped @ LUMA)[..., None]
    share, weight = placement.seen(points)
    rivals = sum((each.seen(points)[1] for each in near), np.full((), 1e-9))
    levels = face * (257 if part.dtype == np.uint16 else 1)
    made = np.rint(part + (strength * share * weight / (weight + rivals))[..., None] * (levels - part))
    return made.astype(np.uint16) if part.dtype == np.uint16 else made.astype(np.uint8)


def _meet(a: Region, b: Region) -> bool:
    return max(a[0], b[0]) < min(a[2], b[2]) and max(a[1], b[1]) < min(a[3], b[3])


def _warped(
    image: Image.Image, size: tuple[int, int], factor: complex, shift: complex, outside: Sequence[int] = (0, 0, 0)
) -> NDArray[np.float64]:
    """(H, W, 3) of the `size`, each pixel from the image's point `factor * pixel + shift`.

    If these are more than a pixel apart, the image is made smaller first, so that nothing of it is left out.
    """
    apart = max(1.0, abs(factor))
    width, height = size
    corners = factor * np.array([0, width, 1j * height, width + 1j * height]) + shift
    margin = math.ceil(3 * apart)
    left, top = (max(0, math.floor(each) - margin) for each in (corners.real.min(), corners.imag.min()))
    right = min(image.width, math.ceil(corners.real.max()) + margin)
    bottom = min(image.height, math.ceil(corners.imag.max()) + margin)
    smaller = (int((right - left) / apart), int((bottom - top) / apart))
    if min(smaller) < 1:
        return np.full((height, width, 3), outside, np.float64)
    box = (left, top, left + smaller[0] * apart, top + smaller[1] * apart)
    part = np.asarray(image.resize(smaller, Image.Resampling.LANCZOS, box, reducing_gap=3))
    # What is outside must not shine into the last pixels of the image.
    wider = Image.fromarray(np.pad(part, ((RIM_PX, RIM_PX), (RIM_PX, RIM_PX), (0, 0)), "edge"))
    factor, shift = factor / apart, (shift - complex(left, top)) / apart + RIM_PX * (1 + 1j)
    data = (factor.real, -factor.imag, shift.real, factor.imag, factor.real, shift.imag)
    bands = (  # as floats: of bytes, Pillow cuts off what is behind the point
        band.convert("F").transform(size, Image.Transform.AFFINE, data, Image.Resampling.BICUBIC, fillcolor=grey)
        for band, grey in zip(wider.split(), outside, strict=True)
    )
    return np.stack([np.asarray(band, np.float64) for band in bands], 2)
