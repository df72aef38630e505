"""christiancosgrove/pytorch-spectral-normalization-gan's generators and its spectral norm, which takes a power step at
each call; and heykeetae/Self-Attention-GAN's generator, which uses that norm.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Wrapped(nn.Module):
    """The layer inside `SpectralNorm`: its weight under three names."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(after))
        self.weight_u = nn.Parameter(torch.empty(before))
        self.weight_v = nn.Parameter(torch.empty(after * 16))
        self.weight_bar = nn.Parameter(torch.empty(before, after, 4, 4))
        self.stride = stride


class SpectralNorm(nn.Module):
    """A transposed conv k4 whose weight is divided by an estimate that starts from the stored u."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.module = Wrapped(before, after, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.module
        matrix = inner.weight_bar.reshape(len(inner.weight_bar), -1)
        v = torch.mv(matrix.T, inner.weight_u)
        v = v / v.norm()
        u = torch.mv(matrix, v)
        sigma = torch.dot(u / u.norm(), torch.mv(matrix, v))
        weight = inner.weight_bar / sigma
        return F.conv_transpose2d(x, weight, inner.bias, inner.stride, 0 if inner.stride == 1 else 1)


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(width, width // 8, 1)
        self.key_conv = nn.Conv2d(width, width // 8, 1)
        self.value_conv = nn.Conv2d(width, width, 1)
        self.gamma = nn.Parameter(torch.empty(1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        energy = torch.einsum("ncq,nck->nqk", self.query_conv(x).flatten(2), self.key_conv(x).flatten(2))
        attention = torch.softmax(energy, -1)
        out = torch.einsum("nck,nqk->ncq", self.value_conv(x).flatten(2), attention)
        return self.gamma * out.reshape(x.shape) + x, attention


class AttentionGenerator(nn.Module):
    """heykeetae's; forward gives the image alone, where theirs gives two maps beside it."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()

        def step(before: int, after: int, stride: int = 2) -> nn.Sequential:
            return nn.Sequential(SpectralNorm(before, after, stride), nn.BatchNorm2d(after), nn.ReLU())

        self.l4 = step(2 * width, width)
        self.l1 = step(latent, 8 * width, 1)
        self.l2 = step(8 * width, 4 * width)
        self.l3 = step(4 * width, 2 * width)
        self.last = nn.Sequential(nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh())
        self.attn1 = Attention(2 * width)
        self.attn2 = Attention(width)

    def forward(self, z: Tensor) -> Tensor:
        x, _ = self.attn1(self.l3(self.l2(self.l1(z.view(*z.shape, 1, 1)))))
        x, _ = self.attn2(self.l4(x))
        image: Tensor = self.last(x)
        return image


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.model = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            self.conv1,
            nn.BatchNorm2d(width),
            nn.ReLU(),
            self.conv2,
        )

    def forward(self, x: Tensor) -> Tensor:
        sides: Tensor = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        result: Tensor = self.model(x) + sides
        return result


class ResnetGenerator(nn.Module):
    """model_resnet.py's."""

    def __init__(self, latent: int, width: int, blocks: int) -> None:
        super().__init__()
        self.width = width
        self.dense = nn.Linear(latent, 16 * width)
        self.final = nn.Conv2d(width, 3, 3, padding=1)
        layers = [Block(width) for _ in range(blocks)]
        self.model = nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU(), self.final, nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = self.model(self.dense(z).view(-1, self.width, 4, 4))
        return image


class PlainGenerator(nn.Module):
    """model.py's."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        widths = (8 * width, 4 * width, 2 * width, width)
        layers: list[nn.Module] = []
        before = latent
        for place, after in enumerate(widths):
            conv = nn.ConvTranspose2d(before, after, 4, *((2, 1) if place else (1, 0)))
            layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
            before = after
        self.model = nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 3, 1, 1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = self.model(z[:, :, None, None])
        return image


def once(network: nn.Module) -> Mapping[str, Tensor]:
    """The file with one of the two names of each conv, as safetensors keeps them."""
    state = network.state_dict().items()
    return {key: value for key, value in state if ".conv" not in key and not key.startswith("final")}
