"""Which StyleGAN2 generator a state dict of rosinality/stylegan2-pytorch holds: sizes from keys and shapes.

Karras et al. 2019, arXiv:1912.04958; the network is `models.families.style.stylegan2`.
"""

import itertools
import re
from dataclasses import dataclass

from models.architecture import StateDict
from models.state_dict import shape


@dataclass(frozen=True)
class StyleGan2Config:
    """The shape of a generator: `widths` are the channels at 4, 8, 16 ... pixels."""

    widths: tuple[int, ...]
    style_dim: int
    n_mlp: int
    channels: int

    @property
    def size_px(self) -> int:
        """Height and width of an image."""
        return 4 << (len(self.widths) - 1)

    @property
    def noise_sizes_px(self) -> list[int]:
        """Height and width of each noise map, coarse to fine."""
        return [4, *(8 << (layer // 2) for layer in range(2 * (len(self.widths) - 1)))]

    @property
    def layers(self) -> int:
        """How many intermediate latents an image takes."""
        return 2 * len(self.widths)


def read_config(state: StateDict) -> StyleGan2Config | None:
    """What the keys and shapes of a generator tell; None if they are not exactly its."""
    widths = [shape(state, "input.input", 4)[1]]
    while (weight := shape(state, f"convs.{2 * len(widths) - 2}.conv.weight", 5))[1]:
        widths.append(weight[1])
    depth = sum(re.fullmatch(r"style\.\d+\.weight", key) is not None for key in state)
    config = StyleGan2Config(
        tuple(widths), shape(state, "style.1.weight", 2)[0], depth, shape(state, "to_rgb1.bias", 4)[1]
    )
    if not config.widths[0] or not config.style_dim or config.channels not in (1, 3, 4):
        return None
    noises = {key: tensor for key, tensor in state.items() if key.startswith("noises.")}
    rest = {key: tuple(tensor.shape) for key, tensor in state.items() if key not in noises and key != "latent_avg"}
    stored = {f"noises.noise_{index}": (1, 1, size, size) for index, size in enumerate(config.noise_sizes_px)}
    complete = not noises or {key: tuple(tensor.shape) for key, tensor in noises.items()} == stored
    mean = state.get("latent_avg")
    return (
        config if rest == _shapes(config) and complete and (mean is None or mean.numel() == config.style_dim) else None
    )


def _shapes(config: StyleGan2Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a generator but the noise maps and the mean latent."""
    latent, first = config.style_dim, config.widths[0]
    shapes: dict[str, tuple[int, ...]] = {"input.input": (1, first, 4, 4)}
    for index in range(config.n_mlp):
        shapes |= {f"style.{index + 1}.weight": (latent, latent), f"style.{index + 1}.bias": (latent,)}
    shapes |= _conv("conv1", first, first, latent) | _to_rgb("to_rgb1", first, config)
    for step, (inner, outer) in enumerate(itertools.pairwise(config.widths)):
        shapes |= _conv(f"convs.{2 * step}", inner, outer, latent) | _conv(
            f"convs.{2 * step + 1}", outer, outer, latent
        )
        shapes |= _to_rgb(f"to_rgbs.{step}", outer, config)
        shapes |= {f"convs.{2 * step}.conv.blur.kernel": (4, 4), f"to_rgbs.{step}.upsample.kernel": (4, 4)}
    return shapes


def _conv(name: str, inner: int, outer: int, latent: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.conv.weight": (1, outer, inner, 3, 3),
        f"{name}.conv.modulation.weight": (inner, latent),
        f"{name}.conv.modulation.bias": (inner,),
        f"{name}.noise.weight": (1,),
        f"{name}.activate.bias": (outer,),
    }


def _to_rgb(name: str, inner: int, config: StyleGan2Config) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.conv.weight": (1, config.channels, inner, 1, 1),
        f"{name}.conv.modulation.weight": (inner, config.style_dim),
        f"{name}.conv.modulation.bias": (inner,),
        f"{name}.bias": (1, config.channels, 1, 1),
    }
