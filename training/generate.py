"""The pictures that seeds stand for, as the server draws them: what cards show and judge."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

AT_ONCE = 500


def latents(seeds: Iterable[int], size: int) -> Tensor:
    """(N, size) float32: row s is `numpy.random.RandomState(s).randn(1, size)`."""
    return torch.from_numpy(np.concatenate([np.random.RandomState(seed).randn(1, size) for seed in seeds])).float()


def noise(seeds: Iterable[int], latent_size: int, noise_size: int) -> Tensor:
    """(N, noise_size) float32: what each seed's RandomState gives after its latent."""
    return latents(seeds, latent_size + noise_size)[:, latent_size:].contiguous()


@torch.no_grad()
def draw(generator: nn.Module, *inputs: Tensor) -> Tensor:
    """Pictures (N, C, H, W) of a generator and its inputs, of N rows each, computed a few hundred at a time."""
    parts = math.ceil(len(inputs[0]) / AT_ONCE)
    return torch.cat([generator(*rows) for rows in zip(*(each.chunk(parts) for each in inputs), strict=True)])
