"""What `--directions` and `--direction` ask for: directions found, read and named, and written with their picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from artifact.directions import Direction, Directions, repeated_name, write_directions
from artifact.repository import DIRECTIONS, STRIP
from export.directions.files import DirectionFile, Vectors, read_file
from export.directions.jacobian import estimate_s, sensitive
from export.directions.space import Space
from export.directions.strip import write_strip
from export.directions.style import principal, sefa
from export.errors import ExportError

METHODS = ("auto", "jacobian", "sefa", "pca", "none")
COUNT = 10  # of each method
# `auto` leaves out what takes longer; `jacobian` takes its time.
AUTO_S = 60.0


class Progress(Protocol):
    """Called with a line for each step; while a long one runs, also with the share of it that is done (0..1)."""

    def __call__(self, line: str, share: float | None = None, /) -> None:
        """Shows it."""


@dataclass(frozen=True)
class Wanted:
    """What the user asked for, checked as far as it can be without the network. `method`: one of METHODS."""

    method: str
    vectors: tuple[Vectors, ...] = ()

    def __bool__(self) -> bool:
        return self.method != "none" or bool(self.vectors)


def parse_wanted(method: str, files: Sequence[str]) -> tuple[str, tuple[DirectionFile, ...]]:
    """The options as they were given.

    Raises:
        ExportError: an unknown method, or a file that is not there.
    """
    if method not in METHODS:
        raise ExportError(f"--directions {method}: must be one of {', '.join(METHODS)}")
    return method, tuple(DirectionFile.parse(text) for text in files)


def check_wanted(method: str, files: Sequence[DirectionFile], shape: tuple[int, int] | None, has_w: bool) -> Wanted:
    """What can be had of this model. Files are read here, before anything slow.

    Args:
        shape: (layers, length) of its latent or w; None if it takes an image, or serves plain tensors.

    Raises:
        ExportError: the model has no such directions, or a file is not of this model.
    """
    if shape is None:
        if method not in ("auto", "none") or files:
            said = f"--directions {method}" if method not in ("auto", "none") else f"--direction {files[0].name}"
            raise ExportError(f"{said}: directions are for generators with a latent that give pixels")
        return Wanted("none")
    if method in ("sefa", "pca") and not has_w:
        raise ExportError(f"--directions {method}: the model has no w; use auto or jacobian")
    return Wanted(method, tuple(read_file(file, shape) for file in files))


def make_directions(
    wanted: Wanted, space: Space, network: nn.Module | None, folder: Path, progress: Progress
) -> tuple[Mapping[str, Path], tuple[str, ...]]:
    """Writes the directions of a generator and their picture into `folder`.

    Args:
        wanted: `auto` is sefa and pca for a StyleGAN, jacobian for others.
        network: the StyleGAN's, for its weights; None for others, and where only its graphs are known.

    Returns:
        The files by name, none if there is nothing to write; what the user should know.

    Raises:
        ExportError: two directions of one name.
    """
    method, notes = wanted.method, list[str]()
    found = [direction for vectors in wanted.vectors for direction in vectors.directions(space)]
    if method == "jacobian" or (method == "auto" and space.mapping is None):
        seconds = estimate_s(space)
        if method == "auto" and seconds > AUTO_S:
            notes.append(
                f"no directions: finding them would take about {seconds:.0f} s, more than {AUTO_S:g}; "
                "--directions jacobian finds them"
            )
        else:
            found += _named("jacobian", sensitive(space, progress), None)
    if network is not None and method in ("auto", "sefa"):
        found += _named("sefa", sefa(network, space.shape[1]), space)
    if space.mapping is not None and method in ("auto", "pca"):
        found += _named("pca", principal(space), space)
    if not found:
        return {}, tuple(notes)
    if repeated := repeated_name([each.name for each in found]):
        raise ExportError(f"--direction {repeated}: another direction has this name")
    directions = Directions(space.name, tuple(found))
    progress(f"{len(found)} directions; drawing {STRIP}")
    write_directions(folder / DIRECTIONS, directions)
    write_strip(folder / STRIP, space, directions)
    return {name: folder / name for name in (DIRECTIONS, STRIP)}, tuple(notes)


def _named(kind: str, vectors: NDArray[np.float64], space: Space | None) -> list[Direction]:
    """The first COUNT vectors (n, length) as directions, each with its largest component positive.

    `space`: measures what a standard deviation along a unit vector is; None: the vectors are that long.
    """
    found = []
    for number, vector in enumerate(vectors[:COUNT]):
        length = float(np.linalg.norm(vector))
        if not length:
            continue
        sign = np.sign(vector[np.argmax(np.abs(vector))])
        unit = (sign * vector / length).astype(np.float32)[None]
        sigma = length if space is None else space.sigma(unit)
        if sigma > 0:
            found.append(Direction(f"{kind}-{number}", kind, unit, sigma))
    return found
