"""SNGAN, cGAN with projection discriminator, SAGAN: Miyato, Kataoka, Koyama, Yoshida, "Spectral Normalization for
Generative Adversarial Networks", 2018, arXiv:1802.05957; Miyato, Koyama, "cGANs with Projection Discriminator", 2018,
arXiv:1802.05637; Zhang, Goodfellow, Metaxas, Odena, "Self-Attention Generative Adversarial Networks", 2018,
arXiv:1805.08318.

Reads kwotsin/mimicry's `netG_<step>_steps.pth`: sngan, and with it ssgan, infomax_gan, dcgan and wgan_gp, whose
generators are the same network under the same keys; cgan_pd; sagan. 32, 48, 64 and 128 px, from the number of blocks
and the first layer. Upsampling is bilinear. dcgan's variant for CIFAR-10 ends in a sigmoid, which no file says: `--set
output=sigmoid`. Differences: any widths and numbers of blocks; where SAGAN's attention stands follows from its width,
or is as in the repository's 32 px network, or has to be said.
"""

import itertools
import re
from collections.abc import Callable, Mapping

import torch
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict
from models.families.residual.attention import fold_gain
from models.families.residual.entries import Entry, side_px
from models.families.residual.spectral import fold_stored
from models.families.residual.trunk_config import TrunkConfig
from models.state_dict import Rules, load, rename, shape, weight_shape

EPS = 1e-5
OUTPUT = Setting("tanh", "the last function; dcgan for CIFAR-10 has sigmoid", ("tanh", "sigmoid"))
AFTER = Setting(0, "k of the `block<k>` that attention follows, where its width fits several blocks")


def _last(state: StateDict) -> int:
    """The number in the names of the last norm and conv; blocks are numbered from 2 up to it."""
    return 1 + max((int(found[1]) for key in state if (found := re.match(r"block(\d+)\.c1\.", key))), default=0)


def _kind(state: StateDict) -> str | None:
    last = _last(state)
    first = weight_shape(state, "block2.c1", 4)[1]
    stem = weight_shape(state, "l1", 2)
    head = weight_shape(state, f"c{last}", 4)
    if not first or not stem[1] or stem[0] % first or not head[1] or "block1.c1.weight" in state:
        return None
    if shape(state, f"b{last}.running_mean", 1)[0] != head[1]:
        return None
    if "block2.b1.embed.weight" not in state:
        return "sngan" if "block2.b1.running_mean" in state else None
    return "sagan" if weight_shape(state, "attn_block.theta", 4)[1] else "cgan-pd"


def _is(kind: str) -> Callable[[StateDict], bool]:
    return lambda state: _kind(state) == kind


def _relative(state: StateDict) -> str | None:
    if weight_shape(state, "block1.c1", 4)[1] and "block1.b1.running_mean" not in state and "l1.weight" not in state:
        return "a residual discriminator of kwotsin/mimicry (block1 and no l1), not the generator"
    return None


def _entries(state: StateDict, after: int) -> list[Entry]:
    """The blocks, and behind one of them attention where there is any.

    Raises:
        ArchitectureError: a block is missing, widths do not chain, or nothing says where attention stands.
    """
    shapes = [weight_shape(state, f"block{index}.c1", 4) for index in range(2, _last(state))]
    blocks = [Entry(f"block{index}.", size[1], size[0]) for index, size in enumerate(shapes, start=2)]
    for one, two in itertools.pairwise(blocks):
        if one.after != two.before:
            raise ArchitectureError(f"{one.prefix} gives {one.after} channels and {two.prefix} takes {two.before}")
    width = weight_shape(state, "attn_block.theta", 4)[1]
    if not width:
        return blocks
    fits = [index for index, block in enumerate(blocks, start=2) if block.after == width]
    place = after or (fits[0] if len(fits) == 1 else 3 if len(blocks) == 3 and 3 in fits else 0)
    if place not in fits:
        can = ", ".join(map(str, fits)) or "none"
        raise ArchitectureError(f"which block attention follows is not known; pass --set attention_after=K, K of {can}")
    blocks.insert(place - 1, Entry("attn_block.", width, width, attention=True))
    return blocks


def _config(state: StateDict, after: int) -> TrunkConfig:
    listed = _entries(state, after)
    classes = shape(state, "block2.b1.embed.weight", 2)[0]
    stem = weight_shape(state, "l1", 2)
    head = weight_shape(state, f"c{_last(state)}", 4)
    side = int((stem[0] // listed[0].before) ** 0.5 + 0.5)
    condition = "label" if classes else "nothing"
    return TrunkConfig(tuple(listed), condition, stem[1], side, classes, 0, head[0], "bilinear")


def _weights(state: StateDict, config: TrunkConfig) -> dict[str, torch.Tensor]:
    last = _last(state)
    named = fold_stored(state)
    for index, entry in enumerate(config.entries):
        named = rename(named, {re.escape(entry.prefix) + r"(.*)": rf"layers.{index}.\1"})
    names: Rules = {
        r"l1\.(.*)": r"stem.\1",
        rf"b{last}\.(.*)": r"norm.\1",
        rf"c{last}\.(.*)": r"head.\1",
        r"(layers\.\d+\.)c_sc\.(.*)": r"\1shortcut.\2",
        r"(layers\.\d+\.)c(\d)\.(.*)": r"\1conv\2.\3",
        r"(layers\.\d+\.)b(\d)\.bn\.(.*)": r"\1norm\2.norm.\3",
        r"(layers\.\d+\.)b(\d)\.embed\.(.*)": r"\1norm\2.affine.\3",
        r"(layers\.\d+\.)b(\d)\.(.*)": r"\1norm\2.\3",
    }
    return fold_gain(rename(named, names), "gamma")


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    config = _config(state, int(settings.get("attention_after", 0)))
    if side_px(fold_stored(state).get("l1.weight"), config.blocks[0].before) != config.side_px:
        raise ArchitectureError("l1 does not make a square map of the first block's channels")
    is_tanh = settings["output"] == "tanh"
    network = config.network(EPS, EPS, nn.ReLU(), torch.tanh if is_tanh else torch.sigmoid)
    sizes: dict[str, Scalar] = {
        "nz": config.latent_size,
        "ngf": config.blocks[0].before,
        "bottom_width": config.side_px,
        "image_size_px": config.size_px,
    }
    if config.classes:
        sizes["num_classes"] = config.classes
    if config.attention_px:
        sizes["attention_px"] = config.attention_px[0]
    return Generator(
        network=load(network, _weights(state, config)),
        task=Task.CLASS_CONDITIONAL if config.classes else Task.UNCONDITIONAL,
        hyperparameters=sizes,
        channels=config.channels,
        output_range=(-1.0 if is_tanh else 0.0, 1.0),
        max_batch_size=16,
        image_size_px=(config.size_px, config.size_px),
        latent_size=config.latent_size,
        classes=config.classes,
        tolerance=1e-3,
    )


def _architecture(name: str, nets: str, settings: Mapping[str, Setting]) -> Architecture:
    return Architecture(
        name=name,
        reference=f"kwotsin/mimicry {nets}",
        matches=_is(name),
        build=_build,
        settings=settings,
        relative=_relative,
    )


ARCHITECTURE = _architecture("sngan", "sngan, ssgan, infomax_gan, dcgan, wgan_gp", {"output": OUTPUT})
CGAN_PD = _architecture("cgan-pd", "cgan_pd", {"output": OUTPUT})
SAGAN = _architecture("sagan", "sagan", {"output": OUTPUT, "attention_after": AFTER})
