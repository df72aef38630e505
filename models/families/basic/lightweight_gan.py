"""Lightweight GAN: lucidrains' variant of FastGAN (Liu, Zhu, Song, Elgammal, "Towards Faster and Stabilized GAN
Training for High-fidelity Few-shot Image Synthesis", 2021, arXiv:2101.04775), with skip-layer excitation by global
context (Cao and others, 2020, arXiv:2012.13375) or by frequencies (Qin and others, 2020, arXiv:2012.11879).

Reads the checkpoints of lucidrains/lightweight-gan: `model_<n>.pt`, whose `GAN` holds G., D., D_aug. and GE.; the
running average GE is used where it is there. Everything is inferred from keys and shapes; heads of attention are 64
wide, as the class has them.
Differences: the noise of each pixel comes from outside or is the same at every call.
"""

import itertools
import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, Generator, StateDict
from models.families.noise_maps import NOISE, NoiseMaps, noise_source
from models.state_dict import Rules, load, rename, shape

HEAD = 64
PREFIXES = ("GE.", "G.", "")
LATER = 3  # an excitation acts on the map that comes so many layers later


class Block(nn.Module):
    """Doubles height and width: 1x1 conv, SiLU, pixel shuffle, blur, 4x4 conv, noise, batch norm, gate."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(before, 4 * before, 1)
        self.kernel = nn.Parameter(torch.zeros(before, 1, 3, 3))
        self.conv = nn.Conv2d(before, 2 * after, 4)
        self.strength = nn.Parameter(torch.zeros(1))
        self.norm = nn.BatchNorm2d(2 * after)

    def forward(self, maps: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """(N, after, 2H, 2W) float32 from (N, before, H, W) and (N or 1, 1, 2H, 2W)."""
        maps = F.pixel_shuffle(F.silu(self.widen(maps)), 2)
        maps = F.conv2d(F.pad(maps, (1, 1, 1, 1), "reflect"), self.kernel, groups=len(self.kernel))
        maps = self.conv(F.pad(maps, (2, 1, 2, 1)))
        if noise is not None:
            maps = maps + self.strength * noise
        return F.glu(self.norm(maps), dim=1)


class Excitation(nn.Module):
    """A factor for each channel of a later map, from a mean of this one that is weighted by a softmax over its pixels.

    With `frequencies`, from its sum weighted by `dct_weights` (1, C, H, W) instead.
    """

    def __init__(self, before: int, middle: int, after: int, frequencies: int) -> None:
        super().__init__()
        self.weigh = None if frequencies else nn.Conv2d(before, 1, 1)
        self.dct_weights = nn.Parameter(torch.zeros(1, before, frequencies, frequencies)) if frequencies else None
        self.squeeze = nn.Conv2d(before, middle, 1)
        self.expand = nn.Conv2d(middle, after, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, after, 1, 1) float32 in 0..1 from `maps` (N, before, H, W)."""
        if self.dct_weights is not None:
            pooled = (maps * self.dct_weights).sum((2, 3), keepdim=True)
        else:
            assert self.weigh is not None
            shares = torch.softmax(self.weigh(maps).flatten(2), dim=-1)
            pooled = (maps.flatten(2) @ shares.transpose(1, 2))[..., None]
        return torch.sigmoid(self.expand(F.leaky_relu(self.squeeze(pooled), 0.1)))


