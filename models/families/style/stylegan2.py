"""StyleGAN2: Karras, Laine, Aittala, Hellsten, Lehtinen, Aila, "Analyzing and Improving the Image Quality of StyleGAN",
2019, arXiv:1912.04958.

Reads the checkpoints of rosinality/stylegan2-pytorch: `g_ema` of its training files and of files converted from
TensorFlow. Differences: activations are scaled instead of weights (`stylegan2_ops`); all run-time scales are
folded into the weights; noise is what the file stores (the repository's randomize_noise=False), none, or an input;
truncation beyond 1 extrapolates, where the repository leaves it out; training files have no mean latent, which the
repository estimates from 4096 random latents and this from 4096 latents of seed 0, in float64.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict
from models.families.noise_maps import split_noise
from models.families.style.stylegan2_config import StyleGan2Config, read_config
from models.families.style.stylegan2_ops import (
    GAIN,
    Fir,
    FirUpsample,
    LatentsPerLayer,
    ModulatedConv,
    ToW,
    activate,
    mean_latent,
    normalise_second_moment,
)

MEAN_OF = 4096
MAPPING_RATE = 0.01
SETTINGS = {
    "noise": Setting("const", "per-pixel noise: as stored in the file, none, or an input", ("const", "none", "input")),
    "truncation_cutoff": Setting(0, "how many layers truncation acts on; 0 means all"),
    "lr_mlp": Setting(MAPPING_RATE, "the mapping network's learning rate multiplier, which no checkpoint stores"),
}


class StyledConv(nn.Module):
    """A modulated 3x3 convolution, doubling or not, then noise, bias and leaky ReLU; `noise` as the setting."""

    bias: Tensor
    strength: Tensor
    stored: Tensor | None

    def __init__(self, state: StateDict, name: str, noise: Tensor | None) -> None:
        super().__init__()
        up = f"{name}.conv.blur.kernel" in state
        weight = state[f"{name}.conv.weight"][0].double()
        outer, inner, size, _ = weight.shape
        self.style = folded(state, f"{name}.conv.modulation")
        self.conv = ModulatedConv(inner, outer, size, up=up, gain=GAIN)
        self.conv.take(weight / math.sqrt(inner * size**2))
        self.blur = Fir(outer, state[f"{name}.conv.blur.kernel"], (1, 1, 1, 1)) if up else nn.Identity()
        self.register_buffer("bias", state[f"{name}.activate.bias"][:, None, None] * GAIN)
        self.register_buffer("strength", state[f"{name}.noise.weight"] * GAIN)
        self.register_buffer("stored", None if noise is None else noise * self.strength)

    def forward(self, maps: Tensor, latent: Tensor, noise: Tensor | None = None) -> Tensor:
        """(N, out, H', W') float32; `noise` (N, 1, H', W') where it is an input."""
        out: Tensor = self.blur(self.conv(maps, self.style(latent)))
        if noise is not None:
            out = out + noise * self.strength
        elif self.stored is not None:
            out = out + self.stored
        return activate(out + self.bias)


class ToRgb(nn.Module):
    """A modulated 1x1 convolution to colours, added to the doubled colours of the layer before."""

    bias: Tensor

    def __init__(self, state: StateDict, name: str) -> None:
        super().__init__()
        weight = state[f"{name}.conv.weight"][0].double()
        self.style = folded(state, f"{name}.conv.modulation")
        self.conv = ModulatedConv(weight.shape[1], weight.shape[0], 1, demodulate=False)
        self.conv.take(weight / math.sqrt(weight.shape[1]))
        self.register_buffer("bias", state[f"{name}.bias"])
        kernel = state.get(f"{name}.upsample.kernel")
        self.upsample = nn.Identity() if kernel is None else FirUpsample(weight.shape[0], kernel, (2, 1, 2, 1))

    def forward(self, maps: Tensor, latent: Tensor, skip: Tensor | None = None) -> Tensor:
        """(N, channels, H, W) float32 of `picture` (N, C, H, W) and `skip` (N, channels, H / 2, W / 2)."""
        out: Tensor = self.conv(maps, self.style(latent)) + self.bias
        return out if skip is None else out + self.upsample(skip)


class MappingNetwork(nn.Module):
    """Latents (N, Z) float32 to intermediate ones (N, Z)."""

    def __init__(self, state: StateDict, config: StyleGan2Config, rate: float) -> None:
        super().__init__()
        gain = rate * GAIN
        self.layers = nn.ModuleList(folded(state, f"style.{index + 1}", gain, gain) for index in range(config.n_mlp))

    def forward(self, latent: Tensor) -> Tensor:
        """(N, Z) float32; `latent` is divided by its root mean square first."""
        out = normalise_second_moment(latent)
        for layer in self.layers:
            out = activate(layer(out))
        return out


class _Generator(nn.Module):
    """StyleGAN2 as rosinality writes it; `noise`, `cutoff` and `rate` are the settings."""

    const: Tensor

    def __init__(self, state: StateDict, config: StyleGan2Config, noise: str, cutoff: int, rate: float) -> None:
        super().__init__()
        steps = range(len(config.widths) - 1)
        names = ["conv1", *(f"convs.{index}" for index in range(2 * len(steps)))]
        stored = [state[f"noises.noise_{index}"] if noise == "const" else None for index in range(len(names))]
        self.mapping = MappingNetwork(state, config, rate)
        self.latents = LatentsPerLayer(config.layers, config.style_dim, cutoff)
        self.register_buffer("const", state["input.input"])
        self.convs = nn.ModuleList(StyledConv(state, name, pixels) for name, pixels in zip(names, stored, strict=True))
        self.to_rgbs = nn.ModuleList(ToRgb(state, name) for name in ("to_rgb1", *(f"to_rgbs.{step}" for step in steps)))
        self.noise_sizes_px = config.noise_sizes_px

    def synthesise(self, latents: Sequence[Tensor], maps: Sequence[Tensor | None]) -> Tensor:
        """Images (N, channels, H, W) float32, about -1..1.

        Args:
            latents: one (N, Z) for each layer.
            maps: noise (N, 1, S, S) for each convolution where it is an input.
        """
        out = self.convs[0](self.const.expand(latents[0].shape[0], -1, -1, -1), latents[0], maps[0])
        image: Tensor = self.to_rgbs[0](out, latents[1])
        for step in range(1, len(self.convs), 2):
            out = self.convs[step](out, latents[step], maps[step])
            out = self.convs[step + 1](out, latents[step + 1], maps[step + 1])
            image = self.to_rgbs[(step + 1) // 2](out, latents[step + 2], image)
        return image


class StyleGan2Generator(_Generator):
    """With the noise that is stored, or none."""

    def forward(self, latent: Tensor, truncation_psi: Tensor, w: Tensor, w_given: Tensor) -> Tensor:
        """Images (N, channels, H, W) float32, about -1..1, from `latent` (N, Z); the rest as `LatentsPerLayer`."""
        latents = self.latents(self.mapping(latent), truncation_psi, w, w_given)
        return self.synthesise(latents.unbind(1), [None] * len(self.convs))


class NoisyStyleGan2Generator(_Generator):
    """With noise as an input."""

    def forward(self, latent: Tensor, noise: Tensor, truncation_psi: Tensor, w: Tensor, w_given: Tensor) -> Tensor:
        """As without, and `noise` (N, K) standard normal: the maps of all convolutions, coarse to fine, row by row."""
        latents = self.latents(self.mapping(latent), truncation_psi, w, w_given)
        return self.synthesise(latents.unbind(1), split_noise(noise, self.noise_sizes_px))


def folded(state: StateDict, name: str, gain: float = 1.0, bias_gain: float = 1.0) -> nn.Linear:
    """The linear layer of `name` with its equalised learning rate's factor and the gains in the weights."""
    weight, bias = state[f"{name}.weight"].double(), state[f"{name}.bias"].double()
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight * (gain / math.sqrt(weight.shape[1])))
        layer.bias.copy_(bias * bias_gain)
    return layer


