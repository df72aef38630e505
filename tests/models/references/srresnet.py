"""SRResNet (SRGAN's generator) and MSRResNet as their training repositories define them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LeftthomasBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))
        return out


class LeftthomasUpsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, 4 * width, 3, padding=1)
        self.pixel_shuffle = nn.PixelShuffle(2)
        self.prelu = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.prelu(self.pixel_shuffle(self.conv(x)))
        return out


class Leftthomas(nn.Module):
    """leftthomas/SRGAN's Generator: always five residual blocks, (tanh + 1) / 2."""

    def __init__(self, width: int, upsamplings: int) -> None:
        super().__init__()
        self.block1 = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        self.block2, self.block3, self.block4, self.block5, self.block6 = (LeftthomasBlock(width) for _ in range(5))
        self.block7 = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width))
        steps = (LeftthomasUpsample(width) for _ in range(upsamplings))
        self.block8 = nn.Sequential(*steps, nn.Conv2d(width, 3, 9, padding=4))

    def forward(self, x: Tensor) -> Tensor:
        block1 = self.block1(x)
        out = block1
        for block in (self.block2, self.block3, self.block4, self.block5, self.block6, self.block7):
            out = block(out)
        return (torch.tanh(self.block8(block1 + out)) + 1) / 2


class LornatangBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rcb = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(self.rcb(x), x)


class LornatangUpsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, 4 * channels, 3, 1, 1)
        self.upsample_block = nn.Sequential(conv, nn.PixelShuffle(2), nn.PReLU())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.upsample_block(x)
        return out


class Lornatang(nn.Module):
    """Lornatang/SRGAN-PyTorch's SRResNet: clamped to 0..1."""

    def __init__(self, channels: int, blocks: int, upsamplings: int, colours: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(colours, channels, 9, 1, 4), nn.PReLU())
        self.trunk = nn.Sequential(*(LornatangBlock(channels) for _ in range(blocks)))
        conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.conv2 = nn.Sequential(conv2, nn.BatchNorm2d(channels))
        self.upsampling = nn.Sequential(*(LornatangUpsample(channels) for _ in range(upsamplings)))
        self.conv3 = nn.Conv2d(channels, colours, 9, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        conv1 = self.conv1(x)
        x = torch.add(self.conv2(self.trunk(conv1)), conv1)
        return torch.clamp_(self.conv3(self.upsampling(x)), 0.0, 1.0)


class PytorchGanBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1),
            nn.BatchNorm2d(width, 0.8),
            nn.PReLU(),
            nn.Conv2d(width, width, 3, 1, 1),
            nn.BatchNorm2d(width, 0.8),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv_block(x)
        return out


