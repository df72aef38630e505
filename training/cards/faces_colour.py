"""The model card of `faces-colour`."""

from pathlib import Path

import torch

from training.cards.card import Card, table
from training.cards.translation import CHANGED, learning, losses_table, made_with
from training.data import generated_faces
from training.recipes import faces_colour as recipe
from training.recipes.faces_colour import Figures

SUMMARY = """\
A pix2pix U-Net from lightness to colour (`models/families/translation/unet.py`, in the layout of
junyanz/pytorch-CycleGAN-and-pix2pix's `--model colorization`) that colours grey pictures of faces. Trained from scratch
with `training/recipes/faces_colour.py` on faces that the zoo's `faces` generates: PatchGAN on lightness and colour, and
{weight:g} times L1; what is kept is the moving average of the generator's weights, in half precision. Colours are found
at {size}x{size} and put under the lightness of the picture as it is, so that any size stays sharp."""

CAPTION = """\
Faces that training never saw (seeds {first}-{last}): grey, as coloured, as generated. Nothing was picked by hand."""

MEASURES = """\
On {count} generated faces that training never saw (seeds {first}-{last}), against the true colours:

- PSNR of a and b of CIE L*a*b*, for a peak of 220: how near the colours are. Grey lightness has several right
  colourings (a shirt, a wall), so no network comes near the true ones everywhere;
- colourfulness (Hasler and Suesstrunk 2003, M3): 0 for grey pictures. A network that only learns L1 is paler than the
  truth.

{rows}"""

LIMITS = """\
It has seen nothing but the face crops of `faces`, 64x64: it gives skin, hair, clothes and blurred backgrounds the
colours that those have, and will do so to pictures of anything else. What it invents is likely, not true: it says
nothing about the colours that a person in an old photograph had."""

LICENCE = """\
The weights are this project's own, Apache-2.0. They were learned from faces that the generator of the PyPI package
`gan_face_generate` 1.1.1 (MIT, Chien Liu) draws, which was trained on the rendered faces of DigiFace1M: no photograph
of a person was used, and no picture of the data set is part of this repository. The sheet shows drawn faces only."""


def write_card(figures: Figures, *, epochs: int, seed: int, device: torch.device, path: Path) -> None:
    """Writes the card of a finished run beside its sheet `faces-colour.png`."""
    first = generated_faces.HELD_OUT[0]
    widths = ", ".join(map(str, recipe.WIDTHS))
    Card(
        title="faces-colour",
        summary=SUMMARY.format(weight=recipe.PLAN.l1_weight, size=recipe.SIZE_PX),
        picture="faces-colour.png",
        caption=CAPTION.format(first=first, last=first + len(recipe.SHOWN) - 1),
        facts=[
            ("Command", f"`python -m training faces-colour --epochs {epochs} --seed {seed}`"),
            ("Export", f"`--set size={recipe.SIZE_PX}`, which the zoo's entry has"),
            ("Pictures in and out", "RGB or grey, of any size; colours found at 64x64"),
            ("Learned from", f"{figures.learned:,} faces, {CHANGED}"),
            ("Parameters", f"{figures.parameters:,}, float16; levels of {widths} maps"),
            *learning(recipe.PLAN, recipe.BATCH_SIZE),
            *made_with(figures.history, device),
        ],
        sections=(
            ("Against the true colours", _measures(figures, first)),
            ("What it does not know", LIMITS),
            ("Losses", losses_table(figures.history)),
            ("Licence and data", LICENCE),
        ),
    ).write(path)


def _measures(figures: Figures, first: int) -> str:
    rows = [
        [name, "" if name == "the true pictures" else f"{row.psnr_db:.2f} dB", f"{row.colourfulness:.1f}"]
        for name, row in figures.rows.items()
    ]
    return MEASURES.format(
        count=figures.held_out,
        first=first,
        last=first + figures.held_out - 1,
        rows=table(("", "PSNR of a, b", "colourfulness"), rows),
    )
