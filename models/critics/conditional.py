"""Convolutional discriminators that are told the label.

`digits-projection`: this repository's recipe `digits`, with a projection of the label (Miyato, Koyama, "cGANs with
Projection Discriminator", 2018, arXiv:1802.05637); its guess of the class is left out. `cdcgan`: Mirza, Osindero, 2014,
arXiv:1411.1784, as znxlwm/pytorch-MNIST-CelebA-cGAN-cDCGAN writes it: an entrance for the image and one for the label,
which comes as an image of ones for its class and zeros for the others.
"""

import itertools
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from artifact.spec import Scalar
from models.architecture import ArchitectureError, StateDict
from models.critics.critic import (
    Critic,
    Judged,
    Layout,
    layer_fact,
    require_channels,
    require_classes,
    require_side,
)
from models.state_dict import load, shape

SLOPE = 0.2


class Projection(nn.Module):
    """Three halving convs; the score of their features, plus the features' product with the label's vector."""

    def __init__(self, channels: int, widths: tuple[int, int, int], features: int, classes: int) -> None:
        super().__init__()
        one, two, three = widths
        self.main = nn.Sequential(
            nn.Conv2d(channels, one, 4, 2, 1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(one, two, 4, 2, 1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(two, three, 3, 2, 1),
            nn.LeakyReLU(SLOPE),
            nn.Flatten(),
        )
        self.score = nn.Linear(features, 1)
        self.label = nn.Embedding(classes, features)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """Scores (N,)."""
        features = self.main(image)
        scores: Tensor = self.score(features)[:, 0] + (features * self.label(label)).sum(1)
        return scores


def _is_projection(state: StateDict) -> bool:
    expected = {f"main.{number}.{part}" for number in (0, 2, 4) for part in ("weight", "bias")}
    expected |= {"score.weight", "score.bias", "label.weight", "classifier.weight", "classifier.bias"}
    kernels = [shape(state, f"main.{number}.weight", 4) for number in (0, 2, 4)]
    return (
        state.keys() == expected
        and [kernel[2:] for kernel in kernels] == [(4, 4), (4, 4), (3, 3)]
        and shape(state, "score.weight", 2) == (1, shape(state, "label.weight", 2)[1])
    )


def _build_projection(state: StateDict, judged: Judged, config: Mapping[str, object]) -> Critic:
    classes, features = state["label.weight"].shape
    widths = tuple(len(state[f"main.{number}.bias"]) for number in (0, 2, 4))
    channels = state["main.0.weight"].shape[1]
    require_channels(channels, judged)
    require_classes(classes, judged)
    _, height, width = judged.shape
    halved = [-(-(side // 4) // 2) for side in (height, width)]
    if widths[2] * halved[0] * halved[1] != features:
        raise ArchitectureError(f"its {features} features are not those of images of {width}x{height} px")
    network = Projection(channels, (widths[0], widths[1], widths[2]), features, classes)
    load(network, {key: tensor for key, tensor in state.items() if not key.startswith("classifier.")})
    return Critic(network, classes, hyperparameters={"widths": "-".join(map(str, widths))})


class TwoEntrances(nn.Module):
    """Convs 4x4 of stride 2 for image and label, side by side; more of them with BatchNorm, the last to one value."""

    def __init__(self, channels: int, classes: int, widths: list[int], slope: float, eps: float) -> None:
        super().__init__()
        self.conv1_1 = nn.Conv2d(channels, widths[0] // 2, 4, 2, 1)
        self.conv1_2 = nn.Conv2d(classes, widths[0] - widths[0] // 2, 4, 2, 1)
        self.middle = len(widths)
        for number, (before, after) in enumerate(itertools.pairwise(widths), 2):
            setattr(self, f"conv{number}", nn.Conv2d(before, after, 4, 2, 1))
            setattr(self, f"conv{number}_bn", nn.BatchNorm2d(after, eps))
        setattr(self, f"conv{len(widths) + 1}", nn.Conv2d(widths[-1], 1, 4, 1, 0))
        self.slope = slope
        self.register_buffer("planes", torch.eye(classes), persistent=False)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """Scores (N,)."""
        planes: Tensor = nn.functional.embedding(label, self.get_buffer("planes"))
        told = planes[:, :, None, None].expand(-1, -1, image.shape[2], image.shape[3])
        maps = torch.cat(
            [leaky_relu(self.conv1_1(image), self.slope), leaky_relu(self.conv1_2(told), self.slope)], dim=1
        )
        for number in range(2, self.middle + 1):
            maps = getattr(self, f"conv{number}_bn")(getattr(self, f"conv{number}")(maps))
            maps = leaky_relu(maps, self.slope)
        scores: Tensor = getattr(self, f"conv{self.middle + 1}")(maps)
        return scores.flatten()


def _widths(state: StateDict) -> list[int] | None:
    """Channels behind each conv but the last; None if they are no chain."""
    numbers = sorted({int(found[1]) for key in state if (found := re.match(r"conv(\d+)(?:_bn)?\.", key))})
    if not numbers or numbers != list(range(2, len(numbers) + 2)):
        return None
    image, label = shape(state, "conv1_1.weight", 4), shape(state, "conv1_2.weight", 4)
    widths = [image[0] + label[0]]
    for number in numbers:
        after, before, *kernel = shape(state, f"conv{number}.weight", 4)
        if before != widths[-1] or kernel != [4, 4] or (number < numbers[-1]) != (f"conv{number}_bn.bias" in state):
            return None
        widths.append(after)
    return widths[:-1] if widths[-1] == 1 and image[0] == label[0] and image[2:] == label[2:] == (4, 4) else None


def _is_two_entrances(state: StateDict) -> bool:
    return all(re.match(r"conv(1_[12]|\d+(_bn)?)\.", key) for key in state) and _widths(state) is not None


def _build_two_entrances(state: StateDict, judged: Judged, config: Mapping[str, object]) -> Critic:
    widths = _widths(state)
    assert widths is not None, "only called where it is"
    channels, classes = state["conv1_1.weight"].shape[1], state["conv1_2.weight"].shape[1]
    require_channels(channels, judged)
    require_classes(classes, judged)
    require_side(4 * 2 ** len(widths), judged)
    assumed: dict[str, Scalar] = {}
    slope, eps = layer_fact(config, "slope", SLOPE, assumed), layer_fact(config, "eps", 1e-5, assumed)
    network = TwoEntrances(channels, classes, widths, slope, eps)
    load(network, state)
    return Critic(network, classes, hyperparameters={"widths": "-".join(map(str, widths))}, assumed=assumed)


PROJECTION = Layout("digits-projection", "ganserve training/", _is_projection, _build_projection)
CDCGAN = Layout("cdcgan", "znxlwm/pytorch-MNIST-CelebA-cGAN-cDCGAN", _is_two_entrances, _build_two_entrances)
