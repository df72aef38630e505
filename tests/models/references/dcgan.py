"""DCGAN-like generators as their training repositories define them: same modules, same keys, same strides."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Natsu(nn.Module):
    """Natsu6767/DCGAN-PyTorch: numbered layers, activations as functions."""

    def __init__(self, nz: int, ngf: int, nc: int) -> None:
        super().__init__()
        self.tconv1 = nn.ConvTranspose2d(nz, 8 * ngf, kernel_size=4, stride=1, padding=0, bias=False)
        self.bn1 = nn.BatchNorm2d(8 * ngf)
        self.tconv2 = nn.ConvTranspose2d(8 * ngf, 4 * ngf, 4, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * ngf)
        self.tconv3 = nn.ConvTranspose2d(4 * ngf, 2 * ngf, 4, 2, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(2 * ngf)
        self.tconv4 = nn.ConvTranspose2d(2 * ngf, ngf, 4, 2, 1, bias=False)
        self.bn4 = nn.BatchNorm2d(ngf)
        self.tconv5 = nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.tconv1(x)))
        x = torch.relu(self.bn2(self.tconv2(x)))
        x = torch.relu(self.bn3(self.tconv3(x)))
        x = torch.relu(self.bn4(self.tconv4(x)))
        return torch.tanh(self.tconv5(x))


class NatsuInfoMnist(nn.Module):
    """Natsu6767/InfoGAN-PyTorch for MNIST: 62 + 10 + 2 inputs, sigmoid at the end. `width` is 64 there."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tconv1 = nn.ConvTranspose2d(74, 4 * width, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4 * width)
        self.tconv2 = nn.ConvTranspose2d(4 * width, 2 * width, 7, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.tconv3 = nn.ConvTranspose2d(2 * width, width, 4, 2, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.tconv4 = nn.ConvTranspose2d(width, 1, 4, 2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.tconv1(x)))
        x = torch.relu(self.bn2(self.tconv2(x)))
        x = torch.relu(self.bn3(self.tconv3(x)))
        return torch.sigmoid(self.tconv4(x))


class NatsuInfoColour(nn.Module):
    """Natsu6767/InfoGAN-PyTorch for SVHN (168 inputs) and CelebA (228): BatchNorm behind the first two layers only."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.tconv1 = nn.ConvTranspose2d(inputs, 7 * width, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(7 * width)
        self.tconv2 = nn.ConvTranspose2d(7 * width, 4 * width, 4, 2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * width)
        self.tconv3 = nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, padding=1, bias=False)
        self.tconv4 = nn.ConvTranspose2d(2 * width, width, 4, 2, padding=1, bias=False)
        self.tconv5 = nn.ConvTranspose2d(width, 3, 4, 2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.tconv1(x)))
        x = torch.relu(self.bn2(self.tconv2(x)))
        x = torch.relu(self.tconv3(x))
        x = torch.relu(self.tconv4(x))
        return torch.tanh(self.tconv5(x))


class Wasserstein(nn.Module):
    """martinarjovsky/WassersteinGAN DCGAN_G and, with `norm` False, DCGAN_G_nobn.

    `mark` stands between the words of a layer's name. Today's is a colon; old files have dots, which torch no longer
    takes for a module's name, so that a test renames the keys.
    """

    def __init__(self, isize: int, nz: int, nc: int, ngf: int, extra: int = 0, norm: bool = True) -> None:
        super().__init__()
        width, size = ngf // 2, 4
        while size != isize:
            width, size = 2 * width, 2 * size
        self.main = nn.Sequential()
        self._grow(f"initial:{nz}-{width}:convt", nn.ConvTranspose2d(nz, width, 4, 1, 0, bias=False))
        self._follow(f"initial:{width}", width, norm)
        size = 4
        while size < isize // 2:
            name = f"pyramid:{width}-{width // 2}:convt"
            self._grow(name, nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False))
            width, size = width // 2, 2 * size
            self._follow(f"pyramid:{width}", width, norm)
        for index in range(extra):
            self._grow(f"extra-layers-{index}:{width}:conv", nn.Conv2d(width, width, 3, 1, 1, bias=False))
            self._follow(f"extra-layers-{index}:{width}", width, norm)
        self._grow(f"final:{width}-{nc}:convt", nn.ConvTranspose2d(width, nc, 4, 2, 1, bias=False))
        self._grow(f"final:{nc}:tanh", nn.Tanh())

    def _grow(self, name: str, module: nn.Module) -> None:
        self.main.add_module(name, module)

    def _follow(self, name: str, width: int, norm: bool) -> None:
        if norm:
            self._grow(f"{name}:batchnorm", nn.BatchNorm2d(width))
        self._grow(f"{name}:relu", nn.ReLU(True))

    def forward(self, input: Tensor) -> Tensor:
        image: Tensor = self.main(input)
        return image


class Zeleni(nn.Module):
    """Zeleni9/pytorch-wgan: biases everywhere, tanh in a module of its own."""

    def __init__(self, latent: int, width: int, channels: int) -> None:
        super().__init__()
        self.main_module = nn.Sequential(
            nn.ConvTranspose2d(in_channels=latent, out_channels=4 * width, kernel_size=4, stride=1, padding=0),
            nn.BatchNorm2d(num_features=4 * width),
            nn.ReLU(True),
            nn.ConvTranspose2d(in_channels=4 * width, out_channels=2 * width, kernel_size=4, stride=2, padding=1),
            nn.BatchNorm2d(num_features=2 * width),
            nn.ReLU(True),
            nn.ConvTranspose2d(in_channels=2 * width, out_channels=width, kernel_size=4, stride=2, padding=1),
            nn.BatchNorm2d(num_features=width),
            nn.ReLU(True),
            nn.ConvTranspose2d(in_channels=width, out_channels=channels, kernel_size=4, stride=2, padding=1),
        )
        self.output = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        image: Tensor = self.output(self.main_module(x))
        return image


class Mnist28(nn.Module):
    """AKASHKADEL/dcgan-mnist: 28 px by way of a kernel of 3 that makes 7 of 4."""

    def __init__(self, nc: int, nz: int, ngf: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.ConvTranspose2d(nz, ngf * 4, 4, 1, 0, bias=False),
            nn.BatchNorm2d(ngf * 4),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 4, ngf * 2, 3, 2, 1, bias=False),
            nn.BatchNorm2d(ngf * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, input: Tensor) -> Tensor:
        image: Tensor = self.network(input)
        return image


class Blocks(nn.Module):
    """aladdinpersson/Machine-Learning-Collection DCGAN, WGAN, WGAN-GP: blocks; the last layer alone, with bias."""

    def __init__(self, latent: int, channels: int, features: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            self._block(latent, 16 * features, 4, 1, 0),
            self._block(16 * features, 8 * features, 4, 2, 1),
            self._block(8 * features, 4 * features, 4, 2, 1),
            self._block(4 * features, 2 * features, 4, 2, 1),
            nn.ConvTranspose2d(2 * features, channels, kernel_size=4, stride=2, padding=1),
            nn.Tanh(),
        )

    def _block(self, before: int, after: int, kernel: int, stride: int, padding: int) -> nn.Module:
        convolution = nn.ConvTranspose2d(before, after, kernel, stride, padding, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        image: Tensor = self.net(x)
        return image


class Coursera(nn.Module):
    """deeplearning.ai "Build Basic GANs", DCGAN on MNIST and its conditional GAN: kernels 3, 4, 3, 4, no padding."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        last = nn.ConvTranspose2d(hidden, 1, 4, stride=2)
        self.gen = nn.Sequential(
            self._block(inputs, 4 * hidden, 3, 2),
            self._block(4 * hidden, 2 * hidden, 4, 1),
            self._block(2 * hidden, hidden, 3, 2),
            nn.Sequential(last, nn.Tanh()),
        )

    def _block(self, before: int, after: int, kernel: int, stride: int) -> nn.Module:
        convolution = nn.ConvTranspose2d(before, after, kernel, stride=stride)
        return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))

    def forward(self, noise: Tensor) -> Tensor:
        image: Tensor = self.gen(noise.view(len(noise), -1, 1, 1))
        return image


