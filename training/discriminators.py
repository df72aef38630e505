"""Discriminators, kept beside the generators that they were trained against: critics of images."""

from pathlib import Path

from safetensors.torch import save_file
from torch import nn

ENDING = "-discriminator.safetensors"


def save_discriminator(network: nn.Module, generator: Path) -> None:
    """Writes it as float32 beside the generator's `NAME.safetensors`, as `NAME-discriminator.safetensors`.

    The keys are those of the recipe's own class, whose name is in the metadata; normalisation stays attached.
    """
    kind = type(network)
    state = {key: tensor.detach().cpu().float().contiguous() for key, tensor in network.state_dict().items()}
    save_file(
        {key: tensor.clone() for key, tensor in state.items()},
        generator.with_name(generator.stem + ENDING),
        metadata={"class": f"{kind.__module__}.{kind.__qualname__}", "generator": generator.name},
    )
