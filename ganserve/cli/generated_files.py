"""Generated images into files as they come: none is kept in memory, and none has its name before all are there."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ganserve.cli.grid import compose_grid
from ganserve.cli.media.write import write
from ganserve.client.encode import encode
from ganserve.client.formats import SUFFIXES
from ganserve.client.results import GeneratedImage


class GeneratedFiles:
    """Files of one call: FILE, FILE-<seed>, or a grid. As a context: what was not finished is removed.

    Attributes:
        images: those that came, in the order of the request; without their pixels if each has a file.
    """

    def __init__(self, output: Path, quality: int | None, grid: bool, columns: int | None) -> None:
        self._output, self._quality, self._grid, self._columns = output, quality, grid, columns
        self.images: list[GeneratedImage] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for image in self.images:
            self._part(image).unlink(missing_ok=True)

    def add(self, image: GeneratedImage) -> None:
        """Writes an image beside its place; for a grid it is kept."""
        self.images.append(image if self._grid else dataclasses.replace(image, data=b""))
        if not self._grid:
            again = self._output.suffix.lower() not in SUFFIXES  # else it came as it is to be
            image.save(self._part(image), quality=self._quality if again else None)

    def finish(self) -> list[Path]:
        """The files, in the order of the request, once each has its name."""
        self.images.sort(key=lambda image: image.index)
        if self._grid:
            pixels = compose_grid([image.array for image in self.images], self._columns)
            write(self._output, encode(pixels, self._output.suffix.lower(), quality=self._quality))
            return [self._output] * len(self.images)
        paths = file_names(self._output, self.images)
        for image, path in zip(self.images, paths, strict=True):
            self._part(image).replace(path)
        return paths

    def _part(self, image: GeneratedImage) -> Path:
        return self._output.with_name(f".{self._output.stem}.{image.index}.part{self._output.suffix}")


def file_names(output: Path, images: Sequence[GeneratedImage]) -> list[Path]:
    """A path for each image: FILE for a single one, else FILE-<seed>, made unique by label, else by index.

    Images without a seed are numbered by index.
    """
    if len(images) == 1:
        return [output]
    if images[0].seed is None:
        return [output.with_name(f"{output.stem}-{image.index}{output.suffix}") for image in images]
    by_seed = [f"{image.seed}" for image in images]
    by_label = [f"{image.seed}-{image.label}" for image in images]
    by_index = [f"{image.seed}-{image.index}" for image in images]
    names = next(names for names in (by_seed, by_label, by_index) if len(set(names)) == len(names))
    return [output.with_name(f"{output.stem}-{name}{output.suffix}") for name in names]
