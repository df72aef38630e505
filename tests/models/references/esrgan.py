"""ESRGAN's generator as its training repositories define it, one class for each way of naming its layers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, 1, 1)


class DenseBlock(nn.Module):
    """BasicSR, xinntao/ESRGAN and KAIR: `conv1` to `conv5`."""

    def __init__(self, nf: int, gc: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (conv(nf + k * gc, gc) for k in range(4))
        self.conv5 = conv(nf + 4 * gc, nf)

    def forward(self, x: Tensor) -> Tensor:
        x1 = F.leaky_relu(self.conv1(x), 0.2)
        x2 = F.leaky_relu(self.conv2(torch.cat((x, x1), 1)), 0.2)
        x3 = F.leaky_relu(self.conv3(torch.cat((x, x1, x2), 1)), 0.2)
        x4 = F.leaky_relu(self.conv4(torch.cat((x, x1, x2, x3), 1)), 0.2)
        x5: Tensor = self.conv5(torch.cat((x, x1, x2, x3, x4), 1))
        return x5 * 0.2 + x


class BasicSrBlock(nn.Module):
    def __init__(self, nf: int, gc: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(nf, gc) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.rdb3(self.rdb2(self.rdb1(x)))
        return out * 0.2 + x


class BasicSr(nn.Module):
    """XPixelGroup/BasicSR, xinntao/Real-ESRGAN: x4, x2 and x1, the input of the latter two unshuffled."""

    def __init__(self, channels: int, nf: int, gc: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.fold = {4: 1, 2: 2, 1: 4}[scale]
        self.conv_first = conv(channels * self.fold**2, nf)
        self.body = nn.Sequential(*(BasicSrBlock(nf, gc) for _ in range(blocks)))
        self.conv_body = conv(nf, nf)
        self.conv_up1 = conv(nf, nf)
        self.conv_up2 = conv(nf, nf)
        self.conv_hr = conv(nf, nf)
        self.conv_last = conv(nf, channels)

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        f = self.fold
        x = x.view(n, c, height // f, f, width // f, f).permute(0, 1, 3, 5, 2, 4)
        feat = self.conv_first(x.reshape(n, c * f * f, height // f, width // f))
        feat = feat + self.conv_body(self.body(feat))
        feat = F.leaky_relu(self.conv_up1(F.interpolate(feat, scale_factor=2, mode="nearest")), 0.2)
        feat = F.leaky_relu(self.conv_up2(F.interpolate(feat, scale_factor=2, mode="nearest")), 0.2)
        out: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(feat), 0.2))
        return out


class KairBlock(nn.Module):
    def __init__(self, nf: int, gc: int) -> None:
        super().__init__()
        self.RDB1, self.RDB2, self.RDB3 = (DenseBlock(nf, gc) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.RDB3(self.RDB2(self.RDB1(x)))
        return out * 0.2 + x


class Kair(nn.Module):
    """xinntao/ESRGAN, MMSR, KAIR, BSRGAN: `RRDB_trunk`; x2 has one upsampling conv and takes the image as it is."""

    def __init__(self, channels: int, nf: int, gc: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.conv_first = conv(channels, nf)
        self.RRDB_trunk = nn.Sequential(*(KairBlock(nf, gc) for _ in range(blocks)))
        self.trunk_conv = conv(nf, nf)
        self.upconv1 = conv(nf, nf)
        if scale == 4:
            self.upconv2 = conv(nf, nf)
        self.HRconv = conv(nf, nf)
        self.conv_last = conv(nf, channels)

    def forward(self, x: Tensor) -> Tensor:
        fea = self.conv_first(x)
        fea = fea + self.trunk_conv(self.RRDB_trunk(fea))
        fea = F.leaky_relu(self.upconv1(F.interpolate(fea, scale_factor=2, mode="nearest")), 0.2)
        if self.scale == 4:
            fea = F.leaky_relu(self.upconv2(F.interpolate(fea, scale_factor=2, mode="nearest")), 0.2)
        out: Tensor = self.conv_last(F.leaky_relu(self.HRconv(fea), 0.2))
        return out


class OldDenseBlock(nn.Module):
    """The first release: every conv in a Sequential with its activation; `plus`: ncarraz/ESRGANplus."""

    def __init__(self, nf: int, gc: int, plus: bool = False) -> None:
        super().__init__()
        self.conv1x1 = nn.Conv2d(nf, gc, 1, bias=False) if plus else None
        layers = (nn.Sequential(conv(nf + k * gc, gc), nn.LeakyReLU(0.2, inplace=True)) for k in range(4))
        self.conv1, self.conv2, self.conv3, self.conv4 = layers
        self.conv5 = nn.Sequential(conv(nf + 4 * gc, nf))

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.conv1(x)
        x2 = self.conv2(torch.cat((x, x1), 1))
        if self.conv1x1:
            x2 = x2 + self.conv1x1(x)
        x3 = self.conv3(torch.cat((x, x1, x2), 1))
        x4 = self.conv4(torch.cat((x, x1, x2, x3), 1))
        if self.conv1x1:
            x4 = x4 + x2
        return self.conv5(torch.cat((x, x1, x2, x3, x4), 1)).mul(0.2) + x  # type: ignore[no-any-return]


class OldBlock(nn.Module):
    def __init__(self, nf: int, gc: int, plus: bool = False) -> None:
        super().__init__()
        self.RDB1, self.RDB2, self.RDB3 = (OldDenseBlock(nf, gc, plus) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.RDB3(self.RDB2(self.RDB1(x))).mul(0.2) + x  # type: ignore[no-any-return]


class Shortcut(nn.Module):
    def __init__(self, sub: nn.Module) -> None:
        super().__init__()
        self.sub = sub

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.sub(x)
        return out


class OldEsrgan(nn.Module):
    """The first release of ESRGAN and most community models: one long Sequential, `factors` of its upsampling steps."""

    def __init__(
        self, channels: int, nf: int, gc: int, blocks: int, factors: tuple[int, ...], plus: bool = False, out: int = 0
    ) -> None:
        super().__init__()
        trunk = Shortcut(nn.Sequential(*(OldBlock(nf, gc, plus) for _ in range(blocks)), conv(nf, nf)))
        layers: list[nn.Module] = [conv(channels, nf), trunk]
        for factor in factors:
            layers += [nn.Upsample(scale_factor=factor, mode="nearest"), conv(nf, nf), nn.LeakyReLU(0.2, inplace=True)]
        self.model = nn.Sequential(*layers, conv(nf, nf), nn.LeakyReLU(0.2, inplace=True), conv(nf, out or channels))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out


class PytorchGanDenseBlock(nn.Module):
    def __init__(self, filters: int) -> None:
        super().__init__()
        self.b1, self.b2, self.b3, self.b4 = (
            nn.Sequential(conv(k * filters, filters), nn.LeakyReLU()) for k in range(1, 5)
        )
        self.b5 = nn.Sequential(conv(5 * filters, filters))

    def forward(self, x: Tensor) -> Tensor:
        inputs, out = x, x
        for block in (self.b1, self.b2, self.b3, self.b4, self.b5):
            out = block(inputs)
            inputs = torch.cat([inputs, out], 1)
        return out.mul(0.2) + x


class PytorchGanBlock(nn.Module):
    def __init__(self, filters: int) -> None:
        super().__init__()
        self.dense_blocks = nn.Sequential(*(PytorchGanDenseBlock(filters) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.dense_blocks(x).mul(0.2) + x  # type: ignore[no-any-return]


class PytorchGan(nn.Module):
    """eriklindernoren/PyTorch-GAN esrgan's GeneratorRRDB; images in ImageNet units."""

    def __init__(self, filters: int, blocks: int, upsamplings: int) -> None:
        super().__init__()
        self.conv1 = conv(3, filters)
        self.res_blocks = nn.Sequential(*(PytorchGanBlock(filters) for _ in range(blocks)))
        self.conv2 = conv(filters, filters)
        steps: list[nn.Module] = []
        for _ in range(upsamplings):
            steps += [conv(filters, 4 * filters), nn.LeakyReLU(), nn.PixelShuffle(2)]
        self.upsampling = nn.Sequential(*steps)
        self.conv3 = nn.Sequential(conv(filters, filters), nn.LeakyReLU(), conv(filters, 3))

    def forward(self, x: Tensor) -> Tensor:
        out1 = self.conv1(x)
        out: Tensor = self.conv3(self.upsampling(torch.add(out1, self.conv2(self.res_blocks(out1)))))
        return out


