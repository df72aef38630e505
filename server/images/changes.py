"""Changes of latents that a request asks for: truncation by layer, mixes and edits. Applied before a batch is formed,
so that requests with different changes share one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.images import latents
from server.images.latent_space import LatentSpace


@dataclass(frozen=True)
class Changes:
    """Of n images.

    Attributes:
        edits: what a strength of 1 adds, (layers, length), and the strengths, (n,).
        mixes: seeds, one for each image, and the layers that are taken from them.
        shares: psi of each layer, (n, layers); None: w is not needed.
        return_w: whether callers want w.
    """

    space: LatentSpace
    edits: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]
    mixes: Sequence[tuple[Sequence[int], Sequence[int]]]
    shares: NDArray[np.float32] | None
    return_w: bool

    def __bool__(self) -> bool:
        return bool(self.edits) or self.shares is not None

    @property
    def maps(self) -> bool:
        """Whether w is made of latents, which takes a third of a millisecond an image and more."""
        return self.shares is not None

    def apply(self, given: dict[str, NDArray[Any]], labels: NDArray[np.int64] | None) -> dict[str, NDArray[Any]]:
        """The inputs with the changes made: of `latent` or of `w`, whichever they are for."""
        if self.shares is None:
            latent = given["latent"].copy()
            for step, strengths in self.edits:
                latent += strengths[:, None] * step
            return {**given, "latent": latent}
        w = given["w"].copy() if "w" in given else self.space.map(given["latent"], labels, self.shares)
        for seeds, layers in self.mixes:
            other = self.space.map(latents.from_seeds(seeds, self.space.spec.latent_size), labels, self.shares)
            w[:, layers] = other[:, layers]
        for step, strengths in self.edits:
            w += strengths[:, None, None] * step
        return {**given, "w": w, "w_given": np.ones(len(w), np.float32)}
