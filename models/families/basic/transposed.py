"""The network behind every DCGAN-like generator: transposed convolutions from one pixel to the image."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

RANGES = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "none": (-1.0, 1.0)}


@dataclass(frozen=True)
class Step:
    """One convolution and what stands behind it; `transposed` False is a plain one."""

    before: int
    after: int
    kernel: int = 4
    stride: int = 2
    padding: int = 1
    transposed: bool = True
    bias: bool = False
    norm: bool = True

    def size_px(self, size_px: int) -> int:
        """Side of the map that comes out of one of side `size_px`."""
        if self.transposed:
            return (size_px - 1) * self.stride - 2 * self.padding + self.kernel
        return (size_px + 2 * self.padding - self.kernel) // self.stride + 1

    def build(self) -> nn.Module:
        """The convolution, untrained."""
        kind = nn.ConvTranspose2d if self.transposed else nn.Conv2d
        return kind(self.before, self.after, self.kernel, self.stride, self.padding, bias=self.bias)


def doubling_steps(channels: Sequence[int], first_kernel: int = 4) -> list[Step]:
    """DCGAN's steps: the first map is `first_kernel` wide, each further step doubles it; no norm behind the last."""
    pairs = list(itertools.pairwise(channels))
    first = Step(*pairs[0], first_kernel, 1, 0, norm=len(pairs) > 1)
    return [first, *(Step(*pair, norm=index < len(pairs) - 2) for index, pair in enumerate(pairs[1:]))]


def stack(steps: Sequence[Step], eps: float = 1e-5, slope: float = 0.0, output: str = "tanh") -> nn.Sequential:
    """The steps as layers: convolution 3i, its BatchNorm (or nothing) 3i+1, activation 3i+2; `output` behind the last.

    `slope` is of the leaky ReLU, 0 is a ReLU; `output` one of RANGES.
    """
    layers: list[nn.Module] = []
    for step in steps[:-1]:
        norm = nn.BatchNorm2d(step.after, eps) if step.norm else nn.Identity()
        layers += [step.build(), norm, nn.LeakyReLU(slope) if slope else nn.ReLU()]
    ends: dict[str, list[nn.Module]] = {"tanh": [nn.Tanh()], "sigmoid": [nn.Sigmoid()], "none": []}
    return nn.Sequential(*layers, steps[-1].build(), *ends[output])


class TransposedGenerator(nn.Module):
    """A `stack` on one pixel; keys as in pytorch/examples: convolutions are `main.<3i>`, norms `main.<3i+1>`."""

    def __init__(self, steps: Sequence[Step], eps: float = 1e-5, slope: float = 0.0, output: str = "tanh") -> None:
        super().__init__()
        self.main = stack(steps, eps, slope, output)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Images (N, C, H, W) float32, in the output's range, from `latent` (N, Z) float32."""
        image: torch.Tensor = self.main(latent[:, :, None, None])
        return image
