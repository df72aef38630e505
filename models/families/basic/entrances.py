"""First layers with an entrance each for latent and label, as one layer: its weight is block-diagonal."""

import torch

from models.architecture import StateDict


def join(state: StateDict, latent: str, label: str, joined: str) -> dict[str, torch.Tensor] | None:
    """The state with the two layers' tensors, and those of their norms, under names that begin with `joined`.

    None if one of them lacks its partner. What the joined layer takes is latent, then label; so is what it gives.
    """
    found: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        if key.startswith(latent):
            other = state.get(key.replace(latent, label, 1))
            if other is None or other.ndim != tensor.ndim or other.shape[2:] != tensor.shape[2:]:
                return None
            found[key.replace(latent, joined, 1)] = _beside(tensor, other)
        elif not key.startswith(label):
            found[key] = tensor
    entered = any(key.startswith(latent) for key in state)
    return found if entered else None


def _beside(latent: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Both entrances' tensor of one kind: weights on a block diagonal, vectors in a row, a count as it is."""
    if latent.ndim < 2:
        return torch.cat([latent, label]) if latent.ndim else latent
    (first, second), (third, fourth) = latent.shape[:2], label.shape[:2]
    joined = latent.new_zeros(first + third, second + fourth, *latent.shape[2:])
    joined[:first, :second] = latent
    joined[first:, second:] = label
    return joined
