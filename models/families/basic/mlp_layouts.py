"""Multilayer-perceptron generators as repositories save them: which file is whose, and what no tensor says of them.

| keys | repository | activation | output |
|---|---|---|---|
| `model.0`, `model.2/3`, ... BatchNorm on all hidden layers but the first | eriklindernoren/PyTorch-GAN gan, wgan, wgan_gp, wgan_div, softmax_gan, bgan, cgan; aae's decoder | leaky 0.2 | tanh |
| `model.<2i>` without BatchNorm, with `label_emb` | arturml/mnist-cgan | leaky 0.2 | tanh |
| `0`, `2`, `4`, equal hidden widths | yunjey/pytorch-tutorial | ReLU | tanh |
| `main.0`, `main.2`, `main.4`, `main.6`, equal hidden widths | martinarjovsky/WassersteinGAN MLP_G | ReLU | none |
| `gen.0`, `gen.2` | aladdinpersson/Machine-Learning-Collection SimpleGAN | leaky 0.01 | tanh |
| `fc1` ... `fc4` | znxlwm/pytorch-MNIST-CelebA-GAN-DCGAN | leaky 0.2 | tanh |
| `fc1_1`, `fc1_2`, `fc2` ... `fc4` with `_bn` | znxlwm/pytorch-MNIST-CelebA-cGAN-cDCGAN | ReLU | tanh |
"""  # noqa: E501

import re
from dataclasses import dataclass

import torch

from models.architecture import StateDict

_KEY = re.compile(r"((?:[A-Za-z_]\w*\.)?)(\d+)\.(weight|bias|running_mean|running_var|num_batches_tracked)")
_NUMBERED = re.compile(r"fc(\d+)\.(weight|bias)")
_DEFAULT_EPS = 1e-5


@dataclass(frozen=True)
class Stack:
    """Linear layers and the norms behind them, by the keys' common beginning; `norms` has one entry per hidden layer.

    `positions` are the linear layers' numbers in the file.
    """

    prefix: str
    positions: tuple[int, ...]
    widths: tuple[int, ...]
    norms: tuple[bool, ...]

    def renamed(self, state: StateDict) -> dict[str, torch.Tensor]:
        """The stack's tensors under the keys of `models.families.basic.perceptron.MlpGenerator`."""
        renamed: dict[str, torch.Tensor] = {}
        place = 0
        for position, norm in zip(self.positions, (*self.norms, False), strict=True):
            moves = {position: place, position + 1: place + 1} if norm else {position: place}
            for key, tensor in state.items():
                found = _KEY.fullmatch(key)
                if found and found[1] == self.prefix and int(found[2]) in moves:
                    renamed[f"model.{moves[int(found[2])]}.{found[3]}"] = tensor
            place += 3 if norm else 2
        return renamed


@dataclass(frozen=True)
class RepositoryDefaults:
    """What a repository's code says and its files do not; `slope` None: unknown."""

    repository: str
    slope: float | None
    output: str
    eps: float = _DEFAULT_EPS
    label_first: bool = True


PYTORCH_GAN = RepositoryDefaults("eriklindernoren/PyTorch-GAN", 0.2, "tanh", eps=0.8)
PYTORCH_GAN_AAE = RepositoryDefaults("eriklindernoren/PyTorch-GAN aae", 0.2, "tanh")
ARTURML = RepositoryDefaults("arturml/mnist-cgan", 0.2, "tanh", label_first=False)
YUNJEY = RepositoryDefaults("yunjey/pytorch-tutorial", 0.0, "tanh")
WASSERSTEIN = RepositoryDefaults("martinarjovsky/WassersteinGAN", 0.0, "none")
ALADDIN = RepositoryDefaults("aladdinpersson SimpleGAN", 0.01, "tanh")
ZNXLWM = RepositoryDefaults("znxlwm/pytorch-MNIST-CelebA-GAN-DCGAN", 0.2, "tanh")
ZNXLWM_CGAN = RepositoryDefaults("znxlwm/pytorch-MNIST-CelebA-cGAN-cDCGAN", 0.0, "tanh")
UNKNOWN = RepositoryDefaults("unknown", None, "auto")


def numbered(state: StateDict) -> StateDict:
    """znxlwm's `fc<k>` as a sequence `fc.<2(k-1)>`, its activations being functions without a number; others as is."""
    if not state or not all(_NUMBERED.fullmatch(key) for key in state):
        return state
    return {_NUMBERED.sub(lambda m: f"fc.{2 * int(m[1]) - 2}.{m[2]}", key): tensor for key, tensor in state.items()}


def read_stack(state: StateDict) -> Stack | None:
    """The stack that all of `state` is; None if it is none, or has anything else in it."""
    found = [_KEY.fullmatch(key) for key in state]
    if not found or not all(found) or len({match[1] for match in found if match}) > 1:
        return None
    prefix = next(match[1] for match in found if match)
    numbers = sorted({int(match[2]) for match in found if match})
    norms = [number for number in numbers if f"{prefix}{number}.running_mean" in state]
    positions = [number for number in numbers if number not in norms]
    followed = [position + 1 in norms for position in positions]
    expected = [positions[0]] if positions else []
    for norm in followed[:-1]:
        expected.append(expected[-1] + (3 if norm else 2))
    if len(positions) < 2 or positions != expected or sum(followed) != len(norms) or followed[-1]:
        return None
    return _chained(state, prefix, positions, followed)


def _chained(state: StateDict, prefix: str, positions: list[int], followed: list[bool]) -> Stack | None:
    weights = [state.get(f"{prefix}{position}.weight") for position in positions]
    if any(weight is None or weight.ndim != 2 for weight in weights):
        return None
    sizes = [tuple(weight.shape) for weight in weights if weight is not None]
    widths = (sizes[0][1], *(size[0] for size in sizes))
    biases = [state.get(f"{prefix}{position}.bias") for position in positions]
    if any(bias is None or tuple(bias.shape) != (width,) for bias, width in zip(biases, widths[1:], strict=True)):
        return None
    if any(size[1] != before for size, before in zip(sizes, widths, strict=False)):
        return None
    return Stack(prefix, tuple(positions), widths, tuple(followed[:-1]))


def recognise(stack: Stack, labelled: bool) -> RepositoryDefaults:
    """Whose stack it is; UNKNOWN where several repositories could have saved it."""
    hidden = stack.widths[1:-1]
    equal = len(set(hidden)) == 1
    plain = not any(stack.norms)
    if stack.prefix == "model." and len(hidden) >= 2 and stack.norms == (False, *(True,) * (len(hidden) - 1)):
        return PYTORCH_GAN_AAE if len(hidden) == 2 and equal and not labelled else PYTORCH_GAN
    if stack.prefix == "model." and plain and labelled:
        return ARTURML
    if labelled or not plain:
        return UNKNOWN
    by_shape = {("", 2, True): YUNJEY, ("main.", 3, True): WASSERSTEIN, ("gen.", 1, True): ALADDIN}
    known = by_shape.get((stack.prefix, len(hidden), equal))
    return known or (ZNXLWM if (stack.prefix, len(hidden)) == ("fc.", 3) else UNKNOWN)
