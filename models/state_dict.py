"""State dicts: from a training repository's keys to those of the network that is served, and what their shapes say."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import nn

from models.architecture import ArchitectureError, StateDict

Rules: TypeAlias = Mapping[str, str | Callable[[re.Match[str]], str] | None]
"""Patterns of whole keys, and what each becomes: a template (`body.\\1.\\2`), a function of the match, or None, which
drops the key. The first pattern that fits counts."""


def rename(state: StateDict, rules: Rules, strict: bool = False) -> dict[str, torch.Tensor]:
    """The state under other keys. A key that fits no rule stays as it is.

    Args:
        state: the weights.
        rules: see `Rules`.
        strict: every key must fit a rule, as where rules describe one repository's keys; if one does not, nothing is
            returned, an empty dict.
    """
    renamed: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        for pattern, replacement in rules.items():
            if found := re.fullmatch(pattern, key):
                if replacement is not None:
                    renamed[found.expand(replacement) if isinstance(replacement, str) else replacement(found)] = tensor
                break
        else:
            if strict:
                return {}
            renamed[key] = tensor
    return renamed


def shape(state: StateDict, key: str, axes: int) -> tuple[int, ...]:
    """The tensor's shape; all zeros if it is missing or has another number of axes."""
    tensor = state.get(key)
    return tuple(tensor.shape) if tensor is not None and tensor.ndim == axes else (0,) * axes


def weight_shape(state: StateDict, name: str, axes: int) -> tuple[int, ...]:
    """`shape` of `<name>.weight`, which spectral normalisation may keep as `<name>.weight_orig`."""
    found = shape(state, f"{name}.weight_orig", axes)
    return found if any(found) else shape(state, f"{name}.weight", axes)


def count(state: StateDict, name: str) -> int:
    """How many members the list `name` has: `name.<member>. ...`."""
    parts = name.count(".") + 1
    return len({key.split(".")[parts] for key in state if key.startswith(f"{name}.")})


def require_shapes(state: StateDict, shapes: Mapping[str, Sequence[int]]) -> None:
    """Nothing, if the state has exactly these tensors; `num_batches_tracked` may be absent (torch before 0.4.1).

    Raises:
        ArchitectureError: one is missing, unknown, or of another shape.
    """
    missing = [key for key in shapes if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in shapes]
    if missing or unknown:
        kind, keys = ("missing", missing) if missing else ("unknown", unknown)
        raise ArchitectureError(f"{len(keys)} {kind} tensors, first {keys[0]!r}")
    for key, tensor in state.items():
        if tuple(tensor.shape) != tuple(shapes[key]):
            raise ArchitectureError(f"{key} is {tuple(tensor.shape)}, expected {tuple(shapes[key])}")


def load(network: nn.Module, state: StateDict) -> nn.Module:
    """The network with the weights in, in eval mode, without gradients.

    Raises:
        ArchitectureError: keys or shapes differ.
    """
    require_shapes(state, {key: tensor.shape for key, tensor in network.state_dict().items()})
    network.load_state_dict(dict(state), strict=False)
    return network.eval().requires_grad_(False)
