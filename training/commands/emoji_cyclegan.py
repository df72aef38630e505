"""`python -m training emoji-cyclegan`."""

from pathlib import Path
from typing import Annotated

import typer

from training import emoji
from training import emoji_cyclegan as recipe
from training.emoji_cyclegan_card import write_cards
from training.options import Device, Out, Place, Resume, Seed, place, refusals, say


def emoji_cyclegan(
    epochs: Annotated[int, typer.Option(min=1, help="Passes over nine tenths of Google's emoji.")] = 8,
    seed: Seed = 0,
    out: Out = Path("out/emoji-cyclegan"),
    resume: Resume = False,
    data: Annotated[Path | None, typer.Option(help="Folder of both hands' folders; default: fetched with npm.")] = None,
    device: Place = Device.CPU,
) -> None:
    """A CycleGAN between Google's and Twitter's emoji: the zoo's `emoji-cyclegan` and `emoji-cyclegan-reverse`."""
    where = place(device)
    with refusals():
        google, twitter = (hand.pictures for hand in emoji.pairs(recipe.SIZE_PX, folder=data))
        networks, history = recipe.train(
            google, twitter, epochs=epochs, seed=seed, out=out, resume=resume, device=where
        )
    command = f"python -m training emoji-cyclegan --epochs {epochs} --seed {seed}"
    found = write_cards(networks, history, (google, twitter), command=command, device=where, out=out)
    for name, figures in found.items():
        rows = "; ".join(f"{what}: L1 {row.l1:.1f}" for what, row in figures.rows.items())
        say(f"{name}: {rows}; round trip {figures.round_trip:.1f}; see {out}")
