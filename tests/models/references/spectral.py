"""Spectral norm's stored vectors as training leaves them."""

import torch.nn.functional as F
from torch import Tensor, nn


def unit_vectors(network: nn.Module) -> None:
    """Brings u and v of every torch.nn.utils.spectral_norm close to the first singular vectors of its weight."""
    for module in network.modules():
        if not hasattr(module, "weight_orig"):
            continue
        weight, u, v = (module.get_parameter("weight_orig"), *_vectors(module))
        matrix = (weight.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) else weight).detach().flatten(1)
        for _ in range(3):
            v.copy_(F.normalize(matrix.T @ u, dim=0))
            u.copy_(F.normalize(matrix @ v, dim=0))


def _vectors(module: nn.Module) -> tuple[Tensor, Tensor]:
    return module.get_buffer("weight_u"), module.get_buffer("weight_v")
