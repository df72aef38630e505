"""UnetGenerator as junyanz/pytorch-CycleGAN-and-pix2pix defines it: nested Sequentials, built from the inside out."""

import torch
from torch import Tensor, nn


class TrackedInstanceNorm(nn.Module):
    """InstanceNorm as checkpoints until 2018 have it: statistics that were stored and never used."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, maps: Tensor) -> Tensor:
        return nn.functional.instance_norm(maps)


def norm_layer(kind: str, channels: int, tracks: bool = False) -> nn.Module:
    """The repository's norm; `tracks`: as checkpoints until 2018 have it."""
    if kind == "batch":
        return nn.BatchNorm2d(channels, affine=True, track_running_stats=True)
    if kind == "instance":
        return TrackedInstanceNorm(channels) if tracks else nn.InstanceNorm2d(channels, affine=False)
    return nn.Identity()


class SkipBlock(nn.Module):
    """One level: its input next to what its Sequential makes of it, which writes into that input on the way."""

    def __init__(self, layers: list[nn.Module], is_outermost: bool) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)
        self.is_outermost = is_outermost

    def forward(self, maps: Tensor) -> Tensor:
        if self.is_outermost:
            image: Tensor = self.model(maps)
            return image
        # As written there: the LeakyReLU in place changes `maps` before it is joined.
        return torch.cat([maps, self.model(maps)], 1)


class UnetGenerator(nn.Module):
    """`downs` levels, at least 5; the inner ones ngf*8 wide."""

    def __init__(
        self, inputs: int, outputs: int, downs: int, ngf: int, kind: str, dropout: bool = False, tracks: bool = False
    ) -> None:
        super().__init__()
        biased = kind == "instance"

        def block(outer: int, inner: int, sub: nn.Module | None, dropped: bool = False) -> nn.Module:
            down = [nn.LeakyReLU(0.2, True), nn.Conv2d(outer, inner, 4, 2, 1, bias=biased)]
            wide = inner if sub is None else 2 * inner
            up = [nn.ReLU(True), nn.ConvTranspose2d(wide, outer, 4, 2, 1, bias=biased)]
            up += [norm_layer(kind, outer, tracks)]
            if sub is not None:
                down += [norm_layer(kind, inner, tracks)]
                up = [sub, *up, *([nn.Dropout(0.5)] if dropped else [])]
            return SkipBlock([*down, *up], is_outermost=False)

        level = block(ngf * 8, ngf * 8, None)
        for _ in range(downs - 5):
            level = block(ngf * 8, ngf * 8, level, dropout)
        for factor in (4, 2, 1):
            level = block(ngf * factor, ngf * factor * 2, level)
        layers = [nn.Conv2d(inputs, ngf, 4, 2, 1, bias=biased), level, nn.ReLU(True)]
        layers += [nn.ConvTranspose2d(2 * ngf, outputs, 4, 2, 1), nn.Tanh()]
        self.model = SkipBlock(layers, is_outermost=True)

    def forward(self, image: Tensor) -> Tensor:
        output: Tensor = self.model(image)
        return output
