"""yunjey/stargan's generator and discriminator."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.InstanceNorm2d(width, affine=True, track_running_stats=True),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.InstanceNorm2d(width, affine=True, track_running_stats=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.main(x)
        return result


class Generator(nn.Module):
    def __init__(self, width: int, labels: int, blocks: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []

        def add(conv: nn.Module, after: int) -> None:
            layers.extend([conv, nn.InstanceNorm2d(after, affine=True, track_running_stats=True), nn.ReLU()])

        add(nn.Conv2d(3 + labels, width, 7, padding=3, bias=False), width)
        add(nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), 2 * width)
        add(nn.Conv2d(2 * width, 4 * width, 4, 2, 1, bias=False), 4 * width)
        layers.extend(Residual(4 * width) for _ in range(blocks))
        add(nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False), 2 * width)
        add(nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False), width)
        self.main = nn.Sequential(*layers, nn.Conv2d(width, 3, 7, padding=3, bias=False), nn.Tanh())

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        tiled = c.reshape(*c.shape, 1, 1).repeat(1, 1, *x.shape[2:])
        result: Tensor = self.main(torch.cat([x, tiled], 1))
        return result


def in_training(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """As the repository's test calls it: norms by each picture's statistics."""
    for module in network.modules():
        if isinstance(module, nn.InstanceNorm2d):
            module.train()
            module.momentum = 0.0  # the stored ones stay
    image: Tensor = network(*arrays.values())
    return image


def discriminator(width: int = 4, labels: int = 5) -> dict[str, Tensor]:
    """Its state dict."""
    shapes = {"main.0": (width, 3, 4, 4), "main.2": (2 * width, width, 4, 4), "conv1": (1, 2 * width, 3, 3)}
    weights = {f"{name}.weight": torch.ones(*size) for name, size in shapes.items()}
    biases = {f"{name}.bias": torch.ones(shapes[name][0]) for name in ("main.0", "main.2")}
    return weights | biases | {"conv2.weight": torch.ones(labels, 2 * width, 8, 8)}
