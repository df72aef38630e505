"""`python -m training digits-gan`."""

from pathlib import Path
from typing import Annotated

import typer

from training import digits_gan as recipe
from training import mnist
from training.digits_judged_card import write_gan_card
from training.options import Device, Mnist, Out, Place, Resume, Seed, place, refusals, say


def digits_gan(
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the 60,000 digits.")] = 22,
    seed: Seed = 0,
    out: Out = Path("out/digits-gan"),
    resume: Resume = False,
    data: Mnist = None,
    device: Place = Device.CPU,
) -> None:
    """The original GAN, perceptrons, on MNIST: the zoo's `digits-gan`."""
    where = place(device)
    with refusals():
        train, test = mnist.load(data or mnist.fetch())
        figures = recipe.train(train, test, epochs=epochs, seed=seed, out=out, resume=resume, device=where)
    write_gan_card(figures, epochs=epochs, seed=seed, device=where, path=out / "digits-gan.md")
    say(f"Frechet distance {figures.frechet_drawn:.2f}, training data {figures.frechet_data:.2f}; see {out}")
