"""Directions from users' files: InterFaceGAN's and StyleGAN-web's .npy, GANSpace's .npz, rosinality's factor.pt, e4e's
.pt and its ffhq_pca.pt, safetensors. Nothing in them is unpickled or run."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artifact.directions import NAME_RULE, Direction, is_name
from artifact.repository import ArtifactError, placeholder
from export.directions.space import Space
from export.errors import ExportError
from models.checkpoints.contents import survey
from models.checkpoints.formats import FormatError
from models.checkpoints.pickle.machine import PickleError
from models.checkpoints.read import CheckpointError, load

MAX_DIRECTIONS = 512  # of one file
MAX_BYTES = 1 << 30
# By the arrays that a file has: those with the vectors, and with the standard deviations along them.
_SETS = (("lat_comp", "lat_stdev"), ("comp", "std"))
_EIGENVECTORS = "eigvec"


@dataclass(frozen=True)
class DirectionFile:
    """NAME=FILE as the user gave it."""

    name: str
    path: Path

    @staticmethod
    def parse(text: str) -> "DirectionFile":
        """NAME=FILE.

        Raises:
            ExportError: of another form, or no such file.
        """
        name, equals, path = text.partition("=")
        if not equals or not is_name(name):
            raise ExportError(f"--direction {text}: must be NAME=FILE; a name has {NAME_RULE}")
        if not Path(path).is_file():
            raise ExportError(f"--direction {text}: no file {path}")
        if (size := Path(path).stat().st_size) > MAX_BYTES:
            raise ExportError(f"--direction {text}: {size} bytes, at most {MAX_BYTES}")
        return DirectionFile(name, Path(path))


@dataclass(frozen=True)
class Vectors:
    """What a file holds: (n, 1 or layers, length) and, if the file says it, the standard deviation along each."""

    name: str
    vectors: NDArray[np.float64]
    sigmas: NDArray[np.float64] | None

    def directions(self, space: Space) -> tuple[Direction, ...]:
        """NAME, or of a set NAME-0, NAME-1, ..."""
        found = []
        for number, vector in enumerate(self.vectors):
            scale = float(np.linalg.norm(vector, axis=1).mean())
            unit = (vector / scale).astype(np.float32)
            sigma = space.sigma(unit) if self.sigmas is None else float(self.sigmas[number]) * scale
            name = self.name if len(self.vectors) == 1 else f"{self.name}-{number}"
            # A direction along which w does not vary at all is still one: a strength of 1 is then its own length.
            found.append(Direction(name, "file", unit, sigma if sigma > 0 else scale))
        return tuple(found)


def read_file(file: DirectionFile, shape: tuple[int, int]) -> Vectors:
    """The vectors of a file, for a model whose latent or w has `shape` (layers, length).

    Raises:
        ExportError: it cannot be read as data, or its vectors are not of this model.
    """
    said = f"--direction {file.name}={file.path}"
    try:
        vectors, sigmas = _vectors(_arrays(file.path), shape)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, CheckpointError, PickleError, FormatError) as error:
        raise ExportError(f"{said}: {' '.join(str(error).split())[:300]}") from None
    except ArtifactError as error:
        raise ExportError(f"{said}: {error}") from None
    for number, vector in enumerate(vectors):
        if not np.isfinite(vector).all() or not vector.any():
            raise ExportError(f"{said}: direction {number} has values that are not finite, or only zeros")
    return Vectors(file.name, vectors, sigmas)


def _arrays(path: Path) -> Mapping[str, NDArray[np.generic]]:
    """What the file holds, by name; a lone array has the name ""."""
    if what := placeholder(path):
        raise ValueError(what)
    with path.open("rb") as file:
        start = file.read(6)
    if start == b"\x93NUMPY":
        return {"": np.load(path, allow_pickle=False)}
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            wanted = [name for name in arrays.files if not name.startswith(("act_", "random_"))]
            return {name: arrays[name] for name in wanted if arrays[name].dtype.kind in "fiu"}
    tensors = survey({"": load(path)}).flat()
    return {name.removeprefix("."): tensor.float().numpy() for name, tensor in tensors.items() if tensor.ndim}


def _vectors(
    arrays: Mapping[str, NDArray[np.generic]], shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """(n, 1 or layers, length) and, if the file says it, the standard deviation along each."""
    sigmas: NDArray[np.float64] | None = None
    by_set = next(((vectors, sigma) for vectors, sigma in _SETS if vectors in arrays), None)
    if by_set is not None:
        name, sigma_name = by_set
        found = _shaped(name, arrays[name], shape, is_set=True)
        if sigma_name in arrays:
            sigmas = np.asarray(arrays[sigma_name], np.float64).reshape(-1)
            if sigmas.shape != (len(found),) or not (np.isfinite(sigmas).all() and (sigmas > 0).all()):
                raise ValueError(f"{sigma_name} has {sigmas.shape} values, {len(found)} positive ones expected")
    elif _EIGENVECTORS in arrays:  # rosinality's: columns, of which those of the largest eigenvalues come first
        found = _shaped(_EIGENVECTORS, arrays[_EIGENVECTORS].T, shape, is_set=True)
    elif len(arrays) == 1:
        ((name, array),) = arrays.items()
        found = _shaped(name or "the array", array, shape, is_set=False)
    else:
        names = ", ".join(name for name in arrays if name)[:200] or "none"
        raise ValueError(f"holds {len(arrays)} arrays ({names}); expected one, or lat_comp, comp or eigvec")
    if len(found) > MAX_DIRECTIONS:
        raise ValueError(f"holds {len(found)} directions, at most {MAX_DIRECTIONS}")
    return found, sigmas


def _shaped(what: str, array: NDArray[np.generic], shape: tuple[int, int], is_set: bool) -> NDArray[np.float64]:
    """(n, 1 or layers, length) from one vector, one for each layer, or a set of vectors."""
    layers, length = shape
    if array.dtype.kind not in "fiu" or not array.ndim or array.shape[-1] != length or not array.size:
        expected = f"({length},), (1, {length}), (n, 1, {length})" + (f" or ({layers}, {length})" if layers > 1 else "")
        raise ValueError(f"{what} is {array.dtype} {array.shape}; this model's directions are {expected}")
    rows = array.astype(np.float64)
    if rows.ndim == 1:
        return rows[None, None]
    if rows.ndim == 2:
        return rows[None] if not is_set and len(rows) in (1, layers) else rows[:, None]
    if rows.ndim == 3 and rows.shape[1] in (1, layers):
        return rows
    raise ValueError(f"{what} has the shape {array.shape}; this model has {layers} layers of {length}")
