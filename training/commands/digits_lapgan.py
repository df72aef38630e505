"""`python -m training digits-lapgan`."""

from pathlib import Path
from typing import Annotated

import typer

from training import digits_lapgan as recipe
from training import mnist
from training.digits_lapgan_card import frechet_of_digits, write_lapgan_card
from training.options import Device, Mnist, Out, Place, Resume, Seed, place, refusals, say


def digits_lapgan(
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the 60,000 digits.")] = 3,
    seed: Seed = 0,
    out: Out = Path("out/digits-lapgan"),
    resume: Resume = False,
    data: Mnist = None,
    device: Place = Device.CPU,
) -> None:
    """A Laplacian pyramid of GANs on MNIST: the zoo's `digits-lapgan`."""
    where = place(device)
    with refusals():
        train, test = mnist.load(data or mnist.fetch())
        figures = recipe.train(train, test, epochs=epochs, seed=seed, out=out, resume=resume, device=where)
        beside = frechet_of_digits(test)
    write_lapgan_card(figures, beside, epochs=epochs, seed=seed, device=where, path=out / "digits-lapgan.md")
    found = f"{figures.frechet_drawn:.2f}, of digits {beside:.2f}, of training data {figures.frechet_data:.2f}"
    say(f"Frechet distance {found}; see {out}")
