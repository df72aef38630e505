"""The loop every recipe shares: epochs of shuffled batches, a progress bar with losses, a state to resume from."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor


class ResumeError(Exception):
    """A state that belongs to another run; the text says what was found and what was asked."""


class Learner(Protocol):
    """The networks, optimisers and averages of one recipe."""

    def step(self, pictures: Tensor, labels: Tensor, random: torch.Generator) -> Mapping[str, float]:
        """Learns from one batch and gives the losses by name; draws only from `random`, a generator on the CPU."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` gave."""


@dataclass(frozen=True)
class Data:
    """What is learned from: pictures (N, C, H, W) uint8, 0..255, and labels (N,) int64."""

    pictures: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Run:
    """How a run goes: the file it can be resumed from, epochs in all, pictures a step, seed of everything drawn."""

    state: Path
    epochs: int
    batch_size: int
    seed: int

    def settings(self) -> dict[str, int]:
        """What a resumed run must share with the one that began."""
        return {"seed": self.seed, "batch_size": self.batch_size}


@dataclass
class History:
    """What a run has done so far: mean losses of each finished epoch, and seconds spent over all its resumptions."""

    losses: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


def learn(
    learner: Learner,
    data: Data,
    run: Run,
    *,
    resume: bool = False,
    after_epoch: Callable[[int], None] = lambda epoch: None,
) -> History:
    """Runs `learner` to the end of the run's last epoch, keeping `run.state` up to date after each.

    Epoch e draws its order and noise from a generator seeded by (seed, e): a resumed run repeats an uninterrupted one.

    Args:
        learner: what learns.
        data: an epoch is one shuffled pass; a last, smaller batch is left out.
        run: how long, in which steps, from which seed.
        resume: go on from `run.state` where it exists.
        after_epoch: called with the number of epochs done.

    Raises:
        ResumeError: `run.state` is of another seed or batch size.
    """
    history = _restore(learner, run) if resume and run.state.exists() else History()
    with _bar() as bar:
        for epoch in range(len(history.losses), run.epochs):
            began = time.monotonic()
            random = torch.Generator().manual_seed(run.seed * 1_000_003 + epoch)
            batches = _batches(data, run.batch_size, random)
            steps = len(data.labels) // run.batch_size
            shown = bar.add_task(f"epoch {epoch + 1}/{run.epochs}", total=steps, losses="")
            history.losses.append(_epoch(learner, batches, random, bar, shown))
            history.seconds += time.monotonic() - began
            if not bar.console.is_terminal:
                bar.console.print(_line(history, run), markup=False, highlight=False, soft_wrap=True)
            _save(learner, run, history)
            after_epoch(epoch + 1)
    return history


def _bar() -> Progress:
    """A bar on a terminal; elsewhere it shows nothing, and a line is written after each epoch."""
    columns = (BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    texts = TextColumn("{task.description}"), TextColumn("{task.fields[losses]}")
    return Progress(texts[0], *columns, texts[1], console=console, disable=not console.is_terminal)


def _line(history: History, run: Run) -> str:
    losses = "  ".join(f"{name} {mean:.3f}" for name, mean in history.losses[-1].items())
    return f"{run.state.stem}: epoch {len(history.losses)}/{run.epochs}  {losses}  {history.seconds:.0f} s in all"


def _batches(data: Data, batch_size: int, random: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    order = torch.randperm(len(data.labels), generator=random)
    batches = len(order) // batch_size
    for rows in order[: batches * batch_size].reshape(batches, batch_size):
        yield data.pictures[rows], data.labels[rows]


def _epoch(
    learner: Learner, batches: Iterator[tuple[Tensor, Tensor]], random: torch.Generator, bar: Progress, shown: Any
) -> dict[str, float]:
    sums: dict[str, float] = {}
    done = 0
    for pictures, labels in batches:
        for name, loss in learner.step(pictures, labels, random).items():
            sums[name] = sums.get(name, 0.0) + loss
        done += 1
        bar.update(shown, advance=1, losses="  ".join(f"{name} {total / done:.3f}" for name, total in sums.items()))
    return {name: total / done for name, total in sums.items()}


def _save(learner: Learner, run: Run, history: History) -> None:
    run.state.parent.mkdir(parents=True, exist_ok=True)
    staging = run.state.with_suffix(".writing")
    torch.save({"settings": run.settings(), "history": asdict(history), "learner": learner.state_dict()}, staging)
    staging.replace(run.state)


def _restore(learner: Learner, run: Run) -> History:
    found = torch.load(run.state, map_location="cpu", weights_only=True)
    if found["settings"] != run.settings():
        raise ResumeError(f"{run.state} is of a run with {found['settings']}; this one asks {run.settings()}")
    learner.load_state_dict(found["learner"])
    return History(found["history"]["losses"], found["history"]["seconds"])
