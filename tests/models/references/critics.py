"""Discriminators as their training repositories define them: same modules, same keys, whole batches judged together."""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models.references.nvidia_mapping import FullyConnectedLayer, bias_act, normalise, upfirdn
from tests.models.references.nvidia_stylegan2 import setup_filter
from tests.models.references.stylegan2 import EqualLinear, FusedLeakyReLU, make_kernel
from tests.models.references.stylegan2 import upfirdn as rosinality_upfirdn


def _tensor(scores: object) -> Tensor:
    """What a module returns, to the type checker."""
    assert isinstance(scores, Tensor)
    return scores


class ExamplesD(nn.Module):
    """pytorch/examples dcgan, for 32 px."""

    def __init__(self, nc: int, ndf: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(nc, ndf, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ndf * 2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(ndf * 2, ndf * 4, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ndf * 4),
            nn.LeakyReLU(0.2),
            nn.Conv2d(ndf * 4, 1, 4, 1, 0, bias=False),
        )

    def forward(self, image: Tensor) -> Tensor:
        return _tensor(self.main(image).view(-1, 1).squeeze(1))


class WassersteinD(nn.Module):
    """martinarjovsky/WassersteinGAN DCGAN_D for 32 px, without the mean over the batch."""

    def __init__(self, nc: int, ndf: int) -> None:
        super().__init__()
        main = nn.Sequential()
        for name, module in (
            (f"initial:{nc}-{ndf}:conv", nn.Conv2d(nc, ndf, 4, 2, 1, bias=False)),
            (f"initial:{ndf}:relu", nn.LeakyReLU(0.2)),
            (f"pyramid:{ndf}-{ndf * 2}:conv", nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False)),
            (f"pyramid:{ndf * 2}:batchnorm", nn.BatchNorm2d(ndf * 2)),
            (f"pyramid:{ndf * 2}:relu", nn.LeakyReLU(0.2)),
            (f"pyramid:{ndf * 2}-{ndf * 4}:conv", nn.Conv2d(ndf * 2, ndf * 4, 4, 2, 1, bias=False)),
            (f"pyramid:{ndf * 4}:batchnorm", nn.BatchNorm2d(ndf * 4)),
            (f"pyramid:{ndf * 4}:relu", nn.LeakyReLU(0.2)),
            (f"final:{ndf * 4}-1:conv", nn.Conv2d(ndf * 4, 1, 4, 1, 0, bias=False)),
        ):
            main.add_module(name, module)
        self.main = main

    def forward(self, image: Tensor) -> Tensor:
        return _tensor(self.main(image).flatten())


