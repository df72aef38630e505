"""The network behind every multilayer-perceptron generator of `mlp.py`: linear layers, then one image."""

import itertools
from collections.abc import Sequence

import torch
from torch import nn

RANGES = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "none": (-1.0, 1.0)}


class MlpGenerator(nn.Module):
    """Linear layers of the given widths; after each but the last BatchNorm, where `norms` says so, and activation.

    The keys are those of eriklindernoren/PyTorch-GAN: `model.<i>` counts linear layers, norms and activations alike.

    Args:
        widths: from the latent to the image's C * H * W values.
        image_shape: (C, H, W).
        norms: one per hidden layer.
        eps: of BatchNorm; PyTorch-GAN passes 0.8 where the momentum seems meant.
        slope: of the leaky ReLU below zero; 0 is a ReLU.
        output: one of RANGES.
    """

    def __init__(
        self,
        widths: Sequence[int],
        image_shape: tuple[int, int, int],
        norms: Sequence[bool],
        eps: float = 0.8,
        slope: float = 0.2,
        output: str = "tanh",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for (before, after), norm in zip(itertools.pairwise(widths[:-1]), norms, strict=True):
            layers.append(nn.Linear(before, after))
            layers += [nn.BatchNorm1d(after, eps)] if norm else []
            layers.append(nn.LeakyReLU(slope) if slope else nn.ReLU())
        layers.append(nn.Linear(widths[-2], widths[-1]))
        ends: dict[str, list[nn.Module]] = {"tanh": [nn.Tanh()], "sigmoid": [nn.Sigmoid()], "none": []}
        layers += ends[output]
        self.model = nn.Sequential(*layers)
        self.image_shape = image_shape

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Images (N, C, H, W) float32, in the range of the output's activation, from `latent` (N, Z) float32."""
        values: torch.Tensor = self.model(latent)
        return values.reshape(-1, *self.image_shape)
