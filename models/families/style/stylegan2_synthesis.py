"""The synthesis network of NVIDIA's StyleGAN2 in PyTorch, as StyleGAN2-ADA trains it: skip, resnet and orig.

Karras, Laine, Aittala, Hellsten, Lehtinen, Aila, "Analyzing and Improving the Image Quality of StyleGAN", 2019,
arXiv:1912.04958. Reads `synthesis.*` of NVlabs/stylegan2-ada-pytorch (`training/networks.py`); what differs from it is
said in `models.families.style.stylegan2_ada`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.architecture import StateDict
from models.families.noise_maps import split_noise
from models.families.style.stylegan2_ops import GAIN, Fir, FirUpsample, ModulatedConv, activate
from models.families.style.stylegan_mapping import affine

HALF = 0.5**0.5  # gain of both branches of a residual block


def noise_sizes_px(sides: Sequence[int]) -> tuple[int, ...]:
    """Sides of the noise maps in the order of the convolutions: one at 4 px, two at every other side."""
    return tuple(side for side in sides for _ in range(1 if side == 4 else 2))


class Layer(nn.Module):
    """A modulated convolution, resampling, noise, bias, leaky ReLU and clamp; gains are folded in.

    Args:
        state: the checkpoint's.
        prefix: of the layer's keys.
        gain: after the leaky ReLU, next to its own.
        up: whether the image is doubled.
        clamp: largest absolute value that comes out, before `gain`; 0 means any.
        noise: none, const or input.
    """

    bias: Tensor
    const: Tensor
    strength: Tensor

    def __init__(self, state: StateDict, prefix: str, gain: float, up: bool, clamp: float, noise: str) -> None:
        super().__init__()
        outer, inner = state[f"{prefix}.weight"].shape[:2]
        self.affine = affine(state, f"{prefix}.affine")
        self.conv = ModulatedConv(inner, outer, 3, up=up, gain=GAIN * gain)
        self.conv.take(state[f"{prefix}.weight"])
        self.fir = _blur(state, prefix, outer) if up else None
        self.clamp, self.noise = clamp * gain, noise
        self.register_buffer("bias", _scaled(state[f"{prefix}.bias"], GAIN * gain)[None, :, None, None])
        if noise != "none":
            strength = state[f"{prefix}.noise_strength"].double() * (GAIN * gain)
            self.register_buffer("strength", strength.float())
            self.register_buffer("const", (state[f"{prefix}.noise_const"].double() * strength).float()[None, None])

    def forward(self, maps: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """(N, out, H', W') of `picture` (N, in, H, W), `w` (N, w_dim) and, as an input, `noise` (N, 1, H', W')."""
        out: Tensor = self.conv(maps, self.affine(w))
        if self.fir is not None:
            out = self.fir(out)
        if noise is not None:
            out = out + noise * self.strength
        elif self.noise == "const":
            out = out + self.const
        out = activate(out + self.bias)
        return out.clamp(-self.clamp, self.clamp) if self.clamp else out


class ToRgb(nn.Module):
    """A modulated convolution of one pixel into the image, bias and clamp."""

    bias: Tensor

    def __init__(self, state: StateDict, prefix: str, clamp: float) -> None:
        super().__init__()
        weight = state[f"{prefix}.weight"]
        self.affine = affine(state, f"{prefix}.affine")
        self.conv = ModulatedConv(weight.shape[1], weight.shape[0], 1, demodulate=False)
        self.conv.take(_scaled(weight, weight.shape[1] ** -0.5))
        self.clamp = clamp
        self.register_buffer("bias", state[f"{prefix}.bias"][None, :, None, None])

    def forward(self, maps: Tensor, w: Tensor) -> Tensor:
        """(N, img_channels, H, W) of `picture` (N, in, H, W) and `w` (N, w_dim)."""
        out: Tensor = self.conv(maps, self.affine(w)) + self.bias
        return out.clamp(-self.clamp, self.clamp) if self.clamp else out


class Block(nn.Module):
    """The layers of one side: two (one at 4 px), the doubled image and shortcut of its architecture."""

    def __init__(self, state: StateDict, architecture: str, side: int, last: bool, clamp: float, noise: str) -> None:
        super().__init__()
        prefix = f"synthesis.b{side}"
        residual = architecture == "resnet" and side > 4
        first = Layer(state, f"{prefix}.conv0", 1.0, True, clamp, noise) if side > 4 else None
        second = Layer(state, f"{prefix}.conv1", HALF if residual else 1.0, False, clamp, noise)
        self.layers = nn.ModuleList([second] if first is None else [first, second])
        self.shortcut = _shortcut(state, f"{prefix}.skip") if residual else None
        self.torgb = ToRgb(state, f"{prefix}.torgb", clamp) if last or architecture == "skip" else None
        continued = architecture == "skip" and side > 4
        self.enlarge = _doubled(state, prefix, len(state[f"{prefix}.torgb.bias"])) if continued else None

    def forward(
        self, features: Tensor, image: Tensor | None, w: list[Tensor], noise: list[Tensor | None]
    ) -> tuple[Tensor, Tensor | None]:
        """(features, image) of one side more; `w` has one for each layer and one for the image."""
        out = features
        for layer, style, pixels in zip(self.layers, w, noise, strict=False):
            out = layer(out, style, pixels)
        if self.shortcut is not None:
            out = out + self.shortcut(features)
        if self.enlarge is not None:
            image = self.enlarge(image)
        if self.torgb is not None:
            added: Tensor = self.torgb(out, w[len(self.layers)])
            image = added if image is None else image + added
        return out, image


class Synthesis(nn.Module):
    """From intermediate latents to the image.

    Args:
        state: the checkpoint's.
        architecture: skip, resnet or orig.
        sides: of the blocks' images: 4, 8, 16 ...
        clamp: largest absolute value that a layer gives; 0 means any.
        noise: none, const or input.
    """

    const: Tensor

    def __init__(self, state: StateDict, architecture: str, sides: Sequence[int], clamp: float, noise: str) -> None:
        super().__init__()
        self.register_buffer("const", state["synthesis.b4.const"][None])
        self.blocks = nn.ModuleList(Block(state, architecture, side, side == sides[-1], clamp, noise) for side in sides)
        self.noise_sizes_px = noise_sizes_px(sides)

    def forward(self, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """(N, img_channels, H, W) float32 of `w` (N, layers, w_dim) and, as an input, `noise` (N, K), flat."""
        styles = list(w.unbind(1))
        maps: list[Tensor | None] = [None] * len(self.noise_sizes_px)
        if noise is not None:
            maps = [*split_noise(noise, self.noise_sizes_px)]
        features, image, start = self.const.expand(w.shape[0], -1, -1, -1), None, 0
        for block in self.blocks:
            assert isinstance(block, Block)
            count = len(block.layers)
            features, image = block(features, image, styles[start : start + count + 1], maps[start : start + count])
            start += count
        assert isinstance(image, Tensor), "the last block gives an image"
        return image


def _scaled(tensor: Tensor, gain: float) -> Tensor:
    return (tensor.double() * gain).float()


def _blur(state: StateDict, prefix: str, channels: int) -> Fir:
    """Filters what a transposed convolution of stride 2 and kernel 3 gives, down to twice the image's size."""
    kernel = state[f"{prefix}.resample_filter"]
    before, after = (len(kernel) + 1) // 2 - 1, (len(kernel) - 2) // 2
    return Fir(channels, kernel * 4.0, (before, after, before, after))


def _doubled(state: StateDict, prefix: str, channels: int) -> FirUpsample:
    kernel = state[f"{prefix}.resample_filter"]
    before, after = (len(kernel) + 1) // 2, (len(kernel) - 2) // 2
    return FirUpsample(channels, kernel * 4.0, (before, after, before, after))


def _shortcut(state: StateDict, prefix: str) -> nn.Sequential:
    weight = state[f"{prefix}.weight"]
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(weight.double() * (HALF * weight.shape[1] ** -0.5))
    return nn.Sequential(conv, _doubled(state, prefix, weight.shape[0]))