class NatsuD(nn.Module):
    """Natsu6767/DCGAN-PyTorch, for 16 px."""

    def __init__(self, nc: int, ndf: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(nc, ndf, 4, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(ndf * 2)
        self.conv3 = nn.Conv2d(ndf * 2, 1, 4, 1, 0, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        maps = F.leaky_relu(self.conv1(image), 0.2)
        maps = F.leaky_relu(self.bn2(self.conv2(maps)), 0.2)
        return _tensor(self.conv3(maps).flatten())


class AladdinD(nn.Module):
    """aladdinpersson's DCGAN, for 16 px."""

    def __init__(self, nc: int, ndf: int) -> None:
        super().__init__()
        block = nn.Sequential(nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 2), nn.LeakyReLU(0.2))
        self.disc = nn.Sequential(nn.Conv2d(nc, ndf, 4, 2, 1), nn.LeakyReLU(0.2), block, nn.Conv2d(ndf * 2, 1, 4, 2, 0))

    def forward(self, image: Tensor) -> Tensor:
        return _tensor(self.disc(image).flatten())


class GanD(nn.Module):
    """eriklindernoren/PyTorch-GAN gan."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Linear(values, 32), nn.LeakyReLU(0.2), nn.Linear(32, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        return _tensor(self.model(image.view(len(image), -1))[:, 0])


class CganD(nn.Module):
    """eriklindernoren/PyTorch-GAN cgan."""

    def __init__(self, values: int, classes: int) -> None:
        super().__init__()
        self.label_embedding = nn.Embedding(classes, classes)
        self.model = nn.Sequential(
            nn.Linear(classes + values, 32),
            nn.LeakyReLU(0.2),
            nn.Linear(32, 32),
            nn.Dropout(0.4),
            nn.LeakyReLU(0.2),
            nn.Linear(32, 32),
            nn.Dropout(0.4),
            nn.LeakyReLU(0.2),
            nn.Linear(32, 1),
        )

    def forward(self, image: Tensor, labels: Tensor) -> Tensor:
        return _tensor(self.model(torch.cat((image.view(image.size(0), -1), self.label_embedding(labels)), -1))[:, 0])


class AcganD(nn.Module):
    """eriklindernoren/PyTorch-GAN acgan; dcgan has `model` in place of `conv_blocks` and no `aux_layer`."""

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()

        def block(before: int, after: int, bn: bool = True) -> list[nn.Module]:
            layers: list[nn.Module] = [nn.Conv2d(before, after, 3, 2, 1), nn.LeakyReLU(0.2), nn.Dropout2d(0.25)]
            return [*layers, nn.BatchNorm2d(after, 0.8)] if bn else layers

        self.conv_blocks = nn.Sequential(*block(channels, 8, bn=False), *block(8, 16), *block(16, 32))
        self.adv_layer = nn.Sequential(nn.Linear(32 * (side // 8) ** 2, 1))
        self.aux_layer = nn.Sequential(nn.Linear(32 * (side // 8) ** 2, classes), nn.Softmax(dim=1))

    def forward(self, image: Tensor) -> Tensor:
        return _tensor(self.adv_layer(self.conv_blocks(image).flatten(1))[:, 0])


class ZnxlwmD(nn.Module):
    """znxlwm/pytorch-MNIST-CelebA-cGAN-cDCGAN cdcgan, for 16 px: the label as planes."""

    def __init__(self, nc: int, classes: int, d: int) -> None:
        super().__init__()
        self.classes = classes
        self.conv1_1 = nn.Conv2d(nc, d // 2, 4, 2, 1)
        self.conv1_2 = nn.Conv2d(classes, d // 2, 4, 2, 1)
        self.conv2 = nn.Conv2d(d, d * 2, 4, 2, 1)
        self.conv2_bn = nn.BatchNorm2d(d * 2)
        self.conv3 = nn.Conv2d(d * 2, 1, 4, 1, 0)

    def forward(self, image: Tensor, labels: Tensor) -> Tensor:
        fill = torch.zeros(self.classes, self.classes, *image.shape[2:])
        fill[range(self.classes), range(self.classes)] = 1
        maps = torch.cat([F.leaky_relu(self.conv1_1(image), 0.2), F.leaky_relu(self.conv1_2(fill[labels]), 0.2)], 1)
        maps = F.leaky_relu(self.conv2_bn(self.conv2(maps)), 0.2)
        return _tensor(self.conv3(maps).flatten())


class _EqualConv2d(nn.Module):
    def __init__(self, before: int, after: int, size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before, size, size))
        self.scale, self.stride, self.padding = 1 / math.sqrt(before * size**2), stride, padding

    def forward(self, maps: Tensor) -> Tensor:
        return F.conv2d(maps, self.weight * self.scale, stride=self.stride, padding=self.padding)


class _Blur(nn.Module):
    kernel: Tensor

    def __init__(self, pad: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("kernel", make_kernel([1, 3, 3, 1]))
        self.pad = pad

    def forward(self, maps: Tensor) -> Tensor:
        return rosinality_upfirdn(maps, self.kernel, 1, self.pad)


class _ConvLayer(nn.Sequential):
    def __init__(self, before: int, after: int, size: int, downsample: bool = False, activate: bool = True) -> None:
        layers: list[nn.Module] = []
        padding, stride = size // 2, 1
        if downsample:
            p = (4 - 2) + (size - 1)
            layers.append(_Blur(((p + 1) // 2, p // 2)))
            stride, padding = 2, 0
        layers.append(_EqualConv2d(before, after, size, stride, padding))
        if activate:
            layers.append(FusedLeakyReLU(after))
        super().__init__(*layers)


class _ResBlock(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = _ConvLayer(before, before, 3)
        self.conv2 = _ConvLayer(before, after, 3, downsample=True)
        self.skip = _ConvLayer(before, after, 1, downsample=True, activate=False)

    def forward(self, maps: Tensor) -> Tensor:
        return _tensor((self.conv2(self.conv1(maps)) + self.skip(maps)) / math.sqrt(2))


class RosinalityD(nn.Module):
    """rosinality/stylegan2-pytorch; `widths` from the largest side down to 4 px."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        blocks = [_ResBlock(before, after) for before, after in itertools.pairwise(widths)]
        self.convs = nn.Sequential(_ConvLayer(3, widths[0], 1), *blocks)
        self.final_conv = _ConvLayer(widths[-1] + 1, widths[-1], 3)
        self.final_linear = nn.Sequential(
            EqualLinear(widths[-1] * 16, widths[-1], activation=True), EqualLinear(widths[-1], 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        out = self.convs(image)
        batch, channel, height, width = out.shape
        group = min(batch, 4)
        stddev = out.view(group, -1, 1, channel, height, width)
        stddev = torch.sqrt(stddev.var(0, unbiased=False) + 1e-8).mean([2, 3, 4], keepdim=True).squeeze(2)
        out = self.final_conv(torch.cat([out, stddev.repeat(group, 1, height, width)], 1))
        return _tensor(self.final_linear(out.view(batch, -1))[:, 0])


class _Conv2dLayer(nn.Module):
    resample_filter: Tensor

    def __init__(
        self, before: int, after: int, size: int, bias: bool, act: str, down: int, clamp: float | None
    ) -> None:
        super().__init__()
        self.register_buffer("resample_filter", setup_filter())
        self.weight = nn.Parameter(torch.randn(after, before, size, size))
        self.bias = nn.Parameter(torch.zeros(after)) if bias else None
        self.act, self.down, self.clamp = act, down, clamp
        self.weight_gain = 1 / math.sqrt(before * size**2)

    def forward(self, x: Tensor, gain: float = 1) -> Tensor:
        w, size = self.weight * self.weight_gain, self.weight.shape[-1]
        if self.down == 1:
            x = F.conv2d(x, w, padding=size // 2)
        elif size == 1:
            x = F.conv2d(upfirdn(x, self.resample_filter, down=2, pad=(1,) * 4), w)
        else:
            x = F.conv2d(upfirdn(x, self.resample_filter, pad=(2,) * 4), w, stride=2)
        clamp = None if self.clamp is None else self.clamp * gain
        return bias_act(x, self.bias, self.act, gain * (2**0.5 if self.act == "lrelu" else 1), clamp)


class _Block(nn.Module):
    resample_filter: Tensor

    def __init__(self, before: int, width: int, after: int, clamp: float | None) -> None:
        super().__init__()
        self.register_buffer("resample_filter", setup_filter())
        if before:
            self.fromrgb = _Conv2dLayer(before, width, 1, True, "lrelu", 1, clamp)
        self.conv0 = _Conv2dLayer(width, width, 3, True, "lrelu", 1, clamp)
        self.conv1 = _Conv2dLayer(width, after, 3, True, "lrelu", 2, clamp)
        self.skip = _Conv2dLayer(width, after, 1, False, "linear", 2, None)

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "fromrgb"):
            x = self.fromrgb(x)
        y = self.skip(x, gain=0.5**0.5)
        return _tensor(y + self.conv1(self.conv0(x), gain=0.5**0.5))


class _Epilogue(nn.Module):
    def __init__(self, width: int, cmap: int, clamp: float | None) -> None:
        super().__init__()
        self.cmap = cmap
        self.conv = _Conv2dLayer(width + 1, width, 3, True, "lrelu", 1, clamp)
        self.fc = FullyConnectedLayer(width * 16, width, activation="lrelu")
        self.out = FullyConnectedLayer(width, max(1, cmap))

    def forward(self, x: Tensor, cmap: Tensor | None) -> Tensor:
        group = min(4, len(x))
        y = x.reshape(group, -1, 1, *x.shape[1:])
        y = (y - y.mean(0)).square().mean(0)
        y = (y + 1e-8).sqrt().mean([2, 3, 4]).reshape(-1, 1, 1, 1).repeat(group, 1, *x.shape[2:])
        x = self.out(self.fc(self.conv(torch.cat([x, y], 1)).flatten(1)))
        if cmap is not None:
            x = (x * cmap).sum(1, keepdim=True) * (1 / math.sqrt(self.cmap))
        return x


class _LabelMapping(nn.Module):
    def __init__(self, classes: int, width: int, layers: int) -> None:
        super().__init__()
        self.layers = layers
        self.embed = FullyConnectedLayer(classes, width)
        for number in range(layers):
            setattr(self, f"fc{number}", FullyConnectedLayer(width, width, activation="lrelu", lr_multiplier=0.01))

    def forward(self, c: Tensor) -> Tensor:
        x = normalise(self.embed(c))
        for number in range(self.layers):
            x = getattr(self, f"fc{number}")(x)
        return x


class NvidiaD(nn.Module):
    """NVlabs/stylegan2-ada-pytorch, architecture resnet; `widths` from the largest side down to 4 px."""

    def __init__(self, widths: Sequence[int], classes: int, clamp: float | None = 256.0) -> None:
        super().__init__()
        self.classes, side = classes, 4 * 2 ** (len(widths) - 1)
        self.sides = [side // 2**step for step in range(len(widths) - 1)]
        for number, (before, after) in enumerate(itertools.pairwise(widths)):
            setattr(self, f"b{self.sides[number]}", _Block(0 if number else 3, before, after, clamp))
        if classes:
            self.mapping = _LabelMapping(classes, widths[-1], 8)
        self.b4 = _Epilogue(widths[-1], widths[-1] if classes else 0, clamp)

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        x = image
        for side in self.sides:
            x = getattr(self, f"b{side}")(x)
        cmap = self.mapping(F.one_hot(labels, self.classes).float()) if labels is not None else None
        return _tensor(self.b4(x, cmap)[:, 0])
