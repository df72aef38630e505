"""Seeds, explicit latents and w, labels, truncation and noise -> the arrays that a generator takes. Pure functions."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.spec import Spec
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


@dataclass(frozen=True)
class Noise:
    """The noise of each image, drawn when its turn comes: one image's may be megabytes.

    `seeds`: one for each image. The stream of a seed begins with the latent, whose `latent_size` numbers are passed
    over, so that an image's latent and noise have nothing in common, also where both are of one seed.
    """

    seeds: Sequence[int]
    latent_size: int
    size: int

    def row(self, index: int) -> NDArray[np.float32]:
        """The noise of image `index`: (1, size) float32, standard normal."""
        state = _generator.state
        state.seed(self.seeds[index])
        return state.standard_normal(self.latent_size + self.size)[None, self.latent_size :].astype(np.float32)


def resolve_noise(seeds: Sequence[int], n: int, own: Sequence[int] | None, spec: Spec) -> Noise | None:
    """The noise of n images, from `seeds` (one for all or one for each), else from the images' `own`, else from seed 0;
    None for a model without noise.

    Raises:
        InvalidRequest: neither one seed nor n, or given to a model that takes no noise.
    """
    if not spec.noise_size:
        if seeds:
            raise InvalidRequest(f"noise_seeds: {len(seeds)} given, but the model takes no noise; leave them out")
        return None
    if not seeds:
        chosen = own if own is not None else [0] * n
    else:
        _check_number("noise_seeds", len(seeds), n)
        chosen = seeds if len(seeds) == n else [seeds[0]] * n
    return Noise(chosen, spec.latent_size, spec.noise_size)


def from_bytes(data: bytes, latent_size: int) -> NDArray[np.float32]:
    """Explicit latents: (N, latent_size) float32 from little-endian bytes, row-major.

    Raises:
        InvalidRequest: no rows, not a whole number of rows, or a value that is not finite.
    """
    return _read_rows("latents.data", data, latent_size)


def ws_from_bytes(data: bytes, per_layer: bool, w_shape: tuple[int, int]) -> NDArray[np.float32]:
    """Explicit w: (N, layers, length) float32 from little-endian bytes, row-major (N, length) or, `per_layer`, all.

    Raises:
        InvalidRequest: no rows, not a whole number of rows, or a value that is not finite.
    """
    layers, length = w_shape
    if per_layer:
        return _read_rows("ws.data", data, layers * length).reshape(-1, layers, length)
    ws = _read_rows("ws.data", data, length)
    return np.broadcast_to(ws[:, None], (len(ws), layers, length))


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


def resolve_truncation(values: Sequence[float], n: int, spec: Spec) -> NDArray[np.float32] | None:
    """Truncation psi of each image (n,) float32, from one for all or one for each, else the model's default; None for a
    model without truncation.

    Raises:
        InvalidRequest: out of the model's range, neither one nor n, or given to a model that does not take it.
    """
    default = spec.truncation_default
    if default is None:
        if values:
            raise InvalidRequest(f"truncations: {values[0]:g} given, but the model does not take it; leave them out")
        return None
    if not values:
        return np.full(n, default, np.float32)
    _check_number("truncations", len(values), n)
    least, most = np.array(spec.truncation_range, np.float32).tolist()  # as the request brings them
    for psi in values:
        if not least <= psi <= most:
            raise InvalidRequest(f"truncations: {psi:g}; must be {least:g}..{most:g} (1 is none)")
    return np.resize(np.array(values, np.float32), n)


def rows(arrays: dict[str, NDArray[Any]], start: int, stop: int) -> dict[str, NDArray[Any]]:
    """The same inputs for images start..stop-1, as views."""
    return {name: array[start:stop] for name, array in arrays.items()}


def _read_rows(field: str, data: bytes, size: int) -> NDArray[np.float32]:
    row_bytes = 4 * size
    if not data or len(data) % row_bytes:
        raise InvalidRequest(
            f"{field}: {len(data)} bytes is not n x {row_bytes} (n rows of {size} little-endian float32)"
        )
    values = np.frombuffer(data, "<f4").astype(np.float32, copy=False).reshape(-1, size)
    finite = np.isfinite(values)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InvalidRequest(f"{field}: row {row}, column {column} is {values[row, column]}; must be finite")
    return values


def _check_number(field: str, given: int, n: int) -> None:
    if given not in (1, n):
        raise InvalidRequest(f"{field}: {given} given for {n} images; give one for all or one for each")


def _index(label: str, names: Sequence[str]) -> int:
    if label in names:
        return names.index(label)
    if label.isdecimal() and label.isascii() and len(label) < 10 and int(label) < len(names):
        return int(label)
    raise InvalidRequest(f"labels: no class {label!r}; the model has {_range(names)}")


def _range(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    return f"index 0..{len(names) - 1} or name ({shown})"
