"""Seeds, explicit latents and w, labels, truncation and noise -> the arrays that a generator takes. Pure functions."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from artifact.spec import ATTRIBUTES, Spec
from server.errors import InvalidRequest

SEEDS = 1 << 32  # numpy.random.RandomState takes 0..SEEDS-1

# Of two latents that point the same or the opposite way there is no one arc.
_SMALL_ANGLE = 1e-4

_MAX_LISTED = 12  # class names that an error shows


class _Generator(threading.local):
    """One generator per thread: seeding anew costs 5 us, a new RandomState 30."""

    def __init__(self) -> None:
        self.state = np.random.RandomState(0)


_generator = _Generator()


def from_seeds(seeds: Sequence[int], latent_size: int) -> NDArray[np.float32]:
    """The latent of each seed: (N, latent_size) float32, standard normal.

    Item i is `numpy.random.RandomState(seeds[i]).randn(1, latent_size)` cast to float32, whatever the other seeds are.
    """
    state = _generator.state
    latents = np.empty((len(seeds), latent_size), np.float32)
    for latent, seed in zip(latents, seeds, strict=True):
        state.seed(seed)
        latent[:] = state.standard_normal(latent_size)
    return latents


def on_the_way(own: NDArray[np.float32], ends: NDArray[np.float32], shares: Sequence[float]) -> NDArray[np.float32]:
    """The latents (N, Z) at `shares` (0..1) of the way from `own` (N, Z) to `ends`, on arcs around 0 whose radius
    changes evenly: spherical interpolation (White, "Sampling Generative Networks", 2016, arXiv:1609.04468). Ends and
    shares: one for all, one for each, or none."""
    if not len(ends):
        return own
    found = own.copy()
    for index, latent in enumerate(own):
        end, share = ends[index % len(ends)].astype(np.float64), shares[index % len(ends)]
        start = latent.astype(np.float64)
        lengths = np.linalg.norm(start), np.linalg.norm(end)
        units = start / lengths[0], end / lengths[1]
        angle = np.arccos(np.clip(np.sum(units[0] * units[1]), -1, 1))
        if not share or angle < _SMALL_ANGLE or np.pi - angle < _SMALL_ANGLE:
            found[index] = start + share * (end - start)
            continue
        on_circle = (np.sin((1 - share) * angle) * units[0] + np.sin(share * angle) * units[1]) / np.sin(angle)
        found[index] = on_circle * (lengths[0] + share * (lengths[1] - lengths[0]))
    return found


@dataclass(frozen=True)
class Noise:
    """The noise of each image, made when its turn comes: one image's may be megabytes.

    `seeds`: one for each image. The random stream of a seed begins with the latent, whose `latent_size` numbers are
    skipped, so that an image's latent and noise are independent even if both come from one seed.
    """

    seeds: Sequence[int]
    latent_size: int
    size: int

    def of_image(self, index: int) -> NDArray[np.float32]:
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
        InvalidRequest: empty, not a whole number of vectors, or a value that is not finite.
    """
    return _read_vectors("latents.data", data, latent_size)


def ws_from_bytes(data: bytes, per_layer: bool, w_shape: tuple[int, int]) -> NDArray[np.float32]:
    """Explicit w: (N, layers, length) float32 from little-endian bytes, row-major (N, length) or, `per_layer`, all.

    Raises:
        InvalidRequest: empty, not a whole number of vectors, or a value that is not finite.
    """
    layers, length = w_shape
    if per_layer:
        return _read_vectors("ws.data", data, layers * length).reshape(-1, layers, length)
    ws = _read_vectors("ws.data", data, length)
    return np.broadcast_to(ws[:, None], (len(ws), layers, length))


def resolve_labels(labels: Sequence[str], n: int, names: Sequence[str]) -> NDArray[np.int64] | None:
    """Class indices (n,) int64 from one label for all images or one for each; None for a model without classes.

    A label is a class name, or an index if no class has that name.

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


def resolve_attributes(labels: Sequence[str], spec: Spec) -> dict[str, NDArray[np.float32]]:
    """The input `attributes` (1, K) float32 of one image: 1 for each that is named, 0 for the others; nothing for a
    model without. One empty text names none.

    Raises:
        InvalidRequest: labels missing, unknown, or given to a model without attributes.
    """
    if all(tensor.name != ATTRIBUTES for tensor in spec.inputs):
        if labels:
            raise InvalidRequest(f"labels: {len(labels)} given, but the model has no attributes; leave them out")
        return {}
    if not labels:
        raise InvalidRequest(
            f"labels: missing; give all attributes that the image shall have, each by {_range(spec.labels)}, or one "
            "empty text for none of them"
        )
    chosen = np.zeros((1, len(spec.labels)), np.float32)
    if list(labels) != [""]:
        chosen[0, [_index(label, spec.labels) for label in labels]] = 1
    return {ATTRIBUTES: chosen}


def resolve_truncation(values: Sequence[float], n: int, spec: Spec) -> NDArray[np.float32] | None:
    """Truncation psi of each image (n,) float32, from one for all or one for each, else the model's default; None for a
    model without truncation.

    Raises:
        InvalidRequest: out of the model's range, neither one nor n, or given to a model that does not take it.
    """
    default = spec.truncation_default
    if default is None:
        if values:
            raise InvalidRequest(f"truncations: {values[0]:g} given, but the model does not support it; leave them out")
        return None
    if not values:
        return np.full(n, default, np.float32)
    _check_number("truncations", len(values), n)
    low, high = np.array(spec.truncation_range, np.float32).tolist()  # the request's precision
    for psi in values:
        if not low <= psi <= high:
            raise InvalidRequest(f"truncations: {psi:g}; must be {low:g}..{high:g} (1: no truncation)")
    return np.resize(np.array(values, np.float32), n)


def _read_vectors(field: str, data: bytes, size: int) -> NDArray[np.float32]:
    vector_bytes = 4 * size
    if not data or len(data) % vector_bytes:
        raise InvalidRequest(
            f"{field}: {len(data)} bytes is not n x {vector_bytes} (n vectors of {size} little-endian float32)"
        )
    values = np.frombuffer(data, "<f4").astype(np.float32, copy=False).reshape(-1, size)
    finite = np.isfinite(values)
    if not finite.all():
        item, column = np.argwhere(~finite)[0]
        raise InvalidRequest(f"{field}: item {item}, value {column} is {values[item, column]}; must be finite")
    return values


def _check_number(field: str, given: int, n: int) -> None:
    if given not in (1, n):
        raise InvalidRequest(f"{field}: {given} given for {n} images; give one for all or one for each")


def _index(label: str, names: Sequence[str]) -> int:
    if label in names:
        return names.index(label)
    if label.isdecimal() and label.isascii() and len(label) < 10 and int(label) < len(names):
        return int(label)
    raise InvalidRequest(f"labels: no class or attribute {label!r}; the model has {_range(names)}")


def _range(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")
    return f"index 0..{len(names) - 1} or name ({shown})"
