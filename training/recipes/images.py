"""The recipe for pictures of one's own: a StyleGAN2 (`training.recipes.stylegan2`) that learns folders as labels."""

from pathlib import Path

import torch

from training.data.folder import Images
from training.loop import History
from training.networks.stylegan2 import StyleGan2
from training.recipes import stylegan2
from training.recipes.stylegan2 import BATCH_SIZE, WIDTHS

STEPS_PER_EPOCH = 200  # or as many as one pass takes
LABELS = "labels.txt"


def train(
    images: Images,
    *,
    epochs: int,
    seed: int,
    out: Path,
    resume: bool,
    device: torch.device,
    widths: tuple[int, ...] = WIDTHS,
) -> tuple[StyleGan2, History]:
    """Trains; writes `images.safetensors`, its discriminator and grids into `out`.

    Two folders or more are labels, whose names are written into `labels.txt`, one a line, for `ganserve export`.

    Raises:
        ResumeError: `out` holds the state of a run with another seed.
    """
    classes = len(images.names) if len(images.names) > 1 else 0
    trained = stylegan2.train(
        images.data,
        name="images",
        repeats=max(1, round(STEPS_PER_EPOCH * BATCH_SIZE / len(images.data.labels))),
        epochs=epochs,
        seed=seed,
        out=out,
        resume=resume,
        device=device,
        widths=widths,
        classes=classes,
    )
    if classes:
        (out / LABELS).write_text("".join(f"{name}\n" for name in images.names))
    return trained
