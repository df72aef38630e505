"""`python -m training emoji-stylegan2`."""

from pathlib import Path
from typing import Annotated

import typer

from training import emoji
from training import emoji_stylegan2 as recipe
from training.emoji_stylegan2_card import measure, write_card
from training.options import Device, EmojiFolder, Out, Place, Resume, Seed, place, refusals, say


def emoji_stylegan2(
    epochs: Annotated[int, typer.Option(min=1, help="Passes over 25 times the 130 faces.")] = 48,
    seed: Seed = 0,
    out: Out = Path("out/emoji-stylegan2"),
    resume: Resume = False,
    data: EmojiFolder = None,
    device: Place = Device.CPU,
) -> None:
    """A StyleGAN2 on the faces among Google's emoji: the zoo's `emoji-stylegan2`."""
    where = place(device)
    with refusals():
        google = emoji.load(emoji.GOOGLE, recipe.SIZE_PX, folder=data and data / emoji.GOOGLE.name)
        faces = recipe.faces(google)
        network, history = recipe.train(faces.data, epochs=epochs, seed=seed, out=out, resume=resume, device=where)
    figures = measure(network, google)
    command = f"python -m training emoji-stylegan2 --epochs {epochs} --seed {seed}"
    path = out / "emoji-stylegan2.md"
    write_card(figures, network, history, count=len(faces.codes), command=command, device=where, path=path)
    found = "; ".join(f"{name}: Frechet distance {row.frechet:.2f}" for name, row in figures.items())
    say(f"{found}; see {out}")
