"""What `faces-srgan` adds to its generator: a discriminator, a good beginning, and two losses."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from models.families.superres.srresnet import SrResNet


class Discriminator(nn.Module):
    """Patch scores (N, 1, H/8, W/8) float32 of pictures (N, 3, H, W) float32, 0..1, and the features on the way."""

    def __init__(self, width: int) -> None:
        super().__init__()
        plan = ((3, width, 4, 2), (width, 2 * width, 4, 2), (2 * width, 4 * width, 4, 2), (4 * width, 4 * width, 3, 1))
        self.layers = nn.ModuleList(spectral_norm(nn.Conv2d(*layer, padding=1)) for layer in plan)
        self.score = spectral_norm(nn.Conv2d(4 * width, 1, 3, 1, 1))

    def forward(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = [pictures * 2 - 1]
        for layer in self.layers:
            features.append(functional.leaky_relu(layer(features[-1]), 0.2))
        return self.score(features[-1]), features[1:]


@torch.no_grad()
def start_as_enlarger(network: SrResNet) -> SrResNet:
    """Sets weights such that the network begins as a plain, smooth enlargement, which it only has to improve on.

    The first features carry the picture's channels through: copied by each doubling, smoothed by the last conv.
    """
    channels, tent = network.conv3.out_channels, torch.tensor([1.0, 2, 3, 4, 3, 2, 1])
    tent /= tent.sum()
    first, last = network.conv1[0], network.conv3
    assert isinstance(first, nn.Conv2d)
    convs = [first, last, *(conv for conv in network.upsampling.modules() if isinstance(conv, nn.Conv2d))]
    for conv in convs:
        nn.init.zeros_(conv.bias) if conv.bias is not None else None
    last.weight[:] = last.weight * 0.1
    for channel in range(channels):
        first.weight[channel] = 0
        first.weight[channel, channel, 4, 4] = 1
        last.weight[channel, :channels] = 0
        last.weight[channel, channel, 1:8, 1:8] = tent[:, None] * tent
        for conv in convs[2:]:
            conv.weight[4 * channel : 4 * channel + 4] = 0
            conv.weight[4 * channel : 4 * channel + 4, channel, 1, 1] = 1
    nn.init.constant_(network.conv2[1].weight, 0.1)  # type: ignore[arg-type]
    return network


def feature_distance(found: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """The mean absolute differences of two pictures' features, summed over the layers."""
    return torch.stack([functional.l1_loss(ours, theirs) for ours, theirs in zip(found, wanted, strict=True)]).sum()


def relativistic(real: Tensor, fake: Tensor) -> Tensor:
    """The relativistic average loss of scores: `real` above the mean of `fake`, `fake` below the mean of `real`."""
    above = functional.softplus(fake.mean() - real).mean()
    below = functional.softplus(fake - real.mean()).mean()
    return (above + below) / 2
