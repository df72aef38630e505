"""The model cards of `digits-gan` and `digits-wgan-gp`."""

import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from training.cards.card import Card, table
from training.cards.digits import licence
from training.recipes import digits_gan as gan
from training.recipes import digits_wgan_gp as wgan_gp
from training.recipes.digits_judged import COMPARED, Figures

CAPTION = (
    "Seeds 0-79, row by row: seed s is `numpy.random.RandomState(s).randn(1, {latent})`. Nothing was picked by hand."
)

GAN = """\
The original GAN's players: a multilayer perceptron that draws handwritten digits, 28x28, grey, from a latent, in the
layout of PyTorch-GAN's `gan`. Trained from scratch with `training/recipes/digits_gan.py` against another perceptron,
with R3GAN's loss: relativistic pairs, R1 and R2. What is kept is the moving average of the generator's weights, as
float16. A perceptron knows nothing of neighbouring pixels, hence speckles: compare `digits-wgan-gp`."""

WGAN_GP = """\
A DCGAN that draws handwritten digits, grey, 32x32 with a margin of two pixels, from a latent, in the layout of
pytorch/examples. Trained from scratch with `training/recipes/digits_wgan_gp.py` as a Wasserstein GAN with gradient
penalty: five critic steps to one of the generator, a critic without batch normalisation; what is kept is the moving
average of the generator's weights."""

DIVERSITY = """\
Mean L2 distance between two pictures (784 pixels, -1..1): {drawn:.2f} among those of seeds 0-{last}, {data:.2f} among
the first {count:,} training digits, a ratio of {ratio:.2f}. A generator that has collapsed scores far below its data.

What the digits' judge (`training/metrics/weights/digits_judge.safetensors`) takes {judged:,} pictures for, in percent;
MNIST has 9.0 to 11.2 of each:

{shares}"""

FRECHET = """\
Between {judged:,} pictures (seeds 0-{last}) and the {judged:,} test digits, on the 256 features of the digits' judge
(`training/metrics/judges.py`): {drawn:.2f}. Of {judged:,} training digits it is {data:.2f}, which is as good as can
be. The figure compares with no other judge's."""


def write_gan_card(figures: Figures, *, epochs: int, seed: int, device: torch.device, path: Path) -> None:
    """Writes the card of a finished run of `digits-gan` beside its grid."""
    facts = [
        ("Latent", f"{gan.LATENT}"),
        ("Generator", f"{figures.parameters:,} float16, hidden layers of {_list(gan.HIDDEN)}"),
        ("Discriminator", f"hidden layers of {_list(gan.DISCRIMINATOR)}"),
        ("R1, R2 penalties", f"gamma {gan.PENALTY:g}, every {gan.PENALTY_EVERY}th step"),
        ("Optimiser", f"Adam, {gan.LEARNING_RATE:g}, betas {_list(gan.BETAS)}, batch {gan.BATCH_SIZE}"),
        ("Moving average", f"{gan.DECAY}"),
    ]
    write_card("digits-gan", GAN, gan.LATENT, facts, figures, epochs, seed, device, path)


def write_wgan_gp_card(figures: Figures, *, epochs: int, seed: int, device: torch.device, path: Path) -> None:
    """Writes the card of a finished run of `digits-wgan-gp` beside its grid."""
    facts = [
        ("Latent", f"{wgan_gp.LATENT}"),
        ("Generator", f"{figures.parameters:,} float32, {wgan_gp.WIDTHS[0]} channels before the picture"),
        (
            "Critic",
            f"four convolutions from {wgan_gp.WIDTHS[1]} channels, no normalisation, penalty {wgan_gp.PENALTY:g}",
        ),
        ("Optimiser", f"Adam, {wgan_gp.LEARNING_RATE:g}, betas {_list(wgan_gp.BETAS)}, batch {wgan_gp.BATCH_SIZE}"),
        ("Moving average", f"{wgan_gp.DECAY} of each generator step, one in {wgan_gp.CRITIC_STEPS} batches"),
    ]
    write_card("digits-wgan-gp", WGAN_GP, wgan_gp.LATENT, facts, figures, epochs, seed, device, path)


def write_card(
    name: str,
    summary: str,
    latent: int,
    facts: Sequence[tuple[str, str]],
    figures: Figures,
    epochs: int,
    seed: int,
    device: torch.device,
    path: Path,
) -> None:
    """Writes a card with these facts and the figures of a finished run; `latent` is the length of one."""
    where = f"{torch.get_num_threads()} CPU thread(s)" if device.type == "cpu" else torch.cuda.get_device_name(device)
    made = f"torch {torch.__version__}, Python {platform.python_version()}"
    Card(
        title=name,
        summary=summary,
        picture=f"{name}.png",
        caption=CAPTION.format(latent=latent),
        facts=[
            ("Command", f"`python -m training {name} --epochs {epochs} --seed {seed}`"),
            ("Frechet distance", f"{figures.frechet_drawn:.2f}, training data {figures.frechet_data:.2f}"),
            ("Diversity", f"{figures.distance_drawn / figures.distance_data:.2f} of the data's"),
            *facts,
            ("Training time", f"{figures.history.seconds / 60:.0f} minutes on a shared machine; {where}"),
            ("Made with", made),
        ],
        sections=(
            ("Frechet distance", _frechet(figures)),
            ("Diversity", _diversity(figures)),
            ("Losses", _losses(figures)),
            ("Licence and data", licence()),
        ),
    ).write(path)


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _frechet(figures: Figures) -> str:
    return FRECHET.format(
        judged=figures.judged, last=figures.judged - 1, drawn=figures.frechet_drawn, data=figures.frechet_data
    )


def _diversity(figures: Figures) -> str:
    digits = [str(digit) for digit in range(len(figures.shares))]
    return DIVERSITY.format(
        drawn=figures.distance_drawn,
        data=figures.distance_data,
        ratio=figures.distance_drawn / figures.distance_data,
        last=COMPARED - 1,
        count=COMPARED,
        judged=figures.judged,
        shares=table(digits, [[f"{share:.1%}".removesuffix("%") for share in figures.shares]]),
    )


def _losses(figures: Figures) -> str:
    names = list(figures.history.losses[0])
    rows = [
        [str(epoch), *(f"{losses[name]:.3f}" for name in names)]
        for epoch, losses in enumerate(figures.history.losses, 1)
    ]
    return "Means over each epoch.\n\n" + table(("epoch", *names), rows)
