"""`python -m training emoji-pix2pix`."""

from pathlib import Path
from typing import Annotated

import typer

from training import emoji
from training import emoji_pix2pix as recipe
from training.emoji_pix2pix_card import write_card
from training.options import Device, Out, Place, Resume, Seed, place, refusals, say


def emoji_pix2pix(
    epochs: Annotated[int, typer.Option(min=1, help="Passes over nine tenths of Google's emoji.")] = 20,
    seed: Seed = 0,
    out: Out = Path("out/emoji-pix2pix"),
    resume: Resume = False,
    data: Annotated[Path | None, typer.Option(help="Folder of Google's emoji; default: fetched with npm.")] = None,
    device: Place = Device.CPU,
) -> None:
    """A pix2pix U-Net that colours outlines of emoji: the zoo's `emoji-pix2pix`."""
    where = place(device)
    with refusals():
        pictures = emoji.load(emoji.GOOGLE, recipe.SIZE_PX, folder=data).pictures
        network, history = recipe.train(pictures, epochs=epochs, seed=seed, out=out, resume=resume, device=where)
    command = f"python -m training emoji-pix2pix --epochs {epochs} --seed {seed}"
    figures = write_card(network, history, pictures, command=command, device=where, path=out / "emoji-pix2pix.md")
    say("; ".join(f"{name}: L1 {row.l1:.1f}" for name, row in figures.items()) + f"; see {out}")
