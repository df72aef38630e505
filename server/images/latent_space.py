"""What a generator's latents can be changed in: its directions, and a StyleGAN's w. Any thread."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from artifact.directions import NO_DIRECTIONS, Direction, Directions
from artifact.repository import MAPPING
from artifact.spec import Spec
from server.engines.base import Engine
from server.errors import InvalidRequest
from server.images.workers import check_time

Center: TypeAlias = int | Literal["nearest"] | None
"""Of truncation: one by its number, for each image the one that is nearest to it, or the mean of all."""

_MAX_LISTED = 12  # directions that an error shows
# Of a direction, what must be left of it without the others.
_LEAST_LEFT = 1e-3


@dataclass(frozen=True)
class LatentSpace:
    """The latents of one generator.

    Attributes:
        mapping: the engine of `mapping.onnx`; None for a model without that file.
        centers: of truncation, (n, length) in w.
    """

    spec: Spec
    directions: Directions = NO_DIRECTIONS
    mapping: Engine | None = None
    centers: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))

    def close(self) -> None:
        """Closes the mapping network, if there is one."""
        if self.mapping is not None:
            self.mapping.close()

    @property
    def layers(self) -> int:
        """Of what edits act on."""
        return 1 if self.directions.space == "latent" or self.spec.w_shape is None else self.spec.w_shape[0]

    def require_w(self, field: str) -> tuple[int, int]:
        """(layers, length) of w, for a field of a request that needs w to be made from latents.

        Raises:
            InvalidRequest: the model has no w, or no mapping network beside it.
        """
        if self.spec.w_shape is None:
            raise InvalidRequest(f"{field}: the model has no w; leave it out")
        if self.mapping is None:
            raise InvalidRequest(f"{field}: the model has no {MAPPING}, which makes w; export it again")
        return self.spec.w_shape

    def find(self, field: str, name: str) -> Direction:
        """A direction by name or index.

        Raises:
            InvalidRequest: there is none.
        """
        found = self.directions.found
        for each in found:
            if each.name == name:
                return each
        if name.isdecimal() and name.isascii() and len(name) < 6 and int(name) < len(found):
            return found[int(name)]
        if not found:
            raise InvalidRequest(f"{field}: the model has no directions; export it with --directions auto")
        shown = ", ".join(each.name for each in found[:_MAX_LISTED]) + (", ..." if len(found) > _MAX_LISTED else "")
        raise InvalidRequest(f"{field}: no direction {name[:80]!r}; the model has 0..{len(found) - 1} or {shown}")

    def step(self, name: str, layers: Sequence[int] | None, without: Sequence[str]) -> NDArray[np.float32]:
        """What a strength of 1 adds: (layers, length), zero outside `layers`.

        Raises:
            InvalidRequest: no such direction, or nothing of it is left without the others.
        """
        direction = self.find("edits", name)
        kept = np.ones(self.layers) if layers is None else np.isin(np.arange(self.layers), layers)
        vector = self._in_layers(direction, kept)
        if without:
            others = np.stack([self._in_layers(self.find("edits.without", each), kept).ravel() for each in without])
            vector = _without(vector.ravel(), others, name, without).reshape(vector.shape)
        return (direction.sigma * vector).astype(np.float32)

    def map(
        self,
        latents: NDArray[np.float32],
        labels: NDArray[np.int64] | None,
        shares: NDArray[np.float32],
        center: Center = None,
    ) -> NDArray[np.float32]:
        """w (N, layers, length) of latents (N, Z), with psi for each layer (N, layers). Item by item, so that the
        numbers do not depend on the others."""
        if center is not None:
            return self._towards(center, self.map(latents, labels, np.ones_like(shares)), shares)
        mapping, w_shape = self.mapping, self.spec.w_shape
        assert mapping is not None, "require_w was asked"
        assert w_shape is not None, "require_w was asked"
        inputs: dict[str, NDArray[Any]] = {"latent": latents, "truncation_psi": shares}
        if labels is not None:
            inputs["label"] = labels
        found = np.empty((len(latents), *w_shape), np.float32)
        for index in range(len(latents)):
            check_time()
            item = {name: np.ascontiguousarray(array[index : index + 1]) for name, array in inputs.items()}
            found[index] = mapping.run(item, whole_device=False)["w"][0]
        return found

    def _towards(
        self, center: int | Literal["nearest"], w: NDArray[np.float32], shares: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """w (N, layers, length) that is `shares` (N, layers) of the way from a centre of its own to `w`."""
        if center == "nearest":
            middle = w.mean(axis=1, dtype=np.float64)
            far = [((self.centers - row) ** 2).sum(axis=1).argmin() for row in middle]
            chosen = self.centers[np.array(far, np.int64)]
        else:
            chosen = self.centers[[center] * len(w)]
        return np.asarray(chosen[:, None] + shares[..., None] * (w - chosen[:, None]), np.float32)

    def _in_layers(self, direction: Direction, kept: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(np.broadcast_to(direction.vector, (self.layers, direction.vector.shape[1])) * kept[:, None])


def _without(
    vector: NDArray[np.float64], others: NDArray[np.float64], name: str, without: Sequence[str]
) -> NDArray[np.float64]:
    """The part of `vector` that is orthogonal to the rows of `others`, as long as `vector`."""
    _, sizes, axes = np.linalg.svd(others, full_matrices=False)
    axes = axes[sizes > 1e-6 * max(1e-30, sizes[0])]
    rest = vector - axes.T @ (axes @ vector)
    length, left = float(np.linalg.norm(vector)), float(np.linalg.norm(rest))
    if left < _LEAST_LEFT * length:
        raise InvalidRequest(f"edits: nothing is left of direction {name!r} without {', '.join(without)[:200]}")
    return np.asarray(rest * (length / left if left else 0.0))