class Attention(nn.Module):
    """What is added to a map: linear attention over all pixels, and full attention over each pixel's 3x3 neighbours."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.heads = inner // HEAD
        self.gain = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.offset = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.linear_query = nn.Conv2d(channels, inner, 1, bias=False)
        self.linear_depthwise = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False)
        self.linear_pointwise = nn.Conv2d(channels, 2 * inner, 1, bias=False)
        self.query = nn.Conv2d(channels, inner, 1, bias=False)
        self.key_value = nn.Conv2d(channels, 2 * inner, 1, bias=False)
        self.out = nn.Conv2d(2 * inner, channels, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) float32 from the same."""
        height, width = maps.shape[2:]
        centred = maps - maps.mean(1, keepdim=True)
        normed = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() * self.gain + self.offset
        both = torch.cat([F.gelu(self._over_all(normed)), self._over_neighbours(normed)], dim=1)
        change: torch.Tensor = self.out(both.flatten(1, 2).reshape(len(maps), -1, height, width))
        return change

    def _over_all(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, heads, HEAD, pixels) float32."""
        query = self._split(self.linear_query(maps)).softmax(dim=2) * HEAD**-0.5
        key, value = self.linear_pointwise(self.linear_depthwise(maps)).chunk(2, dim=1)
        context = self._split(key).softmax(dim=3) @ self._split(value).transpose(2, 3)
        mixed: torch.Tensor = context.transpose(2, 3) @ query
        return mixed

    def _over_neighbours(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, heads, HEAD, pixels) float32; beyond the border keys and values are 0."""
        height, width = maps.shape[2:]
        query = self._split(self.query(maps)) * HEAD**-0.5
        padded = F.pad(self.key_value(maps), (1, 1, 1, 1))
        shifted = [padded[:, :, y : y + height, x : x + width].chunk(2, dim=1) for y in range(3) for x in range(3)]
        likeness = torch.stack([(query * self._split(key)).sum(2) for key, _ in shifted], dim=-1)
        shares = likeness.softmax(dim=-1)
        parts = [self._split(value) * shares[:, :, None, :, place] for place, (_, value) in enumerate(shifted)]
        return torch.stack(parts).sum(0)

    def _split(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.reshape(len(maps), self.heads, HEAD, -1)


class LightweightGenerator(nn.Module):
    """A 4x4 map, doubled by one block after the other.

    Args:
        latent: its length.
        widths: channels of the maps, the 4x4 one first.
        excitations: by layer, (width in the middle, side of the frequency weights or 0).
        attentions: by layer, the width inside.
        channels: of the image.
        noise: "input", "const" or "none".
    """

    def __init__(
        self,
        latent: int,
        widths: list[int],
        excitations: Mapping[int, tuple[int, int]],
        attentions: Mapping[int, int],
        channels: int,
        noise: str,
    ) -> None:
        super().__init__()
        self.first = nn.ConvTranspose2d(latent, 2 * widths[0], 4)
        self.first_norm = nn.BatchNorm2d(2 * widths[0])
        self.blocks = nn.ModuleList(Block(before, after) for before, after in itertools.pairwise(widths))
        self.excitations = nn.ModuleDict(
            {
                str(layer): Excitation(widths[layer + 1], middle, widths[layer + 1 + LATER], frequencies)
                for layer, (middle, frequencies) in excitations.items()
            }
        )
        self.attentions = nn.ModuleDict(
            {str(layer): Attention(widths[layer], inner) for layer, inner in attentions.items()}
        )
        self.last = nn.Conv2d(widths[-1], channels, 3, 1, 1)
        self.noise = NoiseMaps([8 * 2**layer for layer in range(len(self.blocks))], noise)

    def forward(self, latent: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Images (N, C, H, W) float32, nominally in [0, 1].

        Args:
            latent: (N, Z) float32, standard normal.
            noise: (N, K) float32, standard normal, if it is an input.
        """
        noise_maps = self.noise(noise)
        maps = F.normalize(F.glu(self.first_norm(self.first(latent[:, :, None, None])), dim=1), dim=1)
        factors: dict[int, torch.Tensor] = {}
        for layer, block in enumerate(self.blocks):
            if str(layer) in self.attentions:
                maps = maps + self.attentions[str(layer)](maps)
            maps = block(maps, noise_maps[layer] if noise_maps else None)
            if str(layer) in self.excitations:
                factors[layer + LATER] = self.excitations[str(layer)](maps)
            if layer in factors:
                maps = maps * factors[layer]
        image: torch.Tensor = self.last(maps)
        return image


RULES: Rules = {
    r"initial_conv\.0\.(.+)": r"first.\1",
    r"initial_conv\.1\.(.+)": r"first_norm.\1",
    r"layers\.(\d+)\.0\.0\.net\.0\.(.+)": r"blocks.\1.widen.\2",
    r"layers\.(\d+)\.0\.1\.f": r"blocks.\1.kernel",
    r"layers\.(\d+)\.0\.2\.1\.(.+)": r"blocks.\1.conv.\2",
    r"layers\.(\d+)\.0\.3\.weight": r"blocks.\1.strength",
    r"layers\.(\d+)\.0\.4\.(.+)": r"blocks.\1.norm.\2",
    r"layers\.(\d+)\.1\.to_k\.(.+)": r"excitations.\1.weigh.\2",
    r"layers\.(\d+)\.1\.dct_weights": r"excitations.\1.dct_weights",
    r"layers\.(\d+)\.1\.net\.0\.(.+)": r"excitations.\1.squeeze.\2",
    r"layers\.(\d+)\.1\.net\.2\.(.+)": r"excitations.\1.expand.\2",
    r"layers\.(\d+)\.2\.norm\.g": r"attentions.\1.gain",
    r"layers\.(\d+)\.2\.norm\.b": r"attentions.\1.offset",
    r"layers\.(\d+)\.2\.fn\.to_lin_q\.(.+)": r"attentions.\1.linear_query.\2",
    r"layers\.(\d+)\.2\.fn\.to_lin_kv\.net\.0\.(.+)": r"attentions.\1.linear_depthwise.\2",
    r"layers\.(\d+)\.2\.fn\.to_lin_kv\.net\.1\.(.+)": r"attentions.\1.linear_pointwise.\2",
    r"layers\.(\d+)\.2\.fn\.to_q\.(.+)": r"attentions.\1.query.\2",
    r"layers\.(\d+)\.2\.fn\.to_kv\.(.+)": r"attentions.\1.key_value.\2",
    r"layers\.(\d+)\.2\.fn\.to_out\.(.+)": r"attentions.\1.out.\2",
    r"out_conv\.(.+)": r"last.\1",
}


def _own(state: StateDict) -> dict[str, torch.Tensor]:
    """The generator's tensors without their prefix, the running average's where it is there; empty if none is."""
    prefix = next((prefix for prefix in PREFIXES if f"{prefix}initial_conv.0.weight" in state), None)
    if prefix is None:
        return {}
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def _plain(state: StateDict) -> dict[str, torch.Tensor]:
    """Under the names of `LightweightGenerator`; the blur's three taps as a kernel for each channel."""
    plain = rename(_own(state), RULES)
    for key in (key for key in plain if key.endswith(".kernel")):
        taps = plain[key]
        channels = plain[key.replace("kernel", "widen.weight")].shape[1]
        plain[key] = (torch.outer(taps, taps) / taps.sum() ** 2).expand(channels, 1, 3, 3)
    return plain


def _matches(state: StateDict) -> bool:
    own = _own(state)
    first, last = shape(own, "initial_conv.0.weight", 4), shape(own, "out_conv.weight", 4)
    return first[2:] == (4, 4) and last[2:] == (3, 3) and shape(own, "layers.0.0.2.1.weight", 4)[2:] == (4, 4)


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    own = _plain(state)
    latent, first = own["first.weight"].shape[:2]
    layers = sorted({int(key.split(".")[1]) for key in own if key.startswith("blocks.")})
    widths = [first // 2, *(len(own[f"blocks.{layer}.conv.weight"]) // 2 for layer in layers)]
    excitations, attentions = {}, {}
    for key, tensor in own.items():
        if found := re.fullmatch(r"excitations\.(\d+)\.squeeze\.weight", key):
            frequencies = own.get(f"excitations.{found[1]}.dct_weights")
            excitations[int(found[1])] = (len(tensor), 0 if frequencies is None else frequencies.shape[2])
        if found := re.fullmatch(r"attentions\.(\d+)\.query\.weight", key):
            attentions[int(found[1])] = len(tensor)
    side_px, channels = 4 * 2 ** len(layers), len(own["last.weight"])
    noise = noise_source(settings, side_px)
    network = LightweightGenerator(latent, widths, excitations, attentions, channels, noise)
    return Generator(
        network=load(network, own),
        task=Task.UNCONDITIONAL,
        hyperparameters={
            "image_size": side_px,
            "latent_dim": latent,
            "channels": channels,
            "attn_res_layers": ",".join(str(4 * 2**layer) for layer in sorted(attentions)),
            "freq_chan_attn": any(frequencies for _, frequencies in excitations.values()),
            "noise": noise,
        },
        channels=channels,
        output_range=(0.0, 1.0),
        max_batch_size=16,
        image_size_px=(side_px, side_px),
        latent_size=latent,
        noise_size=network.noise.input_size,
    )


ARCHITECTURE = Architecture(
    name="lightweight-gan",
    reference="lucidrains/lightweight-gan",
    matches=_matches,
    build=_build,
    settings={"noise": NOISE},
)
