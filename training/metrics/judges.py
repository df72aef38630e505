"""The committed judges as eyes: pictures -> features, for Frechet distances."""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from training.generate import draw
from training.metrics.judge import Judge
from training.networks.emoji_trunk import EmojiTrunk

WEIGHTS = Path(__file__).parent / "weights"


class DigitFeatures(nn.Module):
    """What the digits' judge sees before it decides, in quarters of the picture: (N, 1, 28, 28), -1..1 -> (N, 256)."""

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.convolutions = judge.main[:-1]

    def forward(self, pictures: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(self.convolutions(pictures), 2).flatten(1)


def digit_features(pictures: Tensor) -> Tensor:
    """(N, 256) features of digits (N, 1, 28, 28) float32, -1..1; 32 px digits go in without their margin."""
    judge = Judge()
    judge.load_state_dict(load_file(WEIGHTS / "digits_judge.safetensors"))
    return draw(DigitFeatures(judge.eval()), pictures.cpu())


def emoji_features(pictures: Tensor) -> Tensor:
    """(N, 128) features of emoji (N, 3, S, S) float32, -1..1; other sizes than 32 px are resized by area."""
    trunk = EmojiTrunk()
    trunk.load_state_dict(load_file(WEIGHTS / "emoji_judge.safetensors"))
    small = functional.interpolate(pictures.float().cpu(), (32, 32), mode="area")
    return draw(trunk.eval(), small)


def digit_labels(pictures: Tensor) -> Tensor:
    """(N,) int64: the judge's first choice for digits (N, 1, 28, 28) float32, -1..1."""
    judge = Judge()
    judge.load_state_dict(load_file(WEIGHTS / "digits_judge.safetensors"))
    return draw(judge.eval(), pictures.cpu()).argmax(1)


def label_agreement(pictures: Tensor, labels: Tensor) -> float:
    """The share of digits (N, 1, 28, 28) float32, -1..1, whose label (N,) int64 is the judge's first choice."""
    return (digit_labels(pictures) == labels.cpu()).float().mean().item()