class Deconv(nn.Module):
    """znxlwm/pytorch-MNIST-CelebA-GAN-DCGAN: biases everywhere."""

    def __init__(self, latent: int, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise((latent, *widths)))
        for index, (before, after) in enumerate(pairs, 1):
            stride, padding = (1, 0) if index == 1 else (2, 1)
            setattr(self, f"deconv{index}", nn.ConvTranspose2d(before, after, 4, stride, padding))
            if index < len(pairs):
                setattr(self, f"deconv{index}_bn", nn.BatchNorm2d(after))
        self.steps = len(pairs)

    def forward(self, input: Tensor) -> Tensor:
        x = input
        for index in range(1, self.steps):
            x = torch.relu(getattr(self, f"deconv{index}_bn")(getattr(self, f"deconv{index}")(x)))
        return torch.tanh(getattr(self, f"deconv{self.steps}")(x))


class TwoEntrances(nn.Module):
    """znxlwm/pytorch-MNIST-CelebA-cGAN-cDCGAN's cDCGAN: `slope` 0 in the MNIST script, 0.2 in CelebA's."""

    def __init__(self, latent: int, classes: int, widths: Sequence[int], slope: float) -> None:
        super().__init__()
        half = widths[0] // 2
        self.deconv1_1 = nn.ConvTranspose2d(latent, half, 4, 1, 0)
        self.deconv1_1_bn = nn.BatchNorm2d(half)
        self.deconv1_2 = nn.ConvTranspose2d(classes, widths[0] - half, 4, 1, 0)
        self.deconv1_2_bn = nn.BatchNorm2d(widths[0] - half)
        pairs = list(itertools.pairwise(widths))
        for index, (before, after) in enumerate(pairs, 2):
            setattr(self, f"deconv{index}", nn.ConvTranspose2d(before, after, 4, 2, 1))
            if index <= len(pairs):
                setattr(self, f"deconv{index}_bn", nn.BatchNorm2d(after))
        self.steps = len(widths)
        self.slope = slope

    def forward(self, input: Tensor, label: Tensor) -> Tensor:
        x = self._rectify(self.deconv1_1_bn(self.deconv1_1(input)))
        y = self._rectify(self.deconv1_2_bn(self.deconv1_2(label)))
        x = torch.cat([x, y], 1)
        for index in range(2, self.steps):
            x = self._rectify(getattr(self, f"deconv{index}_bn")(getattr(self, f"deconv{index}")(x)))
        return torch.tanh(getattr(self, f"deconv{self.steps}")(x))

    def _rectify(self, x: Tensor) -> Tensor:
        return nn.functional.leaky_relu(x, self.slope)


class Collection(nn.Module):
    """znxlwm/pytorch-generative-model-collections: every GAN's generator; `maps` is 128 and `hidden` 1024 there."""

    def __init__(self, inputs: int, hidden: int, maps: int, channels: int, size: int) -> None:
        super().__init__()
        self.size, self.maps = size // 4, maps
        values = maps * self.size * self.size
        self.fc = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, values),
            nn.BatchNorm1d(values),
            nn.ReLU(),
        )
        self.deconv = nn.Sequential(
            nn.ConvTranspose2d(maps, maps // 2, 4, 2, 1),
            nn.BatchNorm2d(maps // 2),
            nn.ReLU(),
            nn.ConvTranspose2d(maps // 2, channels, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, *parts: Tensor) -> Tensor:
        x = self.fc(torch.cat(parts, 1)).view(-1, self.maps, self.size, self.size)
        image: Tensor = self.deconv(x)
        return image
