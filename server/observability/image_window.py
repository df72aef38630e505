"""What a model's images of late are like: gauges, and how far they are from the golden statistics of its export.

The thumbnails of the last images are kept, and looked at when the page is scraped; so an image costs a copy of a few
hundred bytes, and of many images in a second only some are taken.
"""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from artifact.golden import FIGURES, Golden, Measured, Points, compare, points_of
from artifact.judged import class_distance
from server.observability.prometheus_text import header, label_text, sample

# Images that are kept of a model.
WINDOW = 256
# So many different ones must there be before they are compared with the golden statistics.
LEAST_COMPARED = 32
# Of a model whose many classes have no figures of their own, so many of the classes, or all of them.
LEAST_CLASSES = 16
# After a pause so many images are taken at once, whatever the rate.
BURST = 64
# By number of channels.
CHANNELS = {1: ("grey",), 2: ("grey", "alpha"), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "alpha")}
FAMILIES = (
    ("image_channel_mean", "Mean of a channel, 0 to 1, over the images of the window"),
    ("image_channel_deviation", "Standard deviation of a channel within an image, averaged over the window"),
    ("image_channel_detail", "Mean difference of neighbouring points in a channel, averaged over the window"),
    ("image_share", "Share of the window's images that are so"),
    ("image_window", "Images in the window"),
    ("image_judge", "1: a judge names what the images show, 0: it cannot be opened or has failed"),
    ("image_judged", "Images of the window that the judge has named"),
    ("image_class_share", "Share of these that the judge names so"),
    ("image_drift", "Distance from the golden statistics, in standard deviations of one image"),
)


class Judge(Protocol):
    """Names what images show, beside serving."""

    is_working: bool

    def offer(self, image: NDArray[Any], named: Callable[[int], None]) -> None:
        """An image (H, W, C), of which `named` may get the class later."""


class ImageWindow:
    """The last images of one model. Loop thread only.

    Args:
        golden: what the model's images are compared with, by name, all alike: what those of its export were like, and
            those of an earlier version.
        classes: of the model.
        rate: images a second that are looked at, on average.
        judge: None: there is none.
        judged: the names of its classes.
    """

    def __init__(
        self,
        golden: Mapping[str, Golden],
        classes: int,
        rate: float,
        judge: Judge | None = None,
        judged: Sequence[str] = (),
    ) -> None:
        self._golden = golden
        self._judge, self._judged = judge, judged
        self._named: dict[Hashable, int] = {}
        self._classes = classes
        self._rate = rate
        self._left, self._at = float(BURST), 0.0
        self._seen: dict[Hashable, tuple[Points, int, bool]] = {}  # the newest last
        self._count = 0
        self._found: list[tuple[str, str, float]] | None = None

    def see(self, image: NDArray[Any], key: Hashable = None, label: int = 0) -> None:
        """An image (H, W, C) was made, uint8 or floats of 0 to 1; of a large one, a tile.

        Args:
            key: of an image that was made with the model's defaults: what it was made of, its seed say. Of images of
                one key only the last one counts. None: of another image, which is not compared.
            label: its class.
        """
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * self._rate, BURST)
        self._at = now
        if self._left < 1:
            return
        self._left -= 1
        self._count += 1
        is_plain, self._found = key is not None, None
        key = self._count if key is None else ("plain", key)
        self._seen.pop(key, None)
        self._seen[key] = points_of(image), label, is_plain
        self._named.pop(key, None)
        if len(self._seen) > WINDOW:
            oldest = next(iter(self._seen))
            del self._seen[oldest]
            self._named.pop(oldest, None)
        if self._judge is not None:
            self._judge.offer(image, partial(self._name, key))

    def _name(self, key: Hashable, index: int) -> None:
        if key in self._seen and index < len(self._judged):
            self._named[key], self._found = index, None

    def figures(self) -> list[tuple[str, str, float]]:
        """(name of the family, labels besides the model's, value); computed anew if there are new images."""
        if self._found is None:
            self._found = [*self._figures(), *self._classes_seen()] if self._seen else []
        works = [] if self._judge is None else [("image_judge", "", float(self._judge.is_working))]
        return [*self._found, *works]

    def _classes_seen(self) -> Iterator[tuple[str, str, float]]:
        """How many images the judge puts into which class; how far the plain ones are from golden statistics."""
        if self._judge is None:
            return
        yield "image_judged", "", len(self._named)
        if not self._named:
            return
        counts = np.bincount(list(self._named.values()), minlength=len(self._judged))
        for name, count in zip(self._judged, counts, strict=True):
            yield "image_class_share", label_text({"class": name}), round(float(count) / len(self._named), 5)
        plain = [(self._seen[key][1], index) for key, index in self._named.items() if self._seen[key][2]]
        labels, named = np.array(plain, np.intp).reshape(-1, 2).T
        own = self._golden.get("export")
        for against, golden in self._golden.items():
            if own is None or not own.is_judged_like(golden) or not self._are_enough(golden, labels):
                continue
            rows = labels if golden.is_by_class else np.zeros(len(labels), np.intp)
            value = class_distance(golden.judged, rows, named)
            yield "image_drift", label_text({"against": against, "statistic": "class"}), round(value, 4)

    def _figures(self) -> Iterator[tuple[str, str, float]]:
        channels = next(reversed(self._seen.values()))[0].shape[-1]
        alike = [each for each in self._seen.values() if each[0].shape[-1] == channels]
        points, labels = np.stack([each[0] for each in alike]), np.array([each[1] for each in alike], np.intp)
        is_plain = np.array([each[2] for each in alike])
        found = Measured.of(points)
        names = CHANNELS.get(channels, tuple(map(str, range(channels))))
        for figure in FIGURES:
            for name, value in zip(names, found.figures[figure].mean(axis=0), strict=True):
                yield f"image_channel_{figure}", label_text({"channel": name}), round(float(value), 5)
        for name, images in found.shares.items():
            yield "image_share", label_text({"of": name}), round(float(images.mean()), 5)
        yield "image_window", "", len(alike)
        yield from self._drift(points[is_plain], labels[is_plain])

    def _drift(self, points: NDArray[np.uint8], labels: NDArray[np.intp]) -> Iterator[tuple[str, str, float]]:
        measured: Measured | None = None
        for against, golden in self._golden.items():
            if golden.channels != points.shape[-1] or not self._are_enough(golden, labels):
                continue
            measured = measured or Measured.of(points)
            rows = labels if golden.is_by_class else np.zeros(len(labels), np.intp)
            for name, value in compare(golden, measured, rows):
                yield "image_drift", label_text({"against": against, "statistic": name}), round(value, 4)

    def _are_enough(self, golden: Golden, labels: NDArray[np.intp]) -> bool:
        needed = 1 if golden.is_by_class else min(LEAST_CLASSES, max(1, self._classes))
        return len(labels) >= LEAST_COMPARED and len(set(labels.tolist())) >= needed


def image_lines(windows: list[tuple[str, ImageWindow]]) -> Iterator[str]:
    """The page's lines: (labels of the model, its images)."""
    found = [(labels, *each) for labels, window in windows for each in window.figures()]
    for family, text in FAMILIES:
        name = f"ganserve_{family}"
        yield from header("gauge", name, text)
        for labels, of, more, value in found:
            if of == family:
                yield sample(name, f"{labels},{more}" if more else labels, value)
