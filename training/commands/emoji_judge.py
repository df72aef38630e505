"""`python -m training emoji-judge`."""

from pathlib import Path
from typing import Annotated

import typer

from training import emoji, emoji_judge
from training.options import Device, EmojiFolder, Out, Place, Resume, Seed, place, refusals, say


def judge_emoji(
    epochs: Annotated[int, typer.Option(min=1, help="Passes over 1,636 emoji of two hands.")] = 50,
    seed: Seed = 0,
    out: Out = Path("out/emoji_judge"),
    resume: Resume = False,
    data: EmojiFolder = None,
    device: Place = Device.CPU,
) -> None:
    """The judge of emoji, whose features Frechet distances are taken of; no generator."""
    where = place(device)
    with refusals():
        hands = emoji.pairs(32, folder=data)
        history, (things, drawers) = emoji_judge.train(
            hands, epochs=epochs, seed=seed, out=out, resume=resume, device=where
        )
    say(
        f"on changed pictures: code points {things:.1%}, hands {drawers:.1%}; {history.seconds / 60:.1f} minutes; {out}"
    )
