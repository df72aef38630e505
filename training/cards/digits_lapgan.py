"""The model card of `digits-lapgan`."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from models.catalogue import build
from models.zoo.fetch import WEIGHTS
from training.cards.digits_judged import write_card
from training.loop import Data
from training.metrics.frechet import between
from training.metrics.judge import to_signed
from training.metrics.judges import digit_features
from training.recipes import digits
from training.recipes import digits_lapgan as recipe
from training.recipes.digits_judged import JUDGED, Figures

SUMMARY = """\
A LAPGAN (`models/families/basic/lapgan.py`) that draws handwritten digits, 28x28, grey, from a latent and two maps of
noise: a perceptron draws 7x7 pixels, and two residual generators double that to 14x14 and 28x28. Trained from scratch
with `training/recipes/digits_lapgan.py`, each level a GAN of its own, in the names and layer order of
AnirudhMaiya/pytorch-LapGAN; what is kept is the moving average of the weights, as float16. The noise of a seed is
what its RandomState gives after the latent. Most pictures are digits at a glance; some strokes do not meet, and fours
and fives are rarer than in the data."""


def frechet_of_digits(test: Data, judged: int = JUDGED) -> float:
    """The Frechet distance of what the zoo's `digits` draws, seed s the label s % 10, to as many of the test digits."""
    state = load_file(WEIGHTS / "digits.safetensors")
    drawn, _ = digits.draw(build(state)[1].network, range(judged), torch.device("cpu"))
    return between(digit_features(drawn), digit_features(to_signed(test.pictures[:judged])))


def write_lapgan_card(
    figures: Figures, frechet_beside: float, *, epochs: int, seed: int, device: torch.device, path: Path
) -> None:
    """Writes the card of a finished run beside its grid `digits-lapgan.png`; `frechet_beside` is that of `digits`."""
    rates = " and ".join(f"{rate:g}" for rate in recipe.LEARNING_RATES)
    levels = "; ".join(", ".join(map(str, widths)) for widths in recipe.WIDTHS)
    facts = [
        ("Frechet distance of `digits`", f"{frechet_beside:.2f}, measured alike"),
        ("Latent, noise", f"{recipe.LATENT}; {14**2} + {28**2}"),
        ("Generator", f"{figures.parameters:,} float16; base {', '.join(map(str, recipe.HIDDEN))}; levels {levels}"),
        ("Loss", f"non-saturating, R1 every 16th step, gamma {', '.join(map(str, recipe.PENALTY))} by level"),
        ("Enlarged pictures", f"{1 - recipe.OWN:.0%} real ones, {recipe.OWN:.0%} the levels' own"),
        ("Optimiser", f"Adam, {rates} (discriminators), betas {recipe.BETAS[0]:g} and {recipe.BETAS[1]:g}"),
        ("Steps a batch", f"batch {recipe.BATCH_SIZE}: {recipe.BASE_STEPS} of the base, one of either residual level"),
        ("Moving average", f"{recipe.DECAY}"),
    ]
    write_card("digits-lapgan", SUMMARY, recipe.LATENT, facts, figures, epochs, seed, device, path)
