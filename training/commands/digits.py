"""`python -m training digits`."""

from pathlib import Path
from typing import Annotated

import typer

from training import digits as recipe
from training import mnist
from training.digits_card import write_card
from training.options import Device, Mnist, Out, Place, Resume, Seed, place, refusals, say


def digits(
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the 60,000 digits.")] = 5,
    seed: Seed = 0,
    out: Out = Path("out/digits"),
    resume: Resume = False,
    data: Mnist = None,
    device: Place = Device.CPU,
) -> None:
    """A conditional DCGAN on MNIST: the zoo's `digits`."""
    where = place(device)
    with refusals():
        train, test = mnist.load(data or mnist.fetch())
        figures = recipe.train(train, test, epochs=epochs, seed=seed, out=out, resume=resume, device=where)
    write_card(figures, epochs=epochs, seed=seed, device=where, path=out / "digits.md")
    say(f"label agreement {figures.label_agreement:.1%}, judge {figures.judge_accuracy:.2%}; see {out}")
