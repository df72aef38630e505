"""What a tensor request may leave out, and what the graph gets in its place."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.spec import OPTIONAL_INPUTS, Spec
from server.errors import InvalidRequest
from server.images.latents import Noise


class Defaults:
    """The inputs of one model that have a default: `names`. A model without a manifest has none.

    Equal rows get equal defaults, wherever in the batch they stand, and the same as Generate's for explicit latents:
    noise of seed 0, the model's own truncation, no w; and where w is given, every row is drawn from it.
    """

    def __init__(self, spec: Spec | None) -> None:
        self._rows: dict[str, NDArray[np.float32]] = {}
        if spec is not None and spec.task.draws:
            for tensor in spec.inputs:
                if tensor.name in OPTIONAL_INPUTS:
                    self._rows[tensor.name] = np.zeros((1, *tensor.shape), np.float32)
            if "noise" in self._rows:
                self._rows["noise"] = Noise([0], spec.latent_size, spec.noise_size).row(0)
            if "truncation_psi" in self._rows and spec.truncation_default is not None:
                self._rows["truncation_psi"][:] = spec.truncation_default
        self.names = frozenset(self._rows)

    def fill(self, name: str, given: Mapping[str, NDArray[Any]], rows: int) -> NDArray[np.float32]:
        """The input `name` (one of `names`, and not among those `given`) for so many rows.

        Raises:
            InvalidRequest: `w_given` without `w`.
        """
        if name == "w" and "w_given" in given:
            raise InvalidRequest("input 'w' is missing, but 'w_given' is there to say which rows are drawn from it")
        if name == "w_given" and "w" in given:
            return np.ones(rows, np.float32)
        return self._rows[name].repeat(rows, axis=0)


NONE = Defaults(None)
