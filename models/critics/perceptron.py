"""Perceptrons as discriminators: Goodfellow et al., "Generative Adversarial Networks", 2014, arXiv:1406.2661.

Reads those of eriklindernoren/PyTorch-GAN (gan, wgan, wgan_gp, softmax_gan, bgan: `model.<i>`; cgan: with
`label_embedding`, appended to the image), of yunjey/pytorch-tutorial (`<i>`), of martinarjovsky/WassersteinGAN
(`main.<i>` from 0 on, with ReLU) and of this repository's `digits-gan` (`main.<i>` from 1 on): linear layers with leaky
ReLU, dropout between them or not, one output. A sigmoid behind it is left out.
"""

import itertools
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from artifact.spec import Scalar
from models.architecture import ArchitectureError, StateDict
from models.critics.critic import Critic, Judged, Layout, layer_fact, require_classes
from models.state_dict import load

EMBEDDING = "label_embedding.weight"
SLOPE = 0.2


class Perceptron(nn.Module):
    """Linear layers of the given widths with leaky ReLU; `rows` (classes, length) follow the image's values."""

    def __init__(self, widths: list[int], slope: float, classes: int = 0, length: int = 0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in itertools.pairwise(widths))
        self.slope = slope
        self.label_embedding = nn.Embedding(classes, length) if classes else None

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Scores (N,)."""
        values = image.flatten(1)
        if self.label_embedding is not None:
            values = torch.cat([values, self.label_embedding(label)], 1)
        *inner, last = self.layers
        for layer in inner:
            values = nn.functional.leaky_relu(layer(values), self.slope)
        scores: Tensor = last(values)
        return scores[:, 0]


def _layers(state: StateDict) -> dict[str, torch.Tensor] | None:
    """The tensors as `Perceptron` names them; None if they are none of one."""
    numbers: dict[int, dict[str, torch.Tensor]] = {}
    for key in state:
        found = re.fullmatch(r"(?:model\.|main\.|)(\d+)\.(weight|bias)", key)
        if found is None and key != EMBEDDING:
            return None
        if found is not None:
            numbers.setdefault(int(found[1]), {})[found[2]] = state[key]
    ordered = sorted(numbers)
    # A linear layer, its activation, perhaps dropout.
    if len(ordered) < 2 or any(after - before not in (2, 3) for before, after in itertools.pairwise(ordered)):
        return None
    prefixes = {key.partition(".")[0] for key in state if key != EMBEDDING}
    if len(prefixes) > 1 and prefixes & {"model", "main"}:
        return None
    named = {
        f"layers.{place}.{part}": tensor
        for place, number in enumerate(ordered)
        for part, tensor in numbers[number].items()
    }
    if EMBEDDING in state:
        named[EMBEDDING] = state[EMBEDDING]
    return named


def _widths(named: StateDict) -> list[int] | None:
    """Of all layers; None if they are no chain that ends in one output."""
    weights = [tensor for key, tensor in named.items() if key.startswith("layers.") and key.endswith(".weight")]
    if any(weight.ndim != 2 for weight in weights) or weights[-1].shape[0] != 1:
        return None
    if any(before.shape[0] != after.shape[1] for before, after in itertools.pairwise(weights)):
        return None
    if sum(key.endswith(".bias") for key in named) != len(weights):
        return None
    return [weights[0].shape[1], *(weight.shape[0] for weight in weights)]


def _matches(state: StateDict) -> bool:
    named = _layers(state)
    return named is not None and _widths(named) is not None


def _build(state: StateDict, judged: Judged, config: Mapping[str, object]) -> Critic:
    named = _layers(state)
    widths = None if named is None else _widths(named)
    assert named is not None, "only called where _matches"
    assert widths is not None
    classes, length = tuple(named[EMBEDDING].shape) if EMBEDDING in named else (0, 0)
    if classes:
        require_classes(classes, judged)
    channels, height, width = judged.shape
    if widths[0] != channels * height * width + length:
        raise ArchitectureError(
            f"judges images of {widths[0] - length} values, the generator's have {channels}x{height}x{width}"
        )
    assumed: dict[str, Scalar] = {}
    slope = 0.0 if "main.0.weight" in state else SLOPE
    network = Perceptron(widths, layer_fact(config, "slope", slope, assumed), classes, length)
    load(network, named)
    hidden = "-".join(str(size) for size in widths[1:-1])
    return Critic(network, classes, hyperparameters={"hidden": hidden}, assumed=assumed)


LAYOUT = Layout(
    name="perceptron",
    reference="eriklindernoren/PyTorch-GAN gan, cgan, wgan, wgan_gp; yunjey/pytorch-tutorial; ganserve training/",
    matches=_matches,
    build=_build,
)
