"""Convolutions that halve the image until one number is left: DCGAN's discriminator (Radford, Metz, Chintala, 2015,
arXiv:1511.06434) and the critics of Wasserstein GANs (arXiv:1701.07875, arXiv:1704.00028).

| reads | keys | layers |
|---|---|---|
| pytorch/examples dcgan, the PyTorch faces tutorial, this repository's `digits-wgan-gp` | `main.<i>` | 4x4 of stride 2, BatchNorm or none, leaky ReLU; a last conv to one value |
| martinarjovsky/WassersteinGAN | `main.initial...`, `main.pyramid...`, `main.final...` | the same. Its forward averages the batch; here each image has its own score |
| Natsu6767/DCGAN-PyTorch, znxlwm's DCGAN, aladdinpersson, Zeleni9 | `conv<i>` with `bn<i>` or `conv<i>_bn`; `disc.<i>`; `main_module.<i>` with `output.0` | the same |
| eriklindernoren/PyTorch-GAN dcgan, lsgan, dragan, relativistic_gan (`model.<i>`), acgan, sgan (`conv_blocks.<i>`) | with `adv_layer.0` | 3x3 of stride 2, leaky ReLU, BatchNorm of epsilon 0.8; a linear layer. What guesses the class is left out |

BatchNorm has its running statistics, as in eval mode: the scale of scores differs from training, their order hardly. A
sigmoid at the end is left out.
"""  # noqa: E501

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from artifact.spec import Scalar
from models.architecture import StateDict
from models.critics.critic import Critic, Judged, Layout, layer_fact, require_channels, require_side
from models.state_dict import load

SLOPE = 0.2
EPS, BLOCKS_EPS = 1e-5, 0.8
HEAD = "adv_layer.0"
# What such files have beside: guesses of the class or of the code, which are no score.
GUESSES = ("aux_layer.", "latent_layer.")

# Names of layers, where they stand (stage, with the number in the name), and whether they are norms.
NAMED = (
    (r"main\.initial[.:](?:conv[.:])?\d+-(\d+)(?:[.:]conv)?", 0, 0),  # martinarjovsky/WassersteinGAN
    (r"main\.pyramid[.:]\d+-(\d+)[.:]conv", 1, 0),
    (r"main\.pyramid[.:](\d+)[.:]batchnorm", 1, 1),
    (r"main\.final[.:]\d+-(\d+)[.:]conv", 2, 0),
    (r"conv(\d+)", 0, 0),  # Natsu6767, znxlwm
    (r"(?:conv(?=\d+_bn)|bn)(\d+)(?:_bn)?", 0, 1),
    (r"disc\.(\d+)(?:\.0)?", 0, 0),  # aladdinpersson
    (r"disc\.(\d+)\.1", 0, 1),
)


@dataclass(frozen=True)
class Step:
    """One conv of stride 2, and where its BatchNorm stands: "", "before" or "after" the activation."""

    before: int
    after: int
    kernel: int
    bias: bool
    norm: str


class Halving(nn.Module):
    """The convs, then `last`: a conv over the whole map, or a linear layer."""

    def __init__(self, steps: list[Step], last: nn.Module, slope: float, eps: float) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(step.before, step.after, step.kernel, 2, 1, bias=step.bias) for step in steps
        )
        self.norms = nn.ModuleDict(
            {str(number): nn.BatchNorm2d(step.after, eps) for number, step in enumerate(steps) if step.norm}
        )
        self.last = last
        self.slope = slope
        self.order = [step.norm for step in steps]

    def forward(self, image: Tensor) -> Tensor:
        """Scores (N,)."""
        maps = image
        for number, (conv, norm) in enumerate(zip(self.convs, self.order, strict=True)):
            maps = conv(maps)
            if norm == "before":
                maps = self.norms[str(number)](maps)
            maps = nn.functional.leaky_relu(maps, self.slope)
            if norm == "after":
                maps = self.norms[str(number)](maps)
        if isinstance(self.last, nn.Linear):
            maps = maps.flatten(1)
        scores: Tensor = self.last(maps)
        return scores.flatten()


@dataclass(frozen=True)
class Found:
    """`state` as `Halving` names it. `last`: the shape of the last weight, (1, C, k, k) or (1, values)."""

    steps: list[Step]
    last: tuple[int, ...]
    last_bias: bool
    state: dict[str, torch.Tensor]


def _order(module: str) -> tuple[int, int, int] | None:
    """Where a module stands in a network of NAMED: stage, number, whether it is a norm; None: in none of them."""
    for pattern, stage, is_norm in NAMED:
        if found := re.fullmatch(pattern, module):
            return stage, int(found[1]) if found.groups() else 0, is_norm
    return None


def _numbered(state: StateDict) -> StateDict:
    """Keys of repositories that name their layers as those of one that numbers them: `main.<i>`."""
    places = {module: _order(module) for module in {key.rpartition(".")[0] for key in state}}
    named = {module: place for module, place in places.items() if place is not None}
    if len(named) < len(places):
        return state
    numbers: dict[str, int] = {}
    number = -2
    for module, (_, _, is_norm) in sorted(named.items(), key=lambda each: each[1]):
        number += 1 if is_norm else 2
        numbers[module] = number
        number += is_norm
    return {
        f"main.{numbers[module]}.{part}": tensor
        for key, tensor in state.items()
        for module, _, part in [key.rpartition(".")]
    }