class ConvAct(nn.Module):
    def __init__(self, before: int, after: int, act: bool) -> None:
        super().__init__()
        self.cnn = conv(before, after)
        self.act = nn.LeakyReLU(0.2, inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.cnn(x))
        return out


class CourseDenseBlock(nn.Module):
    def __init__(self, nf: int, gc: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConvAct(nf + gc * k, gc if k < 4 else nf, k < 4) for k in range(5))

    def forward(self, x: Tensor) -> Tensor:
        seen, out = x, x
        for block in self.blocks:
            out = block(seen)
            seen = torch.cat([seen, out], dim=1)
        return 0.2 * out + x


class CourseBlock(nn.Module):
    def __init__(self, nf: int, gc: int) -> None:
        super().__init__()
        self.rrdb = nn.Sequential(*(CourseDenseBlock(nf, gc) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.rrdb(x) * 0.2 + x  # type: ignore[no-any-return]


class CourseUpsample(nn.Module):
    def __init__(self, nf: int) -> None:
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.conv = conv(nf, nf)
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.conv(self.upsample(x)))
        return out


class Course(nn.Module):
    """aladdinpersson/Machine-Learning-Collection ESRGAN."""

    def __init__(self, nf: int, gc: int, blocks: int) -> None:
        super().__init__()
        self.initial = conv(3, nf)
        self.residuals = nn.Sequential(*(CourseBlock(nf, gc) for _ in range(blocks)))
        self.conv = conv(nf, nf)
        self.upsamples = nn.Sequential(CourseUpsample(nf), CourseUpsample(nf))
        self.final = nn.Sequential(conv(nf, nf), nn.LeakyReLU(0.2, inplace=True), conv(nf, 3))

    def forward(self, x: Tensor) -> Tensor:
        initial = self.initial(x)
        out: Tensor = self.final(self.upsamples(self.conv(self.residuals(initial)) + initial))
        return out
