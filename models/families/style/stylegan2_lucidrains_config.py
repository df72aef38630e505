"""Which StyleGAN2 generator a `GAN` state of lucidrains/stylegan2-pytorch holds: sizes from keys and shapes.

Karras et al. 2019, arXiv:1912.04958; the network is `models.families.style.stylegan2_lucidrains`.
"""

import re
from dataclasses import dataclass

import torch

from models.architecture import StateDict
from models.state_dict import shape

HEAD = 64  # channels of one head of an attention layer


@dataclass(frozen=True)
class LucidrainsConfig:
    """Sizes of a generator; `widths` are the channels that go into each block, and those that the last one gives.

    `attention` are the blocks, counted from 0 at 4 px, that an attention layer precedes.
    """

    widths: tuple[int, ...]
    latent_dim: int
    style_depth: int
    channels: int
    attention: tuple[int, ...]
    no_const: bool

    @property
    def layers(self) -> int:
        """How many blocks there are, and intermediate latents."""
        return len(self.widths) - 1

    @property
    def size_px(self) -> int:
        """Height and width of an image."""
        return 2 << self.layers


def averages(state: StateDict) -> dict[str, torch.Tensor]:
    """What the repository samples from: the tensors under `SE.` and `GE.`."""
    return {key: tensor for key, tensor in state.items() if key.startswith(("SE.", "GE."))}


def read_config(state: StateDict) -> LucidrainsConfig | None:
    """What the keys and shapes of a generator tell; None if they are not exactly its."""
    widths = [shape(state, "GE.blocks.0.conv1.weight", 4)[1]]
    while (weight := shape(state, f"GE.blocks.{len(widths) - 1}.conv1.weight", 4))[0]:
        widths.append(weight[0])
    latent = shape(state, "SE.net.0.weight", 2)[1]
    if len(widths) < 2 or not latent:
        return None
    blocks = range(len(widths) - 1)
    config = LucidrainsConfig(
        widths=tuple(widths),
        latent_dim=latent,
        style_depth=sum(re.fullmatch(r"SE\.net\.\d+\.weight", key) is not None for key in state),
        channels=shape(state, "GE.blocks.0.to_rgb.conv.weight", 4)[0],
        attention=tuple(block for block in blocks if f"GE.attns.{block}.0.fn.norm.g" in state),
        no_const="GE.to_initial_block.weight" in state,
    )
    found = {key: tuple(tensor.shape) for key, tensor in averages(state).items()}
    return config if config.channels in (3, 4) and found == _shapes(config) else None


def _shapes(config: LucidrainsConfig) -> dict[str, tuple[int, ...]]:
    latent, first = config.latent_dim, config.widths[0]
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(config.style_depth):
        shapes |= _layer(f"SE.net.{2 * layer}", (latent, latent))
    if config.no_const:
        shapes["GE.to_initial_block.weight"] = (latent, first, 4, 4)
    else:
        shapes["GE.initial_block"] = (1, first, 4, 4)
    shapes |= _layer("GE.initial_conv", (first, first, 3, 3))
    for index in range(config.layers):
        shapes |= _block(config, index)
    for index in config.attention:
        shapes |= _attention(f"GE.attns.{index}", config.widths[index])
    return shapes


def _block(config: LucidrainsConfig, index: int) -> dict[str, tuple[int, ...]]:
    name, latent = f"GE.blocks.{index}", config.latent_dim
    inner, outer = config.widths[index : index + 2]
    shapes = _layer(f"{name}.to_style1", (inner, latent)) | _layer(f"{name}.to_style2", (outer, latent))
    shapes |= _layer(f"{name}.to_noise1", (outer, 1)) | _layer(f"{name}.to_noise2", (outer, 1))
    shapes |= _layer(f"{name}.to_rgb.to_style", (outer, latent))
    shapes |= {f"{name}.conv1.weight": (outer, inner, 3, 3), f"{name}.conv2.weight": (outer, outer, 3, 3)}
    shapes |= {f"{name}.to_rgb.conv.weight": (config.channels, outer, 1, 1)}
    return shapes if index == config.layers - 1 else shapes | {f"{name}.to_rgb.upsample.1.f": (3,)}


def _attention(name: str, width: int) -> dict[str, tuple[int, ...]]:
    inner = 8 * HEAD
    attend, feed = f"{name}.0.fn.fn", f"{name}.1.fn.fn"
    norms = {f"{name}.{part}.fn.norm.{weight}": (1, width, 1, 1) for part in (0, 1) for weight in ("g", "b")}
    return {
        **norms,
        f"{attend}.to_q.weight": (inner, width, 1, 1),
        f"{attend}.to_kv.net.0.weight": (width, 1, 3, 3),
        f"{attend}.to_kv.net.1.weight": (2 * inner, width, 1, 1),
        **_layer(f"{attend}.to_out", (width, inner, 1, 1)),
        **_layer(f"{feed}.0", (2 * width, width, 1, 1)),
        **_layer(f"{feed}.2", (width, 2 * width, 1, 1)),
    }


def _layer(name: str, weight: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}
