"""`python -m training digits-wgan-gp`."""

from pathlib import Path
from typing import Annotated

import typer

from training import digits_wgan_gp as recipe
from training import mnist
from training.digits_judged_card import write_wgan_gp_card
from training.options import Device, Mnist, Out, Place, Resume, Seed, place, refusals, say


def digits_wgan_gp(
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the 60,000 digits.")] = 5,
    seed: Seed = 0,
    out: Out = Path("out/digits-wgan-gp"),
    resume: Resume = False,
    data: Mnist = None,
    device: Place = Device.CPU,
) -> None:
    """A DCGAN learned as a WGAN-GP on MNIST: the zoo's `digits-wgan-gp`."""
    where = place(device)
    with refusals():
        train, test = mnist.load(data or mnist.fetch())
        figures = recipe.train(train, test, epochs=epochs, seed=seed, out=out, resume=resume, device=where)
    write_wgan_gp_card(figures, epochs=epochs, seed=seed, device=where, path=out / "digits-wgan-gp.md")
    say(f"Frechet distance {figures.frechet_drawn:.2f}, training data {figures.frechet_data:.2f}; see {out}")
