"""Seeds, explicit latents, labels and truncation -> the arrays that a generator takes. Pure functions."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.errors import InvalidRequest

SEEDS = 1 << 32  # numpy.random.RandomState takes 0..SEEDS-1

_LISTED = 12  # class names that an error shows


class _Generator(threading.local):
    """One generator per thread: seeding anew costs 5 us, a new RandomState 30."""

    def __init__(self) -> None:
        self.state = np.random.RandomState(0)


_generator = _Generator()


def from_seeds(seeds: Sequence[int], latent_size: int) -> NDArray[np.float32]:
    """The latent of each seed: (N, latent_size) float32, standard normal.

    Row i is `numpy.random.RandomState(seeds[i]).randn(1, latent_size)` cast to float32, whatever the other seeds are.
    """
    state = _generator.state
    latents = np.empty((len(seeds), latent_size), np.float32)
    for row, seed in zip(latents, seeds, strict=True):
        state.seed(seed)
        row[:] = state.standard_normal(latent_size)
    return latents


def from_bytes(data: bytes, latent_size: int) -> NDArray[np.float32]:
    """Explicit latents: (N, latent_size) float32 from little-endian bytes, row-major.

    Raises:
        InvalidRequest: no rows, not a whole number of rows, or a value that is not finite.
    """
    row_bytes = 4 * latent_size
    if not data or len(data) % row_bytes:
        raise InvalidRequest(
            f"latents.data: {len(data)} bytes is not n x {row_bytes} (n rows of {latent_size} little-endian float32)"
        )
    latents = np.frombuffer(data, "<f4").astype(np.float32, copy=False).reshape(-1, latent_size)
    finite = np.isfinite(latents)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InvalidRequest(f"latents.data: row {row}, column {column} is {latents[row, column]}; must be finite")
    return latents


def resolve_labels(labels: Sequence[str], n: int, names: Sequence[str]) -> NDArray[np.int64] | None:
    """Class indices (n,) int64 from one label for all images or one for each; None for a model without classes.

    A label is a class name, or an index where no class has that name.

    Raises:
        InvalidRequest: a label missing, unknown, one too many, or given to a model without classes.
    """
    if not names:
        if labels:
            raise InvalidRequest(f"labels: {len(labels)} given, but the model has no classes; leave them out")
        return None
    if len(labels) not in (1, n):
        what = f"{len(labels)} given for {n} images" if labels else "missing, but the model is class-conditional"
        raise InvalidRequest(f"labels: {what}; give one for all or one for each, {_range(names)}")
    index_of = {label: _index(label, names) for label in set(labels)}
    return np.resize(np.array([index_of[label] for label in labels], np.int64), n)


def resolve_truncation(value: float | None, n: int, default: float | None) -> NDArray[np.float32] | None:
    """Truncation psi of each image (n,) float32, the model's default where none is asked; None for a model without it.

    Raises:
        InvalidRequest: not finite, or given to a model that does not take it.
    """
    if default is None:
        if value is not None:
            raise InvalidRequest(f"truncation: {value:g} given, but the model does not take it; leave it unset")
        return None
    psi = default if value is None else value
    if not np.isfinite(psi):
        raise InvalidRequest(f"truncation: {psi}; must be finite (1 is none, 0 is the mean picture)")
    return np.full(n, psi, np.float32)


def rows(arrays: dict[str, NDArray[Any]], start: int, stop: int) -> dict[str, NDArray[Any]]:
    """The same inputs for images start..stop-1, as views."""
    return {name: array[start:stop] for name, array in arrays.items()}


def _index(label: str, names: Sequence[str]) -> int:
    if label in names:
        return names.index(label)
    if label.isdecimal() and label.isascii() and len(label) < 10 and int(label) < len(names):
        return int(label)
    raise InvalidRequest(f"labels: no class {label!r}; the model has {_range(names)}")


def _range(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    return f"index 0..{len(names) - 1} or name ({shown})"
