"""SPAN as hongyuanyu/SPAN defines it: every 3x3 conv a chain of three beside a 1x1, as it runs in training."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Chain(nn.Module):
    """`eval_conv` is saved with the rest and holds whatever was last added up; a chain does not use it."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.sk = nn.Conv2d(before, after, 1)
        self.conv = nn.Sequential(
            nn.Conv2d(before, 2 * before, 1), nn.Conv2d(2 * before, 2 * after, 3), nn.Conv2d(2 * after, after, 1)
        )
        self.eval_conv = nn.Conv2d(before, after, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, (1, 1, 1, 1))) + self.sk(x)
        return out


class Deployed(nn.Module):
    """What is left of a chain in files that are made for inference."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.eval_conv = nn.Conv2d(before, after, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.eval_conv(x)
        return out


class Spab(nn.Module):
    def __init__(self, width: int, conv: type[nn.Module]) -> None:
        super().__init__()
        self.c1_r, self.c2_r, self.c3_r = (conv(width, width) for _ in range(3))
        self.act1 = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out1 = self.c1_r(x)
        out3 = self.c3_r(self.act1(self.c2_r(self.act1(out1))))
        return (out3 + x) * (torch.sigmoid(out3) - 0.5), out1  # in place, so out1 is activated by now


class Span(nn.Module):
    def __init__(
        self, channels: int, width: int, scale: int, norm: bool, out: int = 0, img_range: float = 255.0,
        conv: type[nn.Module] = Chain,
    ) -> None:  # fmt: skip
        super().__init__()
        self.norm, self.img_range = norm, img_range
        if not norm:
            self.register_buffer("no_norm", torch.zeros(1))
        self.conv_1 = conv(channels, width)
        for index in range(1, 7):
            setattr(self, f"block_{index}", Spab(width, conv))
        self.conv_cat = nn.Conv2d(4 * width, width, 1)
        self.conv_2 = conv(width, width)
        self.upsampler = nn.Sequential(
            nn.Conv2d(width, (out or channels) * scale * scale, 3, 1, 1), nn.PixelShuffle(scale)
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.norm:
            x = (x - torch.tensor([0.4488, 0.4371, 0.4040]).to(x)[None, :, None, None]) * self.img_range
        feature = self.conv_1(x)
        b1, _ = self.get_submodule("block_1")(feature)
        b6 = b1
        for index in range(2, 7):
            b6, inner = self.get_submodule(f"block_{index}")(b6)
        out: Tensor = self.upsampler(self.conv_cat(torch.cat([feature, self.conv_2(b6), b1, inner], 1)))
        return out
