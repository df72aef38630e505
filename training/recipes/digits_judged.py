"""How generators of digits without labels end: weights, a grid, and the figures of their cards."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from training.generate import draw, latents
from training.grid import save_grid
from training.loop import Data, History, Learner, Run, learn
from training.metrics import frechet
from training.metrics.diversity import mean_pairwise_distance
from training.metrics.judge import CLASSES, to_signed
from training.metrics.judges import digit_features, digit_labels

GRID = range(80)
COMPARED = 1000  # pictures whose distances to each other are measured
JUDGED = 10_000  # pictures behind a Frechet distance
MARGIN_PX = 2  # of paper around the 28 px digits in generators of 32 px


@dataclass(frozen=True)
class Figures:
    """What the card says.

    `distance_drawn`, `distance_data`: mean L2 distance of two pictures (784 pixels, -1..1). `frechet_drawn`,
    `frechet_data`: of what was drawn, and of as many training digits, to the test digits. `shares`: of each digit among
    what was drawn, as the judge names it. `judged`: how many pictures were drawn for that.
    """

    history: History
    parameters: int
    distance_drawn: float
    distance_data: float
    frechet_drawn: float
    frechet_data: float
    shares: list[float]
    judged: int


def without_margin(pictures: Tensor) -> Tensor:
    """Digits (N, 1, 28, 28), whether drawn at 28 or at 32 px."""
    margin = (pictures.shape[-1] - 28) // 2
    return pictures[..., margin : margin + 28, margin : margin + 28]


def sheet(generator: nn.Module, latent: int, path: Path) -> None:
    """Writes the grid of seeds 0-79 as a PNG."""
    device = next(generator.parameters()).device
    save_grid(without_margin(draw(generator, latents(GRID, latent).to(device))), 10, path, scale=2)


class AveragingLearner(Learner, Protocol):
    """A learner that keeps a running average."""

    @property
    def average(self) -> nn.Module:
        """The generator that is kept."""


def learn_digits(
    learner: AveragingLearner,
    latent: int,
    run: Run,
    data: Data,
    test: Data,
    *,
    resume: bool,
    judged: int = JUDGED,
    dtype: torch.dtype = torch.float32,
) -> Figures:
    """Runs to the end: a grid after each epoch, then weights, grid and figures of the average, beside `run.state`.

    Raises:
        ResumeError: the folder holds the state of a run with another seed.
    """

    def after_epoch(epoch: int) -> None:
        sheet(learner.average, latent, run.state.with_name(f"epoch-{epoch:02d}.png"))

    history = learn(learner, data, run, resume=resume, after_epoch=after_epoch)
    return _finish(learner.average, latent, run.state.with_suffix(".safetensors"), data, test, history, judged, dtype)


def _finish(
    generator: nn.Module,
    latent: int,
    weights: Path,
    data: Data,
    test: Data,
    history: History,
    judged: int,
    dtype: torch.dtype,
) -> Figures:
    """Writes the weights as safetensors and the grid beside them; the figures are of the weights as written."""
    rounded = {
        key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in _state(generator).items()
    }
    save_file(rounded, weights)
    generator.load_state_dict(rounded)
    sheet(generator, latent, weights.with_suffix(".png"))
    device = next(generator.parameters()).device
    drawn = without_margin(draw(generator, latents(range(judged), latent).to(device))).cpu()
    return measure(drawn, data, test, history, sum(tensor.numel() for tensor in generator.parameters()))


def measure(drawn: Tensor, data: Data, test: Data, history: History, parameters: int) -> Figures:
    """The card's figures for digits (N, 1, 28, 28) float32, -1..1, as seeds 0..N-1 drew them."""
    judged = len(drawn)
    real = digit_features(to_signed(test.pictures[:judged]))
    labels = digit_labels(drawn)
    return Figures(
        history=history,
        parameters=parameters,
        distance_drawn=mean_pairwise_distance(drawn[:COMPARED]),
        distance_data=mean_pairwise_distance(to_signed(data.pictures[:COMPARED])),
        frechet_drawn=frechet.between(digit_features(drawn), real),
        frechet_data=frechet.between(digit_features(to_signed(data.pictures[:judged])), real),
        shares=[(labels == digit).float().mean().item() for digit in range(CLASSES)],
        judged=judged,
    )


def _state(generator: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.detach().cpu().contiguous() for key, tensor in generator.state_dict().items()}
