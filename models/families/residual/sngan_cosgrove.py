"""SNGAN: Miyato, Kataoka, Koyama, Yoshida, "Spectral Normalization for Generative Adversarial Networks", 2018,
arXiv:1802.05957.

Reads christiancosgrove/pytorch-spectral-normalization-gan's `gen_<epoch>` of model_resnet.py: residual blocks without
convs beside them, 4 px to the image. Most convs have two names in the file, which must agree; either may be missing.
The generators of its model.py are `dcgan`.
Differences: the repository's samples are made in training mode, by the statistics of their batch; here the stored ones
are used.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, StateDict
from models.families.residual.entries import side_px
from models.state_dict import Rules, load, rename, shape

# The conv's name in its block -> its name in the nn.Sequential there.
TWICE = {"conv1": "model.3", "conv2": "model.6"}


class Block(nn.Module):
    """norm, ReLU, doubling, 3x3 conv, norm, ReLU, 3x3 conv, added to the doubled input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, width, 3, 1, 1)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, width, 2H, 2W) float32."""
        changed = self.conv1(F.interpolate(F.relu(self.norm1(maps)), scale_factor=2.0))
        change: torch.Tensor = self.conv2(F.relu(self.norm2(changed)))
        return change + F.interpolate(maps, scale_factor=2.0)


class SnganGenerator(nn.Module):
    """A linear layer, `blocks` blocks, a conv and tanh."""

    def __init__(self, latent: int, width: int, first_px: int, blocks: int, channels: int) -> None:
        super().__init__()
        self.first_map = (width, first_px, first_px)
        self.dense = nn.Linear(latent, width * first_px**2)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.norm = nn.BatchNorm2d(width)
        self.final = nn.Conv2d(width, channels, 3, 1, 1)
        self.output = nn.Tanh()

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Images (N, C, H, W) float32 in [-1, 1] from `latent` (N, Z) float32."""
        maps = self.dense(latent).unflatten(1, self.first_map)
        for block in self.blocks:
            maps = block(maps)
        image: torch.Tensor = self.output(self.final(F.relu(self.norm(maps))))
        return image


def _blocks(state: StateDict) -> int:
    """How many blocks there are: those numbers in `model` that have a norm of their own."""
    count = 0
    while f"model.{count}.model.0.running_var" in state:
        count += 1
    return count


def _plain(state: StateDict) -> dict[str, torch.Tensor]:
    """The state with one name for each tensor, ours; empty where it has others.

    Raises:
        ArchitectureError: two names of one conv, with different weights.
    """
    blocks = _blocks(state)
    twice = {
        f"model.{step}.{second}": f"model.{step}.{first}" for step in range(blocks) for first, second in TWICE.items()
    }
    twice[f"model.{blocks + 2}"] = "final"
    single = dict(state)
    for second, first in twice.items():
        for end in ("weight", "bias"):
            copy = single.pop(f"{second}.{end}", None)
            if copy is not None and not torch.equal(single.setdefault(f"{first}.{end}", copy), copy):
                raise ArchitectureError(
                    f"{first}.{end} and {second}.{end} are one tensor there, and differ in the file"
                )
    rules: Rules = {
        r"dense\.(weight|bias)": r"dense.\1",
        r"final\.(weight|bias)": r"final.\1",
        r"model\.(\d+)\.(conv[12]\.\w+)": r"blocks.\1.\2",
        r"model\.(\d+)\.model\.0\.(\w+)": r"blocks.\1.norm1.\2",
        r"model\.(\d+)\.model\.4\.(\w+)": r"blocks.\1.norm2.\2",
        rf"model\.{blocks}\.(\w+)": r"norm.\1",
    }
    return rename(single, rules, strict=True)


def _matches(state: StateDict) -> bool:
    blocks = _blocks(state)
    width = shape(state, "model.0.model.0.running_var", 1)[0]
    named = any(f"model.0.{name}.weight" in state for pair in TWICE.items() for name in pair)
    stem = shape(state, "dense.weight", 2)[0]
    return width > 0 and named and stem > 0 and stem % width == 0 and f"model.{blocks}.running_var" in state


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    plain = _plain(state)
    blocks, width = _blocks(state), shape(plain, "norm.running_var", 1)[0]
    first_px = side_px(plain.get("dense.weight"), width)
    if not first_px:
        raise ArchitectureError("dense does not make a square map of the blocks' channels")
    latent, channels = plain["dense.weight"].shape[1], shape(plain, "final.weight", 4)[0]
    size_px = first_px * 2**blocks
    return Generator(
        network=load(SnganGenerator(latent, width, first_px, blocks, channels), plain),
        task=Task.UNCONDITIONAL,
        hyperparameters={"z_dim": latent, "GEN_SIZE": width, "channels": channels, "image_size_px": size_px},
        channels=channels,
        output_range=(-1.0, 1.0),
        max_batch_size=32,
        image_size_px=(size_px, size_px),
        latent_size=latent,
    )


def _relative(state: StateDict) -> str | None:
    if any(key.endswith(("bypass_conv.module.weight_bar", "bypass_conv.weight_bar")) for key in state):
        return "a discriminator of christiancosgrove/pytorch-spectral-normalization-gan, not the generator"
    return None


ARCHITECTURE = Architecture(
    name="sngan-cosgrove",
    reference="christiancosgrove/pytorch-spectral-normalization-gan model_resnet.py",
    matches=_matches,
    build=_build,
    relative=_relative,
)
