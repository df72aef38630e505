"""Which images a data set has: the seed and the class of each, and the part of them that a shard is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ganserve.datasets.errors import DataSetError

SEEDS = 1 << 32
MAX_IMAGES = 50_000_000  # of a data set with classes, whose order is held in memory


@dataclass(frozen=True)
class Contents:
    """Image i of N has the seed `first_seed` + i, so that no two share a latent, and the label `labels[i]`.

    Attributes:
        counts: images by class index, ascending; empty if the model has no classes.
        total: N.
        first_seed: of image 0.
    """

    counts: Mapping[int, int]
    total: int
    first_seed: int

    @cached_property
    def labels(self) -> NDArray[np.int32] | None:
        """(N,), each class spread evenly over all images, so that every shard has its share; None without classes."""
        if not self.counts:
            return None
        places = np.concatenate([(np.arange(count) + 0.5) / count for count in self.counts.values()])
        classes = np.repeat(np.array(list(self.counts), np.int32), list(self.counts.values()))
        return classes[np.argsort(places, kind="stable")]

    def label(self, index: int) -> int | None:
        """The class of an image."""
        return None if self.labels is None else int(self.labels[index])

    def shard(self, index: int, shards: int) -> range:
        """The images of one of `shards` parts, whose sizes differ by one at most."""
        return range(self.total * index // shards, self.total * (index + 1) // shards)


def contents_of(counts: Mapping[int, int], first_seed: int) -> Contents:
    """A data set with so many images of each class."""
    kept = {label: count for label, count in sorted(counts.items()) if count}
    return _checked(Contents(kept, sum(kept.values()), first_seed))


def contents_without_classes(count: int, first_seed: int) -> Contents:
    """A data set of a model without classes."""
    return _checked(Contents({}, count, first_seed))


def spread(count: int, classes: int) -> dict[int, int]:
    """`count` images over all classes, as evenly as can be."""
    return {label: count // classes + (label < count % classes) for label in range(classes)}


def missing(counts: Mapping[int, int]) -> dict[int, int]:
    """What each class lacks to be as large as the largest.

    Raises:
        DataSetError: nothing.
    """
    most = max(counts.values())
    lacking = {label: most - count for label, count in counts.items()}
    if not any(lacking.values()):
        raise DataSetError(f"all {len(counts)} classes have {most} images: there is nothing to balance")
    return lacking


def class_index(text: str, names: Sequence[str]) -> int:
    """A class given by name or index, a name first, as the server reads it.

    Raises:
        DataSetError: no such class.
    """
    if text in names:
        return names.index(text)
    if text.isascii() and text.isdecimal() and int(text) < len(names):
        return int(text)
    known = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    raise DataSetError(f"no class {text!r}; the model has index 0..{len(names) - 1} or name ({known})")


def class_text(names: Sequence[str], label: int) -> str:
    """A class as a request names it: an index only if its name is another one's too, since names come first."""
    return names[label] if names.index(names[label]) == label else str(label)


def _checked(contents: Contents) -> Contents:
    if contents.total == 0:
        raise DataSetError("a data set of 0 images")
    if contents.first_seed + contents.total > SEEDS:
        raise DataSetError(
            f"{contents.total} images from seed {contents.first_seed} need seeds above {SEEDS - 1}, the largest"
        )
    if contents.counts and contents.total > MAX_IMAGES:
        raise DataSetError(f"{contents.total} images; at most {MAX_IMAGES} in one data set with classes")
    return contents
