"""State dicts under other names: from a training repository's keys to those of the network that is served."""

import re
from collections.abc import Mapping

import torch

from models.architecture import StateDict


def rename(state: StateDict, rules: Mapping[str, str | None]) -> dict[str, torch.Tensor]:
    """The state, each key rewritten by the first pattern that fits all of it; None drops it, no pattern keeps it."""
    renamed: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        new: str | None = key
        for pattern, replacement in rules.items():
            if found := re.fullmatch(pattern, key):
                new = None if replacement is None else found.expand(replacement)
                break
        if new is not None:
            renamed[new] = tensor
    return renamed


def shape(state: StateDict, key: str, axes: int) -> tuple[int, ...]:
    """The tensor's shape; all zeros where it is missing or has another number of axes."""
    tensor = state.get(key)
    return tuple(tensor.shape) if tensor is not None and tensor.ndim == axes else (0,) * axes


def weight_shape(state: StateDict, name: str, axes: int) -> tuple[int, ...]:
    """`shape` of `<name>.weight`, which spectral normalisation may keep as `<name>.weight_orig`."""
    found = shape(state, f"{name}.weight_orig", axes)
    return found if any(found) else shape(state, f"{name}.weight", axes)
