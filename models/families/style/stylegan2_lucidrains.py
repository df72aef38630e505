"""StyleGAN2: Karras, Laine, Aittala, Hellsten, Lehtinen, Aila, "Analyzing and Improving the Image Quality of StyleGAN",
2019, arXiv:1912.04958; attention layers after Shen, Zhang, Zhao, Yi, Li, "Efficient Attention: Attention with Linear
Complexities", 2018, arXiv:1812.01243.

Reads the checkpoints of lucidrains/stylegan2-pytorch: of `GAN` the averages `SE.` (mapping) and `GE.` (synthesis), from
which the repository samples. Differences: activations are scaled instead of weights (`stylegan2_ops`); the noise
image, uniform there, is an input that is standard normal and made uniform by its distribution function; the mean of
truncation, which the repository estimates from 2000 random latents, is that of 2000 latents of seed 0, in float64;
psi acts (the repository's ModelLoader takes one and then uses 0.75); images are clamped to 0..1 only as pixels.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from artifact.spec import Scalar, Task
from models.architecture import Architecture, Generator, Setting, StateDict
from models.families.style.stylegan2_lucidrains_config import HEAD, LucidrainsConfig, averages, read_config
from models.families.style.stylegan2_ops import Fir, LatentsPerLayer, ModulatedConv, ToW, activate, mean_latent
from models.state_dict import load

MEAN_OF = 2000
SETTINGS = {"lr_mlp": Setting(0.1, "the mapping network's learning rate multiplier, a factor of its weights")}


class MappingNetwork(nn.Module):
    """Latents (N, Z) float32 to intermediate ones (N, Z)."""

    def __init__(self, state: StateDict, config: LucidrainsConfig, rate: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_linear(state, f"SE.net.{2 * layer}", rate) for layer in range(config.style_depth))

    def forward(self, latent: Tensor) -> Tensor:
        """(N, Z) float32; `latent` is divided by its length first."""
        out = functional.normalize(latent, dim=1)
        for layer in self.layers:
            out = activate(layer(out))
        return out


class ChannelNorm(nn.Module):
    """Each pixel of (N, C, H, W) normalised over its channels, scaled and shifted."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.b = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) float32."""
        mean = maps.mean(1, keepdim=True)
        variance = (maps - mean).square().mean(1, keepdim=True)
        return (maps - mean) / (variance + 1e-5).sqrt() * self.g + self.b


class LinearAttention(nn.Module):
    """Attention whose cost is linear in the pixels: keys meet values before queries do."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = 8 * HEAD
        self.to_q = nn.Conv2d(channels, inner, 1, bias=False)
        self.to_kv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, 2 * inner, 1, bias=False),
        )
        self.to_out = nn.Conv2d(inner, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) float32."""
        _, _, height, width = maps.shape
        q, k, v = (
            part.reshape(-1, 8, HEAD, height * width) for part in (self.to_q(maps), *self.to_kv(maps).chunk(2, 1))
        )
        context = torch.softmax(k, -1) @ v.transpose(2, 3)
        out = context.transpose(2, 3) @ (torch.softmax(q, 2) * HEAD**-0.5)
        attended: Tensor = self.to_out(functional.gelu(out.reshape(-1, 8 * HEAD, height, width)))
        return attended


class AttentionLayer(nn.Module):
    """Attention and a small network per pixel, each after a norm and next to a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList((ChannelNorm(channels), ChannelNorm(channels)))
        self.attend = LinearAttention(channels)
        self.feed = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 1), nn.LeakyReLU(0.2), nn.Conv2d(2 * channels, channels, 1)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) float32."""
        attended = maps + self.attend(self.norms[0](maps))
        out: Tensor = attended + self.feed(self.norms[1](attended))
        return out


