"""Inputs that a tensor request may leave out, and the values that the graph gets instead."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.dtypes import NUMPY_OF
from artifact.spec import OPTIONAL_INPUTS, REFERENCE, REFERENCE_GIVEN, Spec
from server.errors import InvalidRequest
from server.images.guidance import STYLE_SEED
from server.images.latents import Noise, from_seeds

# Inputs, and those that say which items are made from them.
_FLAGS = {"w": "w_given", REFERENCE: REFERENCE_GIVEN}


class OptionalInputs:
    """The inputs of one model that have a default: `names`. A model without a manifest has none.

    The defaults are those of Generate for explicit latents, equal for every item of the batch: noise of seed 0, the
    model's own truncation, no w; if w is given, every item is generated from it. Of a translator that takes styles from
    seeds and references they are those of Translate: the style of seed 0, no reference.
    """

    def __init__(self, spec: Spec | None) -> None:
        self._items: dict[str, NDArray[Any]] = {}
        if spec is not None and any(tensor.name == REFERENCE_GIVEN for tensor in spec.inputs):
            for tensor in spec.inputs:
                if tensor.name in (REFERENCE, REFERENCE_GIVEN):
                    self._items[tensor.name] = np.zeros((1, *tensor.shape), NUMPY_OF[tensor.dtype])
            self._items["latent"] = from_seeds([STYLE_SEED], spec.latent_size)
        if spec is not None and spec.task.draws:
            for tensor in spec.inputs:
                if tensor.name in OPTIONAL_INPUTS:
                    self._items[tensor.name] = np.zeros((1, *tensor.shape), np.float32)
            if "noise" in self._items:
                self._items["noise"] = Noise([0], spec.latent_size, spec.noise_size).of_image(0)
            if "truncation_psi" in self._items and spec.truncation_default is not None:
                self._items["truncation_psi"][:] = spec.truncation_default
        self.names = frozenset(self._items)

    def fill(self, name: str, given: Mapping[str, NDArray[Any]], items: int) -> NDArray[Any]:
        """The input `name` (one of `names`, and not among those `given`) for so many items.

        Raises:
            InvalidRequest: `w_given` without `w`, or `reference_given` without `reference`.
        """
        for source, flag in _FLAGS.items():
            if name == source and flag in given:
                raise InvalidRequest(
                    f"input {source!r} is missing, but {flag!r} is there to say which items are made from it"
                )
            if name == flag and source in given:
                return np.ones(items, np.float32)
        return self._items[name].repeat(items, axis=0)


NO_OPTIONAL_INPUTS = OptionalInputs(None)