class PytorchGan(nn.Module):
    """eriklindernoren/PyTorch-GAN srgan's GeneratorResNet: BatchNorm(width, 0.8) sets eps, save when upsampling."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, width, 9, 1, 4), nn.PReLU())
        self.res_blocks = nn.Sequential(*(PytorchGanBlock(width) for _ in range(blocks)))
        self.conv2 = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width, 0.8))
        steps: list[nn.Module] = []
        for _ in range(2):
            steps += [nn.Conv2d(width, 4 * width, 3, 1, 1), nn.BatchNorm2d(4 * width), nn.PixelShuffle(2), nn.PReLU()]
        self.upsampling = nn.Sequential(*steps)
        self.conv3 = nn.Sequential(nn.Conv2d(width, 3, 9, 1, 4), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        out1 = self.conv1(x)
        out: Tensor = self.conv3(self.upsampling(torch.add(out1, self.conv2(self.res_blocks(out1)))))
        return out


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


class AitorzipBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, 1, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv2(swish(self.bn1(self.conv1(x))))) + x
        return out


class AitorzipUpsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, 4 * width, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return swish(F.pixel_shuffle(self.conv(x), 2))


class Aitorzip(nn.Module):
    """aitorzip/PyTorch-SRGAN's Generator: swish, ImageNet units in and out."""

    def __init__(self, width: int, blocks: int, upsamplings: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 9, 1, 4)
        self.blocks = [f"residual_block{index + 1}" for index in range(blocks)]
        for name in self.blocks:
            self.add_module(name, AitorzipBlock(width))
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(width)
        self.steps = [f"upsample{index + 1}" for index in range(upsamplings)]
        for name in self.steps:
            self.add_module(name, AitorzipUpsample(width))
        self.conv3 = nn.Conv2d(width, 3, 9, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = swish(self.conv1(x))
        y = x
        for name in self.blocks:
            y = getattr(self, name)(y)
        x = self.bn2(self.conv2(y)) + x
        for name in self.steps:
            x = getattr(self, name)(x)
        out: Tensor = self.conv3(x)
        return out


class CourseConv(nn.Module):
    """Makes a PReLU also where it never runs it: the file then has its slopes."""

    def __init__(self, before: int, after: int, kernel: int, use_act: bool = True, use_bn: bool = True) -> None:
        super().__init__()
        self.use_act = use_act
        self.cnn = nn.Conv2d(before, after, kernel, 1, kernel // 2, bias=not use_bn)
        self.bn = nn.BatchNorm2d(after) if use_bn else nn.Identity()
        self.act = nn.PReLU(after)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.cnn(x))
        return self.act(out) if self.use_act else out


class CourseBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.block1 = CourseConv(width, width, 3)
        self.block2 = CourseConv(width, width, 3, use_act=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block2(self.block1(x)) + x
        return out


class CourseUpsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, 4 * width, 3, 1, 1)
        self.ps = nn.PixelShuffle(2)
        self.act = nn.PReLU(width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.ps(self.conv(x)))
        return out


class Course(nn.Module):
    """aladdinpersson/Machine-Learning-Collection SRGAN."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.initial = CourseConv(3, width, 9, use_bn=False)
        self.residuals = nn.Sequential(*(CourseBlock(width) for _ in range(blocks)))
        self.convblock = CourseConv(width, width, 3, use_act=False)
        self.upsamples = nn.Sequential(CourseUpsample(width), CourseUpsample(width))
        self.final = nn.Conv2d(width, 3, 9, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        initial = self.initial(x)
        return torch.tanh(self.final(self.upsamples(self.convblock(self.residuals(initial)) + initial)))


class NoNormBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, 1, 1)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(F.relu(self.conv1(x)))
        return out


class MsrResNet(nn.Module):
    """BasicSR's MSRResNet; `kair` names two of its layers as MMSR and KAIR do."""

    def __init__(self, width: int, blocks: int, upscale: int, kair: bool = False) -> None:
        super().__init__()
        self.upscale = upscale
        self.names = ("recon_trunk", "HRconv") if kair else ("body", "conv_hr")
        self.conv_first = nn.Conv2d(3, width, 3, 1, 1)
        self.add_module(self.names[0], nn.Sequential(*(NoNormBlock(width) for _ in range(blocks))))
        factor = 2 if upscale == 4 else upscale
        self.upconv1 = nn.Conv2d(width, width * factor**2, 3, 1, 1)
        if upscale == 4:
            self.upconv2 = nn.Conv2d(width, width * 4, 3, 1, 1)
        self.pixel_shuffle = nn.PixelShuffle(factor)
        self.add_module(self.names[1], nn.Conv2d(width, width, 3, 1, 1))
        self.conv_last = nn.Conv2d(width, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = getattr(self, self.names[0])(F.leaky_relu(self.conv_first(x), 0.1))
        out = F.leaky_relu(self.pixel_shuffle(self.upconv1(out)), 0.1)
        if self.upscale == 4:
            out = F.leaky_relu(self.pixel_shuffle(self.upconv2(out)), 0.1)
        out = self.conv_last(F.leaky_relu(getattr(self, self.names[1])(out), 0.1))
        base = F.interpolate(x, scale_factor=self.upscale, mode="bilinear", align_corners=False)
        return out + base  # type: ignore[no-any-return]
