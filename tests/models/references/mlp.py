"""Perceptrons as their training repositories define them: same modules, same keys, same way from latent to image."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PytorchGan(nn.Module):
    """eriklindernoren/PyTorch-GAN gan, wgan, wgan_gp, wgan_div, softmax_gan, bgan: BatchNorm's epsilon is 0.8."""

    def __init__(self, latent: int, hidden: Sequence[int], shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        layers: list[nn.Module] = [nn.Linear(latent, hidden[0]), nn.LeakyReLU(0.2, inplace=True)]
        for before, after in itertools.pairwise(hidden):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after, 0.8), nn.LeakyReLU(0.2, inplace=True)]
        channels, height, width = shape
        self.model = nn.Sequential(*layers, nn.Linear(hidden[-1], channels * height * width), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        flat: Tensor = self.model(z)
        return flat.view(flat.size(0), *self.shape)


class PytorchGanConditional(PytorchGan):
    """eriklindernoren/PyTorch-GAN cgan: the embedding is as long as there are classes, and comes first."""

    def __init__(self, classes: int, latent: int, hidden: Sequence[int], shape: tuple[int, int, int]) -> None:
        super().__init__(latent + classes, hidden, shape)
        self.label_emb = nn.Embedding(classes, classes)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.cat((self.label_emb(labels), noise), -1))


class PytorchGanDecoder(nn.Module):
    """eriklindernoren/PyTorch-GAN aae's decoder: there BatchNorm has its usual epsilon."""

    def __init__(self, latent: int, hidden: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        channels, height, width = shape
        self.model = nn.Sequential(
            nn.Linear(latent, hidden),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(hidden, hidden),
            nn.BatchNorm1d(hidden),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(hidden, channels * height * width),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        flat: Tensor = self.model(z)
        return flat.view(flat.shape[0], *self.shape)


class MnistCgan(nn.Module):
    """arturml/mnist-cgan: no BatchNorm; the latent comes first."""

    def __init__(self, classes: int, latent: int, hidden: Sequence[int], size: int) -> None:
        super().__init__()
        self.size = size
        self.label_emb = nn.Embedding(classes, classes)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((latent + classes, *hidden)):
            layers += [nn.Linear(before, after), nn.LeakyReLU(0.2, inplace=True)]
        self.model = nn.Sequential(*layers, nn.Linear(hidden[-1], size * size), nn.Tanh())

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        flat: Tensor = self.model(torch.cat([z, self.label_emb(labels)], 1))
        return flat.view(-1, 1, self.size, self.size)


def yunjey(latent: int, hidden: int, values: int) -> nn.Sequential:
    """yunjey/pytorch-tutorial generative_adversarial_network: keys without a prefix."""
    return nn.Sequential(
        nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, values), nn.Tanh()
    )


class Wasserstein(nn.Module):
    """martinarjovsky/WassersteinGAN MLP_G: nothing behind the last layer."""

    def __init__(self, nz: int, ngf: int, nc: int, isize: int) -> None:
        super().__init__()
        self.shape = (nc, isize, isize)
        layers: list[nn.Module] = []
        for before in (nz, ngf, ngf):
            layers += [nn.Linear(before, ngf), nn.ReLU(True)]
        self.main = nn.Sequential(*layers, nn.Linear(ngf, nc * isize * isize))

    def forward(self, input: Tensor) -> Tensor:
        flat: Tensor = self.main(input.view(input.size(0), input.size(1)))
        return flat.view(flat.size(0), *self.shape)


class SimpleGan(nn.Module):
    """aladdinpersson/Machine-Learning-Collection SimpleGAN."""

    def __init__(self, latent: int, hidden: int, values: int) -> None:
        super().__init__()
        self.gen = nn.Sequential(nn.Linear(latent, hidden), nn.LeakyReLU(0.01), nn.Linear(hidden, values), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        flat: Tensor = self.gen(x)
        return flat


class FourLayers(nn.Module):
    """znxlwm/pytorch-MNIST-CelebA-GAN-DCGAN's GAN: leaky ReLU 0.2 as a function."""

    def __init__(self, latent: int, hidden: int, values: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(latent, hidden)
        self.fc2 = nn.Linear(hidden, 2 * hidden)
        self.fc3 = nn.Linear(2 * hidden, 4 * hidden)
        self.fc4 = nn.Linear(4 * hidden, values)

    def forward(self, input: Tensor) -> Tensor:
        x = input
        for layer in (self.fc1, self.fc2, self.fc3):
            x = nn.functional.leaky_relu(layer(x), 0.2)
        return torch.tanh(self.fc4(x))


class TwoEntrances(nn.Module):
    """znxlwm/pytorch-MNIST-CelebA-cGAN-cDCGAN's cGAN; it takes the label one-hot."""

    def __init__(self, latent: int, classes: int, hidden: int, values: int) -> None:
        super().__init__()
        self.fc1_1 = nn.Linear(latent, hidden)
        self.fc1_1_bn = nn.BatchNorm1d(hidden)
        self.fc1_2 = nn.Linear(classes, hidden)
        self.fc1_2_bn = nn.BatchNorm1d(hidden)
        self.fc2 = nn.Linear(2 * hidden, 2 * hidden)
        self.fc2_bn = nn.BatchNorm1d(2 * hidden)
        self.fc3 = nn.Linear(2 * hidden, 4 * hidden)
        self.fc3_bn = nn.BatchNorm1d(4 * hidden)
        self.fc4 = nn.Linear(4 * hidden, values)

    def forward(self, input: Tensor, label: Tensor) -> Tensor:
        x = torch.relu(self.fc1_1_bn(self.fc1_1(input)))
        y = torch.relu(self.fc1_2_bn(self.fc1_2(label)))
        x = torch.cat([x, y], 1)
        x = torch.relu(self.fc2_bn(self.fc2(x)))
        x = torch.relu(self.fc3_bn(self.fc3(x)))
        return torch.tanh(self.fc4(x))
