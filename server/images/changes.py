"""Changes of latents that a request asks for: truncation by layer, mixes and edits. Applied before a batch is formed,
so that requests with different changes share one."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.images import latents
from server.images.latent_space import Center, LatentSpace


@dataclass(frozen=True)
class Changes:
    """Of n images.

    Attributes:
        edits: what a strength of 1 adds, (layers, length), and the strengths, (n,).
        mixes: seeds, one for each image, and the layers that are taken from them.
        shares: psi of each layer, (n, layers), of w that is made of latents; None: none is.
        return_w: whether callers want w.
        of_ws: w is given.
        center: of truncation.
    """

    space: LatentSpace
    edits: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]
    mixes: Sequence[tuple[Sequence[int], Sequence[int]]]
    shares: NDArray[np.float32] | None
    return_w: bool
    of_ws: bool = False
    center: Center = None

    def __bool__(self) -> bool:
        return bool(self.edits) or self.shares is not None or self.return_w

    @property
    def image_bytes(self) -> int:
        """Of the latent or w that `apply` makes of each image; at its peak it holds twice as much."""
        spec = self.space.spec
        return 4 * (math.prod(spec.w_shape or ()) if self.shares is not None or self.of_ws else spec.latent_size)

    def digest(self) -> bytes:
        """Of all that `apply` depends on, beside the model and its arguments."""
        digest = hashlib.sha256(f"{self.of_ws}\0{self.center}".encode())
        for step, strengths in self.edits:
            digest.update(f"\0edit\0{step.shape}".encode() + step.tobytes() + strengths.tobytes())
        for seeds, layers in self.mixes:
            digest.update(f"\0mix\0{list(seeds)}\0{list(layers)}".encode())
        if self.shares is not None:
            digest.update(b"\0shares" + self.shares.tobytes())
        return digest.digest()

    def apply(self, given: dict[str, NDArray[Any]], labels: NDArray[np.int64] | None) -> dict[str, NDArray[Any]]:
        """The inputs with the changes made: of `latent` or of `w`, whichever they are for. W that is made of latents
        takes a third of a millisecond an image and more."""
        if self.shares is None and not self.of_ws:
            latent = given["latent"].copy()
            for step, strengths in self.edits:
                latent += strengths[:, None] * step
            return {**given, "latent": latent}
        w = (
            given["w"].copy()
            if self.shares is None
            else self.space.map(given["latent"], labels, self.shares, self.center)
        )
        for seeds, layers in self.mixes:
            assert self.shares is not None, "mixes are of latents"
            others = latents.from_seeds(seeds, self.space.spec.latent_size)
            mixed = self.space.map(others, labels, self.shares, self.center)
            w[:, layers] = mixed[:, layers]
            del mixed
        for step, strengths in self.edits:
            w += strengths[:, None, None] * step
        return {**given, "w": w, "w_given": np.ones(len(w), np.float32)}
