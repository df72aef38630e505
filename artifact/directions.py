"""Directions in a generator's latent space, along which images change in one way: `directions.npz` and its names.

The file has the arrays `space` ("latent" or "w"), `names` (n,), `kinds` (n,), `sigmas` (n,) and `vectors`
(n, 1 or layers, length) float32. Numpy reads it without unpickling.
"""

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artifact.repository import DIRECTION_NAMES, DIRECTIONS, ArtifactError, read_text
from artifact.spec import Spec

# So that names can be written in commands and addresses, where these separate.
NAME = re.compile(r"[^\s,:@=+/\\'\"&?#%]{1,64}")
NAME_RULE = "1 to 64 characters without spaces and without any of , : @ = + / \\ ' \" & ? # %; not only digits"
_ARRAYS = ("space", "names", "kinds", "sigmas", "vectors")


@dataclass(frozen=True)
class Direction:
    """One direction.

    Attributes:
        name: by which requests know it.
        kind: how it was found: jacobian, sefa, pca or file.
        vector: (1, length) float32 of length 1, or in w (layers, length) with rows of mean length 1.
        sigma: one standard deviation of the latents along it: a strength of 1 adds `sigma * vector`.
    """

    name: str
    kind: str
    vector: NDArray[np.float32]
    sigma: float


@dataclass(frozen=True)
class Directions:
    """Those of one model. `space`: what they are added to, the latent before the network or w after truncation."""

    space: str = "latent"
    found: tuple[Direction, ...] = ()

    def renamed(self, names: Mapping[str, str]) -> "Directions":
        """With other names.

        Raises:
            ArtifactError: a name that no direction has, or that two would have.
        """
        for name in names:
            if name not in {each.name for each in self.found}:
                known = ", ".join(each.name for each in self.found) or "none"
                raise ArtifactError(f"{DIRECTION_NAMES}: no direction {name!r}; the model has {known}")
        found = tuple(replace(each, name=names.get(each.name, each.name)) for each in self.found)
        if repeated := repeated_name([each.name for each in found]):
            raise ArtifactError(f"{DIRECTION_NAMES}: two directions would be called {repeated!r}")
        return replace(self, found=found)


NO_DIRECTIONS = Directions()


def is_name(text: str) -> bool:
    """Whether a direction may be called so."""
    return NAME.fullmatch(text) is not None and text.isprintable() and not text.isdecimal()


def repeated_name(names: Sequence[str]) -> str | None:
    """The first that is there twice."""
    return next((name for index, name in enumerate(names) if name in names[:index]), None)


def write_directions(path: Path, directions: Directions) -> None:
    """Writes `directions.npz`: the same bytes for the same directions."""
    rows = max(len(each.vector) for each in directions.found)
    vectors = np.stack([np.repeat(each.vector, rows // len(each.vector), axis=0) for each in directions.found])
    arrays = {
        "space": np.array(directions.space),
        "names": np.array([each.name for each in directions.found]),
        "kinds": np.array([each.kind for each in directions.found]),
        "sigmas": np.array([each.sigma for each in directions.found], np.float64),
        "vectors": vectors.astype(np.float32),
    }
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_directions(folder: Path, spec: Spec) -> Directions:
    """The directions of a version's folder, with the names that people gave them; none without the file.

    Raises:
        ArtifactError: not such a file, of another model, or names that do not fit.
    """
    path = folder / DIRECTIONS
    found = NO_DIRECTIONS
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = _directions({name: arrays[name] for name in _ARRAYS}, spec)
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ArtifactError(f"{DIRECTIONS}: {error}") from None
    names = read_text(folder.parent / DIRECTION_NAMES)
    return found if names is None else found.renamed(parse_names(names))


def _directions(arrays: Mapping[str, NDArray[np.generic]], spec: Spec) -> Directions:
    """Raises ValueError with what is wrong."""
    space, vectors, names = str(arrays["space"]), arrays["vectors"], [str(name) for name in arrays["names"]]
    expected = "latent" if spec.w_shape is None else "w"
    if space != expected:
        raise ValueError(f"they are in {space[:20]!r}, the model's must be in {expected!r}")
    layers, length = spec.w_shape or (1, spec.latent_size)
    n = len(names)
    if vectors.dtype != np.float32 or vectors.shape not in ((n, 1, length), (n, layers, length)):
        raise ValueError(f"vectors are {vectors.dtype} {vectors.shape}, the model's {space} has {length} numbers")
    sigmas = arrays["sigmas"].astype(np.float64)
    if sigmas.shape != (n,) or arrays["kinds"].shape != (n,):
        raise ValueError(f"{n} names with {sigmas.shape} sigmas and {arrays['kinds'].shape} kinds")
    if not (np.isfinite(vectors).all() and np.isfinite(sigmas).all()):
        raise ValueError("numbers must be finite")
    if bad := [name for name in names if not is_name(name)]:
        raise ValueError(f"a direction cannot be called {bad[0][:80]!r}: {NAME_RULE}")
    if repeated := repeated_name(names):
        raise ValueError(f"two directions are called {repeated!r}")
    rows = zip(names, arrays["kinds"], vectors.astype(np.float32), sigmas, strict=True)
    return Directions(space, tuple(Direction(name, str(kind), row, float(sigma)) for name, kind, row, sigma in rows))


def parse_names(text: str) -> dict[str, str]:
    """The lines `NAME = OTHER NAME` of `directions.txt`; what follows # is a comment.

    Raises:
        ArtifactError: a line of another form, a name that cannot be one, or one that is renamed twice.
    """
    names: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        said = line.partition("#")[0].strip()
        if not said:
            continue
        name, equals, other = (part.strip() for part in said.partition("="))
        if not equals or not is_name(other):
            raise ArtifactError(f"{DIRECTION_NAMES}: line {number} is not `NAME = OTHER`; a name has {NAME_RULE}")
        if name in names:
            raise ArtifactError(f"{DIRECTION_NAMES}: line {number} renames {name!r} a second time")
        names[name] = other
    return names