def _relative(state: StateDict) -> str | None:
    if "final_conv.0.weight" in state and "final_linear.0.weight" in state:
        return "a StyleGAN2 discriminator (final_conv, final_linear), not the generator"
    if any(key.startswith("to_rgbs.") and ".iwt." in key for key in state):
        return "a SWAGAN generator (to_rgbs.<i>.iwt), rosinality's wavelet variant, which is not read"
    return None


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    config = read_config(state)
    assert config is not None, "only called where _matches"
    noise, cutoff, rate = str(settings["noise"]), int(settings["truncation_cutoff"]), float(settings["lr_mlp"])
    if noise == "const" and "noises.noise_0" not in state:
        raise ArchitectureError(
            "the file stores no noise (rosinality before 2020); --set noise=none or --set noise=input"
        )
    if not 0 <= cutoff <= config.layers:
        raise ArchitectureError(f"truncation_cutoff={cutoff}: must be 0 (all) to {config.layers}, the layers there are")
    kind = NoisyStyleGan2Generator if noise == "input" else StyleGan2Generator
    network = kind(state, config, noise, cutoff, rate)
    stored = state.get("latent_avg")
    mean = mean_latent(network.mapping, config.style_dim, MEAN_OF) if stored is None else stored.flatten()
    network.latents.average.copy_(mean)
    return Generator(
        network=network.eval().requires_grad_(False),
        task=Task.UNCONDITIONAL,
        hyperparameters={
            "size": config.size_px,
            "style_dim": config.style_dim,
            "n_mlp": config.n_mlp,
            "widths": ",".join(map(str, config.widths)),
            "noise": noise,
            "latent_avg": "stored" if stored is not None else f"of {MEAN_OF} latents",
        },
        channels=config.channels,
        output_range=(-1.0, 1.0),
        max_batch_size=max(1, min(32, 2**22 // config.size_px**2)),
        image_size_px=(config.size_px, config.size_px),
        latent_size=config.style_dim,
        noise_size=sum(size * size for size in config.noise_sizes_px) if noise == "input" else 0,
        truncation_default=1.0,
        w_shape=(config.layers, config.style_dim),
        mapping=ToW(network.mapping, network.latents),
        truncation_cutoff=cutoff,
        tolerance=1e-3,
    )


ARCHITECTURE = Architecture(
    name="stylegan2",
    reference="rosinality/stylegan2-pytorch",
    matches=lambda state: read_config(state) is not None,
    build=_build,
    settings=SETTINGS,
    relative=_relative,
)
