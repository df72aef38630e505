"""The model card of `faces-srgan`."""

import platform
from pathlib import Path

import torch

from models.zoo.entries import FACES
from training.cards.card import Card, table
from training.data.generated_faces import TRAINED
from training.loop import History
from training.recipes.faces_srgan import (
    BATCH_SIZE,
    BETAS,
    BLOCKS,
    DECAY,
    FEATURES,
    LEARNING_RATES,
    PRETRAINING_EPOCHS,
    PRETRAINING_RATE,
    WEIGHTS,
    Figures,
)

SUMMARY = """\
SRGAN (Ledig et al. 2016, arXiv:1609.04802) that enlarges small faces four times, 16x16 to 64x64: an SRResNet
(`models/families/superres/srresnet.py`, {blocks} blocks of {features} features), in the names of
Lornatang/SRGAN-PyTorch. Trained from scratch with `training/recipes/faces_srgan.py`: first the mean absolute error
alone, then against a discriminator; what is kept is the moving average of the generator's weights."""

SHORT = """\
Both phases are short, a few minutes of one core: the discriminator stays near chance (its loss near log 2 = 0.693), so
what it adds is modest: a little sharpness, no invented texture. The second phase keeps the mean absolute error as its
largest term, so part of the gain over the first phase is that it has been trained for longer."""

CAPTION = """\
Rows: what goes in; bicubic; after the first phase; faces-srgan; the original. Columns are seeds 1000000-1000005 of
`faces`. Nothing was picked by hand."""

MEASURES = """\
On {held_out:,} faces that training never saw, each shrunk to 16x16 with Pillow's bicubic and enlarged again, in levels
0-255. PSNR and SSIM (Gaussian window of 11 px, sigma 1.5) over all three channels, nothing cropped. Sharpness: the root
mean square difference of neighbouring pixels, as a share of the originals'. Patches: the Frechet distance between all
8x8 patches of the enlarged and of the original faces, pixel values 0..1 as features; unlike PSNR it does not reward
blur.

A Frechet distance on a network's features is not given: there is no trained judge of faces here, and the features of
the discriminator, which the generator learned to please, would flatter it."""

CONTENT = """\
SRGAN compares features of a VGG network trained on ImageNet. Its weights are a hub download of half a gigabyte that
this recipe does without; features of the recipe's own discriminator take its place (feature matching). They know edges
and textures of these faces, and nothing of other things."""

LIMITS = """\
It was taught on faces of 64x64 that another small GAN drew, shrunk in one way only (bicubic). It takes pictures of any
size, but has nothing to add to photographs, noise or JPEG artefacts: `realesrgan-x4plus` is for those."""

LICENCE = """\
The weights are this project's own, Apache-2.0. The pictures they were learned from, seeds {first}-{last}, were drawn by
the zoo's `faces` (PyPI `{requirement}`, MIT, Chien Liu), which its author trained on the rendered faces of DigiFace-1M
(Bae et al. 2022, arXiv:2210.02579; Microsoft gives that data set for non-commercial research). No picture of it is part
of this repository; the sheet above shows drawn ones."""

NAMES = {"bicubic": "bicubic (Pillow)", "content": "after the first phase", "srgan": "faces-srgan"}


def write_card(figures: Figures, *, epochs: int, seed: int, device: torch.device, path: Path) -> None:
    """Writes the card of a finished run beside its sheet `faces-srgan.png`."""
    Card(
        title="faces-srgan",
        summary=SUMMARY.format(blocks=BLOCKS, features=FEATURES),
        picture="faces-srgan.png",
        caption=CAPTION.replace("\n", " "),
        facts=_facts(figures, epochs, seed, device),
        sections=(
            ("Likeness", MEASURES.format(held_out=figures.held_out) + "\n\n" + _likeness(figures)),
            ("Perceptual loss", CONTENT),
            ("Losses", SHORT + "\n\n" + _losses(figures)),
            ("What it is not for", LIMITS),
            ("Licence and data", _licence()),
        ),
    ).write(path)


def _facts(figures: Figures, epochs: int, seed: int, device: torch.device) -> list[tuple[str, str]]:
    where = f"{torch.get_num_threads()} CPU threads" if device.type == "cpu" else torch.cuda.get_device_name(device)
    minutes = " and ".join(f"{history.seconds / 60:.0f}" for history in figures.histories)
    rates = f"{LEARNING_RATES[0]:g} generator, {LEARNING_RATES[1]:g} discriminator"
    weights = ", ".join(f"{weight:g} {name}" for name, weight in WEIGHTS.items())
    return [
        ("Command", f"`python -m training faces-srgan --epochs {epochs} --seed {seed}`"),
        ("Pictures in and out", "RGB, any size; four times larger out"),
        ("Learned from", f"{figures.trained:,} faces, mirrored at random; held out: {figures.held_out:,}"),
        ("Parameters", f"{figures.parameters:,} float32"),
        ("First phase", f"{_epochs(PRETRAINING_EPOCHS)}, Adam {PRETRAINING_RATE:g}"),
        ("Second phase", f"{_epochs(epochs)}, Adam {rates}, betas {BETAS[0]} and {BETAS[1]}, batch {BATCH_SIZE}"),
        ("Loss", f"{weights} (relativistic average)"),
        ("Moving average", f"{DECAY}"),
        ("Training time", f"{minutes} minutes; {where}"),
        ("Made with", f"torch {torch.__version__}, Python {platform.python_version()}"),
    ]


def _epochs(count: int) -> str:
    return f"{count} epoch{'' if count == 1 else 's'}"


def _likeness(figures: Figures) -> str:
    rows = [
        [NAMES[name], f"{row.psnr_db:.2f} dB", f"{row.ssim:.3f}", f"{row.sharpness:.2f}", f"{row.patches:.3f}"]
        for name, row in figures.likeness.items()
    ]
    return table(("", "PSNR", "SSIM", "sharpness", "patches"), rows)


def _losses(figures: Figures) -> str:
    first, second = (_rows(history) for history in figures.histories)
    return f"Means over each epoch. First phase:\n\n{first}\n\nSecond phase:\n\n{second}"


def _rows(history: History) -> str:
    names = list(history.losses[0])
    rows = [[str(epoch), *(f"{losses[name]:.4f}" for name in names)] for epoch, losses in enumerate(history.losses, 1)]
    return table(("epoch", *names), rows)


def _licence() -> str:
    return LICENCE.format(first=TRAINED.start, last=TRAINED.stop - 1, requirement=FACES.requirement)
