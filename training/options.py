"""What every recipe's command shares: options, where to train, and how a refusal is said."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import torch
import typer
from rich.console import Console

from training.data.packages import DataError
from training.loop import ResumeError

console = Console(stderr=True)


class Device(StrEnum):
    """Where a recipe trains."""

    CPU = "cpu"
    CUDA = "cuda"


Seed = Annotated[int, typer.Option(min=0, help="Of weights, order and noise.")]
Out = Annotated[Path, typer.Option(help="Folder of everything that is written.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last finished epoch in --out.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start over where --out holds a run already.")]
Place = Annotated[Device, typer.Option(help="Where to train.")]


def place(device: Device) -> torch.device:
    """The device; ends the command where there is none."""
    if device is Device.CUDA and not torch.cuda.is_available():
        _refuse("--device cuda: torch finds no CUDA device here")
    return torch.device(device.value)


def require_free(out: Path, resume: bool, overwrite: bool) -> None:
    """Ends the command where a run would be lost, or where it is not clear what is meant."""
    if resume and overwrite:
        _refuse("--resume --overwrite: give one of them")
    states = sorted(path.name for path in out.glob("*.pt")) if out.is_dir() else []
    if states and not (resume or overwrite):
        _refuse(f"--out {out} holds a run ({', '.join(states[:4])}): --resume goes on with it, --overwrite starts over")


@contextmanager
def refusals() -> Iterator[None]:
    """Data that cannot be had and runs that cannot be resumed end the command with one line and exit code 2."""
    try:
        yield
    except (DataError, ResumeError) as error:
        _refuse(str(error))


def say(text: str) -> None:
    """Writes a line of result to standard error, beside the progress bar."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _refuse(reason: str) -> NoReturn:
    console.print(reason, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2)
