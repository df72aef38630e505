"""What each format's writer does."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Place:
    """Where a shard goes: the data set's folder, the shard's number and the number of its first image."""

    folder: Path
    shard: int
    start: int


@dataclass(frozen=True)
class Item:
    """One image: its number in the data set, the seed that makes it again, its class, and the encoded file."""

    index: int
    seed: int
    label: int | None
    data: bytes


class ShardWriter(Protocol):
    """Writes the images of one shard in their order."""

    @property
    def target(self) -> Path | None:
        """The shard's file, which has its name only once it is whole; None if each image is a file."""

    def add(self, item: Item) -> str:
        """Writes an image and returns its file, relative to the data set's folder or inside `target`."""

    def finish(self) -> None:
        """Gives `target` its name."""

    def abandon(self) -> None:
        """Removes what was not finished. Nothing after `finish`."""


class PartFile:
    """A file that has its name only once it is whole and on the disk. Until then it is `.<name>.part` beside it."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._part = target.with_name(f".{target.name}.part")
        self.file = self._part.open("wb")

    def commit(self) -> None:
        """Gives it its name, in place of another one."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        self._part.replace(self._target)

    def abandon(self) -> None:
        """Removes it, unless it has its name."""
        with suppress(OSError):  # a full disk cannot take what is buffered
            self.file.close()
        self._part.unlink(missing_ok=True)
