"""The zip of NVIDIA's `dataset_tool.py`, which StyleGAN2-ADA, StyleGAN3, EDM and R3GAN train on.

Stored PNGs `00012/img00012345.png`, numbered through the data set, and `dataset.json` with `labels`: pairs of file and
class, or null without classes. A shard is such a zip; once all are there they are joined to one, which training takes.
"""

import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ganserve.datasets.description import Description
from ganserve.datasets.formats.writer import Item, PartFile, Place

LABELS = "dataset.json"
CHANNELS = (1, 3)


class ZipWriter:
    """`<model>-00003-of-00020.zip`, or `<model>.zip` if it is the only one; the same bytes for the same images."""

    def __init__(self, about: Description, place: Place) -> None:
        of = f"-{place.shard:05d}-of-{about.shards:05d}" if about.shards > 1 else ""
        self.target = place.folder / f"{about.stem}{of}.zip"
        self._part = PartFile(self.target)
        self._zip = zipfile.ZipFile(self._part.file, "w", zipfile.ZIP_STORED)
        self._labels: list[tuple[str, int]] = []

    def add(self, item: Item) -> str:
        """Writes the image, by its number."""
        name = f"{item.index // 1000:05d}/img{item.index:08d}.png"
        self._zip.writestr(_entry(name), item.data)
        if item.label is not None:
            self._labels.append((name, item.label))
        return name

    def finish(self) -> None:
        """Writes the labels and gives the file its name."""
        _write_labels(self._zip, self._labels)
        self._zip.close()
        self._part.commit()

    def abandon(self) -> None:
        """Removes the unfinished file."""
        with suppress(OSError, ValueError):  # else it tries to write its directory when it is collected
            self._zip.close()
        self._part.abandon()


def join(shards: Sequence[Path], target: Path) -> None:
    """One zip of several, in their order; `target` appears whole."""
    part = PartFile(target)
    labels: list[tuple[str, int]] = []
    try:
        with zipfile.ZipFile(part.file, "w", zipfile.ZIP_STORED) as joined:
            for path in shards:
                with zipfile.ZipFile(path) as shard:
                    labels += _labels_of(shard)
                    for name in _images_of(shard):
                        joined.writestr(_entry(name), shard.read(name))
            _write_labels(joined, labels)
        part.commit()
    finally:
        part.abandon()


def _write_labels(into: zipfile.ZipFile, labels: Sequence[tuple[str, int]]) -> None:
    into.writestr(_entry(LABELS), json.dumps({"labels": labels or None}))


def _labels_of(shard: zipfile.ZipFile) -> list[tuple[str, int]]:
    found: Any = json.loads(shard.read(LABELS))["labels"]
    return [(name, label) for name, label in found or ()]


def _images_of(shard: zipfile.ZipFile) -> Iterator[str]:
    return (name for name in shard.namelist() if name != LABELS)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)  # of 1980: the time of day must not change the bytes
    entry.external_attr = 0o644 << 16
    return entry
