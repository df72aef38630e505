"""How SwinIR, DAT and their relatives end, as BasicSR names it; and what they do before."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN = (0.4488, 0.4371, 0.4040)


def conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, 1, 1)


def connection(dim: int, kind: str) -> nn.Module:
    if kind == "1conv":
        return conv(dim, dim)
    act = nn.LeakyReLU(0.2, inplace=True)
    return nn.Sequential(conv(dim, dim // 4), act, nn.Conv2d(dim // 4, dim // 4, 1), act, conv(dim // 4, dim))


def upsample(scale: int, feat: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for factor in [3] if scale == 3 else [2] * (scale.bit_length() - 1):
        layers += [conv(feat, factor * factor * feat), nn.PixelShuffle(factor)]
    return nn.Sequential(*layers)


class Ending(nn.Module):
    """A network that defines `body`: what stands between conv_first and the enlargement, (N, dim, H, W) to the same."""

    def __init__(
        self, channels: int, dim: int, feat: int, scale: int, upsampler: str, resi: str, img_range: float, fold: int = 1
    ) -> None:
        super().__init__()
        self.scale, self.upsampler, self.img_range, self.fold = scale, upsampler, img_range, fold
        self.mean = torch.tensor(MEAN if channels == 3 else [0.0]).view(1, -1, 1, 1)
        first = conv(channels * fold * fold, dim)
        self.conv_first: nn.Module = first if fold == 1 else nn.Sequential(nn.PixelUnshuffle(fold), first)
        self.conv_after_body = connection(dim, resi)
        if upsampler in ("nearest+conv", "pixelshuffle"):
            self.conv_before_upsample = nn.Sequential(conv(dim, feat), nn.LeakyReLU(inplace=True))
        if upsampler == "nearest+conv":
            for step in range(1, scale.bit_length()):
                setattr(self, f"conv_up{step}", conv(feat, feat))
            self.conv_hr = conv(feat, feat)
        elif upsampler == "pixelshuffle":
            self.upsample = upsample(scale, feat)
        elif upsampler == "pixelshuffledirect":
            self.upsample = nn.Sequential(conv(dim, scale * scale * channels), nn.PixelShuffle(scale))
        if upsampler != "pixelshuffledirect":
            self.conv_last = conv(dim if upsampler == "" else feat, channels)

    def body(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def enlarge(self, x: Tensor) -> Tensor:
        """`x` (N, 3, H, W) with its mean off, to the image with it on."""
        first = self.conv_first(x)
        deep: Tensor = self.conv_after_body(self.body(first)) + first
        if self.upsampler == "nearest+conv":
            out = self.conv_before_upsample(deep)
            for step in range(1, self.scale.bit_length()):
                layer = self.get_submodule(f"conv_up{step}")
                out = F.leaky_relu(layer(F.interpolate(out, scale_factor=2, mode="nearest")), 0.2)
            out = self.conv_last(F.leaky_relu(self.conv_hr(out), 0.2))
        elif self.upsampler == "pixelshuffle":
            out = self.conv_last(self.upsample(self.conv_before_upsample(deep)))
        elif self.upsampler == "pixelshuffledirect":
            out = self.upsample(deep)
        else:
            out = x + self.conv_last(deep)
        image: Tensor = out / self.img_range + self.mean.to(x)
        return image
