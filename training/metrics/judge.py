"""The judge: a small classifier of digits, never shown to the generator, that says whether a label was obeyed."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.average import average_into
from training.loop import Data

CLASSES = 10
LEARNING_RATE = 2e-3
DECAY = 0.999


def to_signed(pictures: Tensor) -> Tensor:
    """uint8 0..255 -> float32 -1..1, the range that generators draw in."""
    return pictures.float() / 127.5 - 1


class Judge(nn.Module):
    """Four convolutions and one linear layer: (N, 1, 28, 28) float32, -1..1 -> (N, 10) logits."""

    def __init__(self) -> None:
        super().__init__()
        widths = ((1, 16, 1), (16, 32, 2), (32, 64, 2), (64, 64, 1))
        self.main = nn.Sequential(*(_block(*width) for width in widths), nn.Flatten())
        self.head = nn.Linear(widths[-1][1] * 7 * 7, CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self.head(self.main(pictures))
        return logits


class JudgeLearner:
    """Learns `average` by cross-entropy and Adam; `average` is what is used afterwards."""

    def __init__(self, device: torch.device) -> None:
        self.judge = Judge().to(device)
        self.average = copy.deepcopy(self.judge).eval()
        self.optimizer = torch.optim.Adam(self.judge.parameters(), lr=LEARNING_RATE)
        self.steps = 0
        self.device = device

    def step(self, pictures: Tensor, labels: Tensor, random: torch.Generator) -> Mapping[str, float]:
        """One batch of uint8 pictures and their labels; nothing is drawn from `random`."""
        logits = self.judge(to_signed(pictures.to(self.device)))
        loss = functional.cross_entropy(logits, labels.to(self.device))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        average_into(self.average, self.judge, self.steps, DECAY)
        self.steps += 1
        return {"judge": loss.item()}

    def state_dict(self) -> dict[str, Any]:
        """Both networks, the optimiser and the count of steps."""
        networks = {"judge": self.judge.state_dict(), "average": self.average.state_dict()}
        return {**networks, "optimizer": self.optimizer.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        self.judge.load_state_dict(state["judge"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]


@torch.no_grad()
def agreement(judge: Judge, pictures: Tensor, labels: Tensor) -> float:
    """The share of pictures, (N, 1, 28, 28) float32, -1..1, whose label (N,) int64 is the judge's first choice."""
    logits = torch.cat([judge(rows) for rows in pictures.chunk(-(-len(pictures) // 500))])
    return (logits.argmax(1) == labels).float().mean().item()


def accuracy(judge: Judge, data: Data, device: torch.device) -> float:
    """The share of `data` that the judge names rightly."""
    return agreement(judge, to_signed(data.pictures.to(device)), data.labels.to(device))


def _block(inner: int, outer: int, stride: int) -> nn.Module:
    convolution = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outer), nn.ReLU())