def read(state: StateDict) -> Found | None:
    """What the tensors say; None if they are no such discriminator."""
    modules: dict[int, dict[str, torch.Tensor]] = {}
    head: dict[str, torch.Tensor] = {}
    prefixes = set()
    for key, tensor in _numbered(state).items():
        found = re.fullmatch(r"(main|main_module|model|conv_blocks)\.(\d+)\.(\w+)", key)
        if found is not None:
            modules.setdefault(int(found[2]), {})[found[3]] = tensor
            prefixes.add(found[1])
        elif key.startswith((f"{HEAD}.", "output.0.")):
            head[key.rpartition(".")[2]] = tensor
        elif not (head or HEAD + ".weight" in state) or not key.startswith(GUESSES):
            return None
    if len(prefixes) != 1 or any("weight" not in parts for parts in modules.values()):
        return None
    if not head:
        if len(modules) < 2:
            return None
        number = max(modules)
        head = modules.pop(number)
        if head["weight"].ndim != 4 or number - max(modules) not in (2, 3):
            return None
    named = _steps(modules)
    if named is None or head.keys() - {"weight", "bias"} or "weight" not in head or head["weight"].shape[0] != 1:
        return None
    steps, tensors = named
    last = {f"last.{part}": tensor for part, tensor in head.items()}
    return Found(steps, tuple(head["weight"].shape), "bias" in head, {**tensors, **last})


def _steps(modules: Mapping[int, Mapping[str, torch.Tensor]]) -> tuple[list[Step], dict[str, torch.Tensor]] | None:
    """The convs with their norms, and the tensors by the names in `Halving`."""
    steps: list[Step] = []
    tensors: dict[str, torch.Tensor] = {}
    before = -1
    for number in sorted(modules):
        parts, gap = modules[number], number - before
        if "running_mean" in parts:
            if not steps or steps[-1].norm or gap not in (1, 2, 3):
                return None
            last = steps[-1]
            steps[-1] = Step(last.before, last.after, last.kernel, last.bias, "before" if gap == 1 else "after")
            tensors |= {f"norms.{len(steps) - 1}.{part}": tensor for part, tensor in parts.items()}
        else:
            weight = parts["weight"]
            # Behind the activation, dropout or not; right behind a BatchNorm that follows the activation.
            gaps = (1,) if not steps or steps[-1].norm == "after" else (2, 3)
            if weight.ndim != 4 or gap not in gaps or parts.keys() - {"weight", "bias"}:
                return None
            if weight.shape[2:] not in ((3, 3), (4, 4)) or (steps and steps[-1].after != weight.shape[1]):
                return None
            tensors |= {f"convs.{len(steps)}.{part}": tensor for part, tensor in parts.items()}
            steps.append(Step(weight.shape[1], weight.shape[0], weight.shape[2], "bias" in parts, ""))
        before = number
    return (steps, tensors) if steps else None


def _side(found: Found) -> int | None:
    """The side of the images: of what comes out of the convs, doubled for each of them; None if there is no such."""
    if len(found.last) == 4:
        _, channels, height, width = found.last
        side = height if height == width else 0
    else:
        channels = found.steps[-1].after
        side = round((found.last[1] / channels) ** 0.5)
        if side * side * channels != found.last[1]:
            return None
    return side * 2 ** len(found.steps) if side and channels == found.steps[-1].after else None


def _matches(state: StateDict) -> bool:
    found = read(state)
    return found is not None and _side(found) is not None


def _build(state: StateDict, judged: Judged, config: Mapping[str, object]) -> Critic:
    found = read(state)
    assert found is not None, "only called where _matches"
    side, is_linear = _side(found) or 0, len(found.last) == 2
    if is_linear and judged.shape[1:] != (side, side):  # 3x3 convs round up: 28 px are 14, 7, 4, 2
        sides = [judged.shape[1]]
        for _ in found.steps:
            sides.append(-(-sides[-1] // 2))
        side = judged.shape[1] if sides[-1] == side // 2 ** len(found.steps) else side
    require_channels(found.steps[0].before, judged)
    require_side(side, judged)
    assumed: dict[str, Scalar] = {}
    slope = layer_fact(config, "slope", SLOPE, assumed)
    eps = EPS
    if any(step.norm for step in found.steps):
        eps = layer_fact(config, "eps", BLOCKS_EPS if is_linear else EPS, assumed)
    last: nn.Module
    if is_linear:
        last = nn.Linear(found.last[1], 1, found.last_bias)
    else:
        last = nn.Conv2d(found.last[1], 1, found.last[2], bias=found.last_bias)
    network = Halving(found.steps, last, slope, eps)
    load(network, found.state)
    return Critic(network, hyperparameters={"widths": _widths(found)}, assumed=assumed)


def _widths(found: Found) -> str:
    return "-".join(str(step.after) for step in found.steps)


LAYOUT = Layout(
    name="convolutional",
    reference="pytorch/examples dcgan; martinarjovsky/WassersteinGAN; eriklindernoren/PyTorch-GAN; ganserve training/",
    matches=_matches,
    build=_build,
)
