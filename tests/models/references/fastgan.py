"""FastGAN's generator as odegeasslbc/FastGAN-pytorch builds it, written from the facts; noise comes from outside."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

MULTIPLES = {4: 16.0, 8: 8.0, 16: 4.0, 32: 2.0, 64: 2.0, 128: 1.0, 256: 0.5, 512: 0.25, 1024: 0.125}


class Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        kept, gate = x.chunk(2, 1)
        return kept * torch.sigmoid(gate)


class Swish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


class NoiseInjection(nn.Module):
    """Adds `self.map` (N, 1, H, W), which `generate` sets before each call."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.map = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        assert self.map.shape[2:] == x.shape[2:]
        return x + self.weight * self.map


def conv(before: int, after: int, kernel: int, padding: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(before, after, kernel, 1, padding, bias=False))


def up(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"), conv(before, after * 2, 3, 1), nn.BatchNorm2d(after * 2), Gate()
    )


def up_noisy(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"),
        conv(before, after * 2, 3, 1),
        NoiseInjection(),
        nn.BatchNorm2d(after * 2),
        Gate(),
        conv(after, after * 2, 3, 1),
        NoiseInjection(),
        nn.BatchNorm2d(after * 2),
        Gate(),
    )


class Excitation(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.AdaptiveAvgPool2d(4), conv(before, after, 4, 0), Swish(), conv(after, after, 1, 0), nn.Sigmoid()
        )

    def forward(self, small: Tensor, big: Tensor) -> Tensor:
        factors: Tensor = self.main(small)
        return big * factors


class Start(nn.Module):
    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        first = spectral_norm(nn.ConvTranspose2d(latent, width * 2, 4, 1, 0, bias=False))
        self.init = nn.Sequential(first, nn.BatchNorm2d(width * 2), Gate())

    def forward(self, latent: Tensor) -> Tensor:
        found: Tensor = self.init(latent.view(len(latent), -1, 1, 1))
        return found


class FastGan(nn.Module):
    """`forward` gives the large image alone."""

    def __init__(self, ngf: int, nz: int, im_size: int) -> None:
        super().__init__()
        width = {side: int(multiple * ngf) for side, multiple in MULTIPLES.items()}
        self.im_size = im_size
        self.init = Start(nz, width[4])
        self.feat_8 = up_noisy(width[4], width[8])
        self.feat_16 = up(width[8], width[16])
        self.feat_32 = up_noisy(width[16], width[32])
        self.feat_64 = up(width[32], width[64])
        self.feat_128 = up_noisy(width[64], width[128])
        self.feat_256 = up(width[128], width[256])
        self.se_64 = Excitation(width[4], width[64])
        self.se_128 = Excitation(width[8], width[128])
        self.se_256 = Excitation(width[16], width[256])
        self.to_128 = conv(width[128], 3, 1, 0)
        self.to_big = conv(width[im_size], 3, 3, 1)
        if im_size > 256:
            self.feat_512 = up_noisy(width[256], width[512])
            self.se_512 = Excitation(width[32], width[512])
        if im_size > 512:
            self.feat_1024 = up(width[512], width[1024])

    def forward(self, latent: Tensor) -> Tensor:
        four = self.init(latent)
        eight = self.feat_8(four)
        sixteen = self.feat_16(eight)
        thirty_two = self.feat_32(sixteen)
        big = self.se_64(four, self.feat_64(thirty_two))
        big = self.se_128(eight, self.feat_128(big))
        big = self.se_256(sixteen, self.feat_256(big))
        if self.im_size > 256:
            big = self.se_512(thirty_two, self.feat_512(big))
        if self.im_size > 512:
            return torch.tanh(self.to_big(self.feat_1024(big)))
        image: Tensor = self.to_big(big)
        return image


def generate(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """Its image with the given noise, in the order that the network uses it; without, no noise at all."""
    given = arrays.get("noise")
    side, start = 8, 0
    places = [module for module in network.modules() if isinstance(module, NoiseInjection)]
    for index, place in enumerate(places):
        side = (8, 8, 32, 32, 128, 128, 512, 512)[index]
        place.map = torch.zeros(1, 1, side, side)
        if given is not None:
            place.map = given[:, start : start + side**2].reshape(-1, 1, side, side)
        start += side**2
    image: Tensor = network(arrays["latent"])
    return image
