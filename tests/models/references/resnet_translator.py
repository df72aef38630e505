"""ResnetGenerator as junyanz/pytorch-CycleGAN-and-pix2pix and taesungp/contrastive-unpaired-translation define it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models.references.unet import norm_layer


class ResnetBlock(nn.Module):
    """Its conv block, added."""

    def __init__(self, channels: int, kind: str, biased: bool, dropout: bool, tracks: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=biased)]
        layers += [norm_layer(kind, channels, tracks), nn.ReLU(True)]
        if dropout:
            layers += [nn.Dropout(0.5)]
        layers += [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=biased)]
        layers += [norm_layer(kind, channels, tracks)]
        self.conv_block = nn.Sequential(*layers)

    def forward(self, maps: Tensor) -> Tensor:
        changed: Tensor = maps + self.conv_block(maps)
        return changed


class Downsample(nn.Module):
    """CUT's blur-pool: reflected border, kernel 3, every second pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", _kernel([1.0, 2.0, 1.0]).repeat(channels, 1, 1, 1))
        self.pad = nn.ReflectionPad2d((1, 1, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        return F.conv2d(self.pad(maps), self.get_buffer("filt"), stride=2, groups=maps.shape[1])


class Upsample(nn.Module):
    """CUT's enlargement: repeated border, transposed conv with kernel 4, first row and last row and column cut off."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", (_kernel([1.0, 3.0, 3.0, 1.0]) * 4).repeat(channels, 1, 1, 1))
        self.pad = nn.ReplicationPad2d((1, 1, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        large = F.conv_transpose2d(self.pad(maps), self.get_buffer("filt"), stride=2, padding=2, groups=maps.shape[1])
        return large[:, :, 1:, 1:][:, :, :-1, :-1]


def _kernel(row: list[float]) -> Tensor:
    taps = torch.tensor(row)
    kernel = taps[:, None] * taps[None, :]
    return (kernel / kernel.sum())[None, None]


class ResnetGenerator(nn.Module):
    """`antialias_down`, `antialias_up`: CUT's blur-pool in place of strides."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        ngf: int,
        blocks: int,
        kind: str,
        dropout: bool = False,
        tracks: bool = False,
        antialias_down: bool = False,
        antialias_up: bool = False,
    ) -> None:
        super().__init__()
        biased = kind == "instance"

        def finish(channels: int) -> list[nn.Module]:
            return [norm_layer(kind, channels, tracks), nn.ReLU(True)]

        layers = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, ngf, 7, bias=biased), *finish(ngf)]
        for wide in (ngf, 2 * ngf):
            layers += [nn.Conv2d(wide, 2 * wide, 3, 1 if antialias_down else 2, 1, bias=biased), *finish(2 * wide)]
            layers += [Downsample(2 * wide)] if antialias_down else []
        layers += [ResnetBlock(4 * ngf, kind, biased, dropout, tracks) for _ in range(blocks)]
        for wide in (4 * ngf, 2 * ngf):
            if antialias_up:
                layers += [Upsample(wide), nn.Conv2d(wide, wide // 2, 3, 1, 1, bias=biased)]
            else:
                layers += [nn.ConvTranspose2d(wide, wide // 2, 3, 2, 1, output_padding=1, bias=biased)]
            layers += finish(wide // 2)
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, outputs, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        output: Tensor = self.model(image)
        return output
