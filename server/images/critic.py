"""A generator's critic: its discriminator, which scores images, and what a score means among the model's own images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.spec import CriticSpec, Spec
from server.batching.batcher import Batcher
from server.errors import InvalidRequest
from server.images import latents


@dataclass(frozen=True, eq=False)
class Critic:
    """`spec`: the generator's. `facts`: what the manifest says of the critic. `batcher`: of its own engines."""

    spec: Spec
    facts: CriticSpec
    batcher: Batcher

    @property
    def item_bytes(self) -> int:
        """Of the inputs of one image."""
        height, width, channels = self.spec.image_shape
        return height * width * channels + (8 if self.facts.takes_label else 0)

    def labels(self, given: Sequence[str], n: int) -> NDArray[np.int64] | None:
        """The labels (n,) of images; None if the critic takes none.

        Raises:
            InvalidRequest: labels missing, unknown, or given to a critic that takes none.
        """
        if not self.facts.takes_label:
            if given:
                raise InvalidRequest(f"labels: {len(given)} given, but the model's critic takes none; leave them out")
            return None
        return latents.resolve_labels(given, n, self.spec.labels)

    def inputs(self, pixels: NDArray[np.uint8], label: int | None) -> dict[str, NDArray[Any]]:
        """Of one image (H, W, C)."""
        found: dict[str, NDArray[Any]] = {"image": np.ascontiguousarray(pixels[None])}
        if self.facts.takes_label:
            found["label"] = np.array([label], np.int64)
        return found

    def quantiles(self, label: int | None) -> tuple[float, ...]:
        """Of the scores of the model's own images with that label."""
        rows = self.facts.quantiles
        return rows[label if len(rows) > 1 and label is not None else 0]

    def percentile(self, score: float, label: int | None) -> float:
        """0..100: share of the model's own images with that label that score lower."""
        row = self.quantiles(label)
        return float(np.interp(score, row, np.linspace(0, 100, len(row))))
