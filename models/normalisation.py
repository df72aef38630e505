"""Weights whose normalisation is still attached, as plain weights: what the layers do in eval mode, done once.

| keys | what it is |
|---|---|
| `<w>_orig`, `<w>_u`, `<w>_v` | torch.nn.utils.spectral_norm; before torch 1.0 without `_v` |
| `<w>_g`, `<w>_v` | torch.nn.utils.weight_norm |
| `<layer>.parametrizations.<w>.original`, `.0._u`, `.0._v` | torch.nn.utils.parametrizations.spectral_norm |
| `<layer>.parametrizations.<w>.original0`, `.original1` | torch.nn.utils.parametrizations.weight_norm |
| `<w>_bar`, `<w>_u`, `<w>_v` | christiancosgrove/pytorch-spectral-normalization-gan, copied by many |

The last one takes a step of the power method from the stored `<w>_u` whenever it is called, in eval mode too.

Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018, arXiv:1802.05957; Salimans, Kingma,
"Weight Normalization", 2016, arXiv:1602.07868.
"""

import re

import torch

from models.architecture import StateDict

_NEW = re.compile(r"((?:.+\.)?)parametrizations\.(\w+)\.(original[01]?|0\._[uv])")
_OLD_NAMES = {"original": "_orig", "0._u": "_u", "0._v": "_v", "original0": "_g", "original1": "_v"}


def as_old_names(state: StateDict) -> dict[str, torch.Tensor]:
    """The state with the keys of torch's older functions in place of `parametrizations`."""
    return {
        f"{found[1]}{found[2]}{_OLD_NAMES[found[3]]}" if (found := _NEW.fullmatch(key)) else key: tensor
        for key, tensor in state.items()
    }


def fold(state: StateDict) -> dict[str, torch.Tensor]:
    """The state, under the keys of `as_old_names`, with plain weights where a normalisation was attached."""
    folded: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        name = key.removesuffix("_orig")
        if name != key and f"{name}_u" in state:
            folded[name] = _spectral(tensor, state[f"{name}_u"], state.get(f"{name}_v"))
        elif key.endswith("_bar") and f"{key[:-4]}_u" in state:
            folded[key[:-4]] = _stepped(tensor, state[f"{key[:-4]}_u"])
        elif key.endswith("_v") and f"{key[:-2]}_g" in state:
            folded[key[:-2]] = _scaled(tensor, state[f"{key[:-2]}_g"])
        elif not _is_part(state, key):
            folded[key] = tensor
    return folded


def _is_part(state: StateDict, key: str) -> bool:
    """Whether it is a vector or a norm that a weight was folded with; or, before torch 1.0, the product beside it."""
    name = key[:-2]
    attached = f"{name}_orig" in state or f"{name}_bar" in state
    if key.endswith(("_u", "_v")) and attached and f"{name}_u" in state:
        return True
    return (key.endswith("_g") and f"{name}_v" in state) or (f"{key}_orig" in state and f"{key}_u" in state)


def _spectral(weight: torch.Tensor, left: torch.Tensor, right: torch.Tensor | None) -> torch.Tensor:
    """The weight divided by u^T W v, both as stored; W has the outputs' axis first, in a transposed conv the second."""
    full, u = weight.double(), left.double().flatten()
    matrices = [
        full.transpose(0, axis).flatten(1)
        for axis in range(min(full.ndim, 2))
        if full.shape[axis] == len(u) and (right is None or full.numel() == len(u) * right.numel())
    ]
    if not matrices:
        return weight
    if right is not None:
        v = right.double().flatten()
        # Of a square weight the vectors tell the axis: u is W v normalised, as one step of the power method left it.
        matrix = max(matrices, key=lambda one: torch.nn.functional.cosine_similarity(one @ v, u, dim=0).item())
        sigma = u @ (matrix @ v)
    else:
        sigma = max((one @ torch.nn.functional.normalize(one.T @ u, dim=0)).norm() for one in matrices)
    return (full / sigma).float()


def _stepped(weight: torch.Tensor, left: torch.Tensor) -> torch.Tensor:
    """The weight divided by |W v|, v = W^T u normalised; W has the weight's first axis first, whatever the layer."""
    full, u = weight.double(), left.double().flatten()
    matrix = full.flatten(1)
    if len(u) != len(matrix):
        return weight
    right: torch.Tensor = torch.nn.functional.normalize(u @ matrix, dim=0)
    sigma: torch.Tensor = torch.linalg.vector_norm(matrix @ right)
    return (full / sigma).float()


def _scaled(direction: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """The direction, made as long as `length` says along each axis where that has more than one entry."""
    if length.ndim != direction.ndim and length.ndim:
        return direction
    axes = [axis for axis in range(direction.ndim) if not length.ndim or length.shape[axis] == 1]
    full = direction.double()
    return (full / full.pow(2).sum(axes, keepdim=True).sqrt() * length.double()).float()
