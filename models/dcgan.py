"""DCGAN: Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks", 2015, arXiv:1511.06434.

Reads the checkpoints of pytorch/examples `dcgan` and of the PyTorch faces tutorial (the same network): keys `main.<i>`.
Differences: any number of upsampling steps, so users' 128 px variants load (4 * 2^(n-1) pixels for n transposed convs),
and any channel counts rather than multiples of ngf.
"""

import itertools
import re
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from models.architecture import Architecture, Generator, Setting, StateDict, load
from models.spec import Scalar, Task

EPS = Setting(1e-5, "BatchNorm's epsilon, which no checkpoint stores")


def transposed_stack(channels: Sequence[int], first_kernel: int, eps: float = 1e-5) -> nn.Sequential:
    """Transposed convs between the given channel counts: the first `first_kernel` wide on one pixel, the rest doubling.

    BatchNorm and ReLU after each but the last, which ends in tanh. No conv biases.
    """
    layers: list[nn.Module] = []
    last = len(channels) - 2
    for index, (before, after) in enumerate(itertools.pairwise(channels)):
        kernel, stride, padding = (first_kernel, 1, 0) if index == 0 else (4, 2, 1)
        layers.append(nn.ConvTranspose2d(before, after, kernel, stride, padding, bias=False))
        layers += [nn.Tanh()] if index == last else [nn.BatchNorm2d(after, eps), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def stack_channels(state: StateDict, prefix: str = "main.") -> tuple[tuple[int, ...], int] | None:
    """(channel counts from latent to picture, first kernel) of a `transposed_stack`; None where it is none."""
    convs = sorted(int(key.split(".")[1]) for key in state if re.fullmatch(rf"{prefix}\d+\.weight", key))
    kernels = [state[f"{prefix}{index}.weight"] for index in convs if state[f"{prefix}{index}.weight"].ndim == 4]
    norms = [state[f"{prefix}{index}.weight"] for index in convs if state[f"{prefix}{index}.weight"].ndim == 1]
    expected = [index for step in range(len(kernels)) for index in (3 * step, 3 * step + 1)][:-1]
    if len(kernels) < 2 or convs != expected:
        return None
    channels = [kernels[0].shape[0], *(kernel.shape[1] for kernel in kernels)]
    chained = all(kernel.shape[0] == before for kernel, before in zip(kernels, channels, strict=False))
    normed = [len(norm) for norm in norms] == channels[1:-1]
    squares = all(tuple(kernel.shape[2:]) == (4, 4) for kernel in kernels[1:])
    first = kernels[0].shape[2]
    return (tuple(channels), first) if chained and normed and squares and first == kernels[0].shape[3] else None


def is_discriminator(state: StateDict) -> bool:
    """Whether this is the example's discriminator: `main.<i>` too, but convs with a single output at the end."""
    kernels = [tensor for tensor in state.values() if tensor.ndim == 4]
    return (
        len(kernels) >= 2
        and all(key.startswith("main.") for key in state)
        and all(after.shape[1] == before.shape[0] for before, after in itertools.pairwise(kernels))
        and kernels[-1].shape[0] == 1
    )


class DcganGenerator(nn.Module):
    """DCGAN's generator: `channels` from the latent to the picture, e.g. (100, 512, 256, 128, 64, 3) for 64 px."""

    def __init__(self, channels: Sequence[int], eps: float = 1e-5) -> None:
        super().__init__()
        self.main = transposed_stack(channels, first_kernel=4, eps=eps)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Pictures (N, C, H, W) float32 in [-1, 1] from `latent` (N, Z) float32, standard normal."""
        picture: torch.Tensor = self.main(latent[:, :, None, None])
        return picture


def _matches(state: StateDict) -> bool:
    found = stack_channels(state)
    return found is not None and found[1] == 4 and all(key.startswith("main.") for key in state)


def _relative(state: StateDict) -> str | None:
    if is_discriminator(state):
        return "a DCGAN discriminator (main.<i> are convs that end in one output), not the generator"
    return None


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    found = stack_channels(state)
    assert found is not None, "only called where _matches"
    channels, _ = found
    size_px = 4 * 2 ** (len(channels) - 2)
    return Generator(
        network=load(DcganGenerator(channels, eps=float(settings["eps"])), state),
        task=Task.UNCONDITIONAL,
        hyperparameters={"nz": channels[0], "ngf": channels[-2], "nc": channels[-1], "image_size_px": size_px},
        channels=channels[-1],
        output_range=(-1.0, 1.0),
        max_batch_size=32,
        image_size_px=(size_px, size_px),
        latent_size=channels[0],
    )


ARCHITECTURE = Architecture(
    name="dcgan",
    reference="pytorch/examples dcgan",
    matches=_matches,
    build=_build,
    settings={"eps": EPS},
    relative=_relative,
)