class Styled(nn.Module):
    """A modulated convolution that takes its style from a latent; `part` is "1" or "2" of a block, or of `to_rgb`."""

    def __init__(self, state: StateDict, name: str, part: str = "", *, demodulate: bool = True) -> None:
        super().__init__()
        weight = state[f"{name}.conv{part}.weight"]
        self.style = _linear(state, f"{name}.to_style{part}", shift=1.0)
        self.conv = ModulatedConv(weight.shape[1], weight.shape[0], weight.shape[2], demodulate=demodulate)
        self.conv.take(weight)

    def forward(self, maps: Tensor, latent: Tensor) -> Tensor:
        """(N, out, H, W) float32 of `picture` (N, in, H, W) and `latent` (N, Z)."""
        out: Tensor = self.conv(maps, self.style(latent))
        return out


class Block(nn.Module):
    """Two modulated convolutions with noise, and the colours, doubled and blurred for the next block."""

    strengths: Tensor
    biases: Tensor

    def __init__(self, state: StateDict, index: int) -> None:
        super().__init__()
        name = f"GE.blocks.{index}"
        self.first = index == 0
        self.convs = nn.ModuleList((Styled(state, name, "1"), Styled(state, name, "2")))
        noises = [(state[f"{name}.to_noise{part}.weight"], state[f"{name}.to_noise{part}.bias"]) for part in (1, 2)]
        self.register_buffer("strengths", torch.stack([weight[:, :, None] for weight, _ in noises]))
        self.register_buffer("biases", torch.stack([bias[:, None, None] for _, bias in noises]))
        self.to_rgb = Styled(state, f"{name}.to_rgb", demodulate=False)
        taps = state.get(f"{name}.to_rgb.upsample.1.f")
        self.blur = None if taps is None else _blur(taps, len(state[f"{name}.to_rgb.conv.weight"]))

    def forward(self, out: Tensor, colours: Tensor | None, latent: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(features, colours) of `out` (N, C, H, W), the colours so far, `latent` (N, Z), `noise` (N, 1, S, S)."""
        if not self.first:
            out = _doubled(out)
        cut = noise[:, :, : out.shape[2], : out.shape[3]]
        for conv, strength, bias in zip(self.convs, self.strengths, self.biases, strict=True):
            out = functional.leaky_relu(conv(out, latent) + (cut * strength + bias), 0.2)
        added: Tensor = self.to_rgb(out, latent)
        if colours is not None:
            added = added + colours
        if self.blur is not None:
            added = self.blur(functional.pad(_doubled(added), (1, 1, 1, 1), mode="reflect"))
        return out, added


class LucidrainsGenerator(nn.Module):
    """StyleGAN2 as lucidrains writes it; `rate` is the setting lr_mlp."""

    start: Tensor

    def __init__(self, state: StateDict, config: LucidrainsConfig, rate: float) -> None:
        super().__init__()
        self.size_px, self.no_const = config.size_px, config.no_const
        self.mapping = MappingNetwork(state, config, rate)
        self.latents = LatentsPerLayer(config.layers, config.latent_dim)
        self.register_buffer("start", state["GE.to_initial_block.weight" if config.no_const else "GE.initial_block"])
        self.initial_conv = nn.Conv2d(config.widths[0], config.widths[0], 3, padding=1)
        load(self.initial_conv, {key: state[f"GE.initial_conv.{key}"] for key in ("weight", "bias")})
        self.attention = nn.ModuleDict({str(index): _attention(state, index) for index in config.attention})
        self.blocks = nn.ModuleList(Block(state, index) for index in range(config.layers))

    def forward(self, latent: Tensor, noise: Tensor, truncation_psi: Tensor, w: Tensor, w_given: Tensor) -> Tensor:
        """Images (N, channels, S, S) float32, about 0..1, from `latent` (N, Z).

        `noise` (N, S * S) is standard normal, one map for all layers in the repository's order, whose columns become
        rows; the rest as `LatentsPerLayer`.
        """
        latents = self.latents(self.mapping(latent), truncation_psi, w, w_given)
        uniform = (1 + torch.erf(noise * math.sqrt(0.5))) / 2
        pixels = uniform.reshape(-1, 1, self.size_px, self.size_px).transpose(2, 3)
        if self.no_const:
            out = functional.conv_transpose2d(latents.mean(1)[:, :, None, None], self.start)
        else:
            out = self.start.expand(latents.shape[0], -1, -1, -1)
        out, colours = self.initial_conv(out), None
        for index, (block, style) in enumerate(zip(self.blocks, latents.unbind(1), strict=True)):
            if str(index) in self.attention:
                out = self.attention[str(index)](out)
            out, colours = block(out, colours, style, pixels)
        assert isinstance(colours, Tensor), "there is a block"
        return colours


def _linear(state: StateDict, name: str, rate: float = 1.0, shift: float = 0.0) -> nn.Linear:
    """The linear layer of `name`, weight and bias times `rate`, `shift` added to what it gives."""
    weight, bias = state[f"{name}.weight"].double(), state[f"{name}.bias"].double()
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight * rate)
        layer.bias.copy_(bias * rate + shift)
    return layer


def _attention(state: StateDict, index: int) -> nn.Module:
    prefix = f"GE.attns.{index}."
    names = {"0.fn.norm.": "norms.0.", "1.fn.norm.": "norms.1.", "0.fn.fn.": "attend.", "1.fn.fn.": "feed."}
    found: dict[str, Tensor] = {}
    for key in (key for key in state if key.startswith(prefix)):
        old, new = next((old, new) for old, new in names.items() if key.removeprefix(prefix).startswith(old))
        found[new + key.removeprefix(prefix + old).replace("to_kv.net.", "to_kv.")] = state[key]
    return load(AttentionLayer(found["norms.0.g"].shape[1]), found)


def _doubled(maps: Tensor) -> Tensor:
    return functional.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)


def _blur(taps: Tensor, channels: int) -> Fir:
    kernel = taps[:, None] * taps[None, :]
    return Fir(channels, (kernel / kernel.abs().sum()).flip(0, 1), (0, 0, 0, 0))


def _configure(config: Mapping[str, object]) -> dict[str, Scalar]:
    rate = config.get("lr_mlp")
    return {"lr_mlp": float(rate)} if isinstance(rate, int | float) else {}


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    config = read_config(state)
    assert config is not None, "only called where it matches"
    rate = float(settings["lr_mlp"])
    network = LucidrainsGenerator(averages(state), config, rate)
    network.latents.average.copy_(mean_latent(network.mapping, config.latent_dim, MEAN_OF))
    return Generator(
        network=network.eval().requires_grad_(False),
        task=Task.UNCONDITIONAL,
        hyperparameters={
            "image_size": config.size_px,
            "network_capacity": config.widths[-1] // 2,
            "widths": ",".join(map(str, config.widths[1:])),
            "latent_dim": config.latent_dim,
            "style_depth": config.style_depth,
            "transparent": config.channels == 4,
            "attn_layers": ",".join(str(config.layers - block) for block in reversed(config.attention)),
            "no_const": config.no_const,
            "lr_mlp": rate,
        },
        channels=config.channels,
        output_range=(0.0, 1.0),
        max_batch_size=max(1, min(32, 2**22 // config.size_px**2)),
        image_size_px=(config.size_px, config.size_px),
        latent_size=config.latent_dim,
        noise_size=config.size_px**2,
        truncation_default=0.75,
        w_shape=(config.layers, config.latent_dim),
        mapping=ToW(network.mapping, network.latents),
        tolerance=1e-3,
    )


ARCHITECTURE = Architecture(
    name="stylegan2-lucidrains",
    reference="lucidrains/stylegan2-pytorch",
    matches=lambda state: read_config(state) is not None,
    build=_build,
    settings=SETTINGS,
    configure=_configure,
)
