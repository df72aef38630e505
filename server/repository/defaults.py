"""Inputs that a tensor request may leave out, and the values that the graph gets instead."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.spec import OPTIONAL_INPUTS, Spec
from server.errors import InvalidRequest
from server.images.latents import Noise


class OptionalInputs:
    """The inputs of one model that have a default: `names`. A model without a manifest has none.

    The defaults are those of Generate for explicit latents, equal for every item of the batch: noise of seed 0, the
    model's own truncation, no w; if w is given, every item is generated from it.
    """

    def __init__(self, spec: Spec | None) -> None:
        self._items: dict[str, NDArray[np.float32]] = {}
        if spec is not None and spec.task.draws:
            for tensor in spec.inputs:
                if tensor.name in OPTIONAL_INPUTS:
                    self._items[tensor.name] = np.zeros((1, *tensor.shape), np.float32)
            if "noise" in self._items:
                self._items["noise"] = Noise([0], spec.latent_size, spec.noise_size).of_image(0)
            if "truncation_psi" in self._items and spec.truncation_default is not None:
                self._items["truncation_psi"][:] = spec.truncation_default
        self.names = frozenset(self._items)

    def fill(self, name: str, given: Mapping[str, NDArray[Any]], items: int) -> NDArray[np.float32]:
        """The input `name` (one of `names`, and not among those `given`) for so many items.

        Raises:
            InvalidRequest: `w_given` without `w`.
        """
        if name == "w" and "w_given" in given:
            raise InvalidRequest(
                "input 'w' is missing, but 'w_given' is there to say which items are generated from it"
            )
        if name == "w_given" and "w" in given:
            return np.ones(items, np.float32)
        return self._items[name].repeat(items, axis=0)


NO_OPTIONAL_INPUTS = OptionalInputs(None)
