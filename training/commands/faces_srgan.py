"""`python -m training faces-srgan`."""

from pathlib import Path
from typing import Annotated

import typer

from training import drawn_faces
from training import faces_srgan as recipe
from training.faces_srgan_card import write_card
from training.options import Device, Out, Place, Resume, Seed, place, refusals, say


def faces_srgan(
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the 4,000 faces in the second phase.")] = 3,
    seed: Seed = 0,
    out: Out = Path("out/faces-srgan"),
    resume: Resume = False,
    data: Annotated[Path | None, typer.Option(help="Folder of fetched weights; default: the zoo's cache.")] = None,
    device: Place = Device.CPU,
) -> None:
    """An SRGAN, x4, on faces that the zoo's `faces` draws: the zoo's `faces-srgan`."""
    where = place(device)
    with refusals():
        pairs, held_out = (drawn_faces.load(seeds, data, say) for seeds in (drawn_faces.TRAINED, drawn_faces.HELD_OUT))
        figures = recipe.train(pairs, held_out, epochs=epochs, seed=seed, out=out, resume=resume, device=where)
    write_card(figures, epochs=epochs, seed=seed, device=where, path=out / "faces-srgan.md")
    rows = (f"{name}: {row.psnr_db:.2f} dB" for name, row in figures.likeness.items())
    say(f"{'; '.join(rows)}; see {out}")
