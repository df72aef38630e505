"""Faces in an image: MTCNN's cascade, from many guesses at many sizes to few boxes with landmarks.

Source: the paper (see `networks`); sizes, thresholds and overlaps are those of its authors' code
(kpzhang93/MTCNN_face_detection_alignment). Differences: boxes are not rounded to pixels between the networks, images
are resized by Pillow's bilinear filter, and what makes too many guesses is cut to the surest.

Coordinates are x, y in pixels from the image's upper left corner: the centre of the first pixel is (0.5, 0.5).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganserve.faces.align import Placement
from ganserve.faces.networks import FILES, Floats, Network, propose, read_weights, refine, settle

CELL_PX, STRIDE_PX = 12, 2  # what P-Net sees, and how far its guesses are apart
SHRINK = 0.709  # from one size to the next: half of the area
SURE = (0.6, 0.7, 0.9)  # of a face, after each network; the last is the authors' 0.7 where nothing is painted over
MAX_GUESSES = 2000  # of one size, and of all; noise makes thousands
BAND_PX = 1 << 20  # that P-Net sees at a time; it holds 50 numbers for each
BATCH = 128  # of crops
TURNS = 3  # a face that leans by more is seen better after each


@dataclass(frozen=True)
class Face:
    """A face, and how sure the last network is of it (0..1).

    Attributes:
        box: (4,) left, top, right, bottom.
        landmarks: (5, 2) x, y of the eyes, the nose's tip and the corners of the mouth; the image's left first.
    """

    score: float
    box: NDArray[np.float64]
    landmarks: NDArray[np.float64]

    @property
    def side(self) -> float:
        """The longer one of the box."""
        return float((self.box[2:] - self.box[:2]).max())

    @property
    def facts(self) -> dict[str, object]:
        """For JSON."""
        box, landmarks = self.box.round(1).tolist(), self.landmarks.round(1).tolist()
        return {"score": round(self.score, 4), "box": box, "landmarks": landmarks}


@dataclass(frozen=True)
class Detector:
    """The three networks."""

    first: Network
    second: Network
    third: Network

    @staticmethod
    def read(folder: Path) -> "Detector":
        """Of the three files of facenet-pytorch's wheel.

        Raises:
            OSError: one is missing.
            ValueError: they are other files.
        """
        return Detector(*(Network(read_weights(folder / f"{name}.pt")) for name in FILES))

    def find(self, image: Image.Image, least_px: int = 20) -> list[Face]:
        """The faces of an RGB image, the surest first; upright ones, or leaning by up to some 40 degrees.

        Args:
            image: of 8 bits.
            least_px: longer side of the smallest face's box, 12 or more.
        """
        guesses = [found for scale in _scales(image, least_px) if len(found := self._guesses(image, scale))]
        boxes = _apart(np.concatenate(guesses), 0.7) if guesses else np.empty((0, 5))
        boxes = _square(boxes)
        if len(boxes):
            sure, moves = (np.concatenate(part) for part in zip(*self._second(image, boxes), strict=True))
            kept = _apart(np.c_[boxes[:, :4], sure, moves][sure > SURE[1]], 0.7)
            boxes = _square(_moved(kept))
        if not len(boxes):
            return []
        sure, moves, points = (np.concatenate(part) for part in zip(*self._third(image, boxes), strict=True))
        sides = boxes[:, None, 2:4] - boxes[:, None, :2]
        places = (boxes[:, None, :2] + sides * points).reshape(-1, 10)
        found = np.c_[_moved(np.c_[boxes[:, :4], sure, moves]), places][sure > SURE[2]]
        faces = [Face(float(each[4]), each[:4], each[5:].reshape(5, 2)) for each in _apart(found, 0.7, smaller=True)]
        large = (self._upright(image, face) for face in faces if face.side >= least_px)
        return [face for face in large if face.score > SURE[2]]

    def _upright(self, image: Image.Image, face: Face) -> Face:
        """The face as O-Net sees it once it does not lean."""
        for _ in range(TURNS):
            turn = Placement.of(face.landmarks, 1).factor
            factor = turn / abs(turn) * 48 / face.side
            centre = complex(*(face.box[:2] + face.box[2:]) / 2)
            placement = Placement(factor, 24 + 24j - factor * centre, 48)
            sure, _, points = settle(self.third, _signed([np.asarray(placement.cut(image))]))
            places = (points[0, :, 0] + 1j * points[0, :, 1]) * 48
            places = (places - placement.shift) / factor
            face = Face(float(sure[0]), face.box, np.stack([places.real, places.imag], 1).astype(np.float64))
        return face

    def _guesses(self, image: Image.Image, scale: float) -> NDArray[np.float64]:
        """(N, 5) boxes and how sure P-Net is, of faces of CELL_PX / scale."""
        width, height = (max(CELL_PX, round(side * scale)) for side in image.size)
        found = []
        resized = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3))
        for top, pixels in _bands(resized):
            sure, moves = propose(self.first, _signed([pixels]))
            down, across = np.nonzero(sure > SURE[0])
            corners = np.stack([across * STRIDE_PX, down * STRIDE_PX + top], 1).astype(np.float64)
            found.append(np.c_[corners, corners + CELL_PX, sure[down, across], moves[down, across]])
        boxes = np.concatenate(found)
        boxes[:, :4] *= np.tile((image.width / width, image.height / height), 2)
        return _moved(_apart(boxes, 0.5))

    def _second(self, image: Image.Image, boxes: NDArray[np.float64]) -> Iterator[tuple[Floats, Floats]]:
        return (refine(self.second, crops) for crops in _crops(image, boxes, 24))

    def _third(self, image: Image.Image, boxes: NDArray[np.float64]) -> Iterator[tuple[Floats, Floats, Floats]]:
        return (settle(self.third, crops) for crops in _crops(image, boxes, 48))


def _scales(image: Image.Image, least_px: int) -> Iterator[float]:
    scale = CELL_PX / max(least_px, CELL_PX)
    while min(image.size) * scale >= CELL_PX:
        yield scale
        scale *= SHRINK


def _bands(pixels: NDArray[np.uint8]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Bands of rows that overlap so that each of P-Net's guesses is made once, and where each begins."""
    height, width = pixels.shape[:2]
    rows = max(1, BAND_PX // width // STRIDE_PX) * STRIDE_PX
    for top in range(0, height - CELL_PX + 1, rows):
        yield top, pixels[top : top + rows + CELL_PX - STRIDE_PX]


def _crops(image: Image.Image, boxes: NDArray[np.float64], side: int) -> Iterator[Floats]:
    """What is in the boxes, (3, N, side, side); what is outside of the image is black."""
    edges = np.rint(boxes[:, :4]).astype(int)
    edges[:, 2:] = np.maximum(edges[:, 2:], edges[:, :2] + 1)
    size = (side, side)
    for start in range(0, len(edges), BATCH):
        cut = (image.crop((a, b, c, d)) for a, b, c, d in edges[start : start + BATCH].tolist())
        yield _signed([np.asarray(each.resize(size, Image.Resampling.BILINEAR, reducing_gap=3)) for each in cut])


def _signed(images: list[NDArray[np.uint8]]) -> Floats:
    """(3, N, H, W) in -1..1."""
    return (np.stack(images).transpose(3, 0, 1, 2).astype(np.float32) - np.float32(127.5)) / np.float32(128)


def _moved(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 5), boxes moved by their corrections, which are shares of their sides."""
    sides = np.tile(found[:, 2:4] - found[:, :2], 2)
    return np.concatenate([found[:, :4] + sides * found[:, 5:9], found[:, 4:5]], 1)


def _square(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes as squares of the longer side about the same centre."""
    half = (boxes[:, 2:4] - boxes[:, :2]).max(1, keepdims=True) / 2
    centre = (boxes[:, :2] + boxes[:, 2:4]) / 2
    return np.concatenate([centre - half, centre + half, boxes[:, 4:]], 1)


def _apart(found: NDArray[np.float64], most: float, smaller: bool = False) -> NDArray[np.float64]:
    """The surest, without those that overlap a surer one by more than `most`: of both, or of the smaller of the two."""
    found = found[np.argsort(-found[:, 4], kind="stable")][:MAX_GUESSES]
    area = np.prod(found[:, 2:4] - found[:, :2], 1)
    kept, left = [], np.arange(len(found))
    while len(left):
        first, rest = left[0], left[1:]
        kept.append(first)
        low = np.maximum(found[first, :2], found[rest, :2])
        high = np.minimum(found[first, 2:4], found[rest, 2:4])
        shared = np.prod(np.maximum(high - low, 0), 1)
        both = np.minimum(area[first], area[rest]) if smaller else area[first] + area[rest] - shared
        left = rest[shared <= most * both]
    return found[kept]
