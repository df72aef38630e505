"""DCGAN: Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks", 2015, arXiv:1511.06434; the same network as a Wasserstein GAN: Arjovsky, Chintala, Bottou, 2017,
arXiv:1701.07875, and Gulrajani et al., 2017, arXiv:1704.00028.

Reads the checkpoints of pytorch/examples `dcgan` and the PyTorch faces tutorial (the same network, keys `main.<i>`),
and of the repositories that `models.families.basic.dcgan_layouts` lists, martinarjovsky/WassersteinGAN among them.
Differences: any number of upsampling steps, so users' 128 px variants load (4 * 2^(n-1) pixels for n transposed convs),
and any channel counts rather than multiples of ngf.
"""

import itertools
import re
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict
from models.families.basic.dcgan_layouts import DcganConfig, read
from models.families.basic.latent_code import Conditioned, Distribution, LatentCode, Section
from models.families.basic.transposed import RANGES, TransposedGenerator, doubling_steps, stack
from models.state_dict import load

EPS = Setting(1e-5, "BatchNorm's epsilon, which no checkpoint stores")
SETTINGS = {
    "eps": EPS,
    "slope": Setting(0.0, "of the leaky ReLU between the layers; 0 is a ReLU"),
    "output": Setting("tanh", "activation of the last layer", tuple(RANGES)),
    "classes": Setting(0, "labels whose one-hot vector follows the latent in the first layer's input; 0: no labels"),
}


def transposed_stack(channels: Sequence[int], first_kernel: int, eps: float = 1e-5) -> nn.Sequential:
    """Transposed convs between the given channel counts: the first `first_kernel` wide on one pixel, the rest doubling.

    BatchNorm and ReLU after each but the last, which ends in tanh. No conv biases.
    """
    return stack(doubling_steps(channels, first_kernel), eps)


def stack_channels(state: StateDict, prefix: str = "main.") -> tuple[tuple[int, ...], int] | None:
    """(channel counts from latent to image, first kernel) of a `transposed_stack`; None if it is none."""
    own = {key: tensor for key, tensor in state.items() if re.match(rf"{prefix}\d+\.", key)}
    config = read(own)
    if config is None:
        return None
    channels = (config.steps[0].before, *(step.after for step in config.steps))
    first_kernel = config.steps[0].kernel
    return (channels, first_kernel) if list(config.steps) == doubling_steps(channels, first_kernel) else None


def is_discriminator(state: StateDict) -> bool:
    """Whether these are a DCGAN's convs from image to score: in a chain, with a single output at the end."""
    kernels = [tensor for tensor in state.values() if tensor.ndim == 4]
    return (
        len(kernels) >= 2
        and all(after.shape[1] == before.shape[0] for before, after in itertools.pairwise(kernels))
        and kernels[0].shape[1] <= 4
        and kernels[-1].shape[0] == 1
    )


class DcganGenerator(TransposedGenerator):
    """DCGAN's generator: `channels` from the latent to the image, e.g. (100, 512, 256, 128, 64, 3) for 64 px."""

    def __init__(self, channels: Sequence[int], eps: float = 1e-5) -> None:
        super().__init__(doubling_steps(channels), eps)


def as_generator(
    network: nn.Module, config: DcganConfig, latent: int, classes: int, output: str, extra: Mapping[str, Scalar]
) -> Generator:
    """The generator of a network that ends in the config's steps; `extra` hyper-parameters next to the usual."""
    channels = config.steps[-1].after
    return Generator(
        network=network.eval(),
        task=Task.CLASS_CONDITIONAL if classes else Task.UNCONDITIONAL,
        hyperparameters={
            "nz": latent,
            **({"classes": classes} if classes else {}),
            "ngf": config.steps[-1].before,
            "nc": channels,
            "image_size_px": config.size_px,
            **extra,
        },
        channels=channels,
        output_range=RANGES[output],
        max_batch_size=32,
        image_size_px=(config.size_px, config.size_px),
        latent_size=latent,
        classes=classes,
    )


def _matches(state: StateDict) -> bool:
    config = read(state)
    return config is not None and config.steps[0].kernel > 2


def _relative(state: StateDict) -> str | None:
    if is_discriminator(state):
        return "a DCGAN discriminator (convs that end in one output), not the generator"
    return None


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    config = read(state)
    assert config is not None, "only called where _matches"
    output, classes = str(settings["output"]), int(settings["classes"])
    body = TransposedGenerator(config.steps, float(settings["eps"]), float(settings["slope"]), output)
    load(body, config.state)
    inputs = config.steps[0].before
    if not classes:
        return as_generator(body, config, inputs, 0, output, {})
    if classes >= inputs:
        raise ArchitectureError(f"classes={classes}: the first layer has {inputs} inputs, the latent among them")
    sections = [Section(Distribution.NORMAL, inputs - classes), Section(Distribution.LABEL, classes)]
    network = Conditioned(LatentCode(sections, torch.eye(classes)), body)
    return as_generator(network, config, inputs - classes, classes, output, {})


ARCHITECTURE = Architecture(
    name="dcgan",
    reference="pytorch/examples dcgan; martinarjovsky/WassersteinGAN; Natsu6767, Zeleni9, znxlwm, aladdinpersson",
    matches=_matches,
    build=_build,
    settings=SETTINGS,
    relative=_relative,
)
