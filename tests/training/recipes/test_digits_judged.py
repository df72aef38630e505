"""The recipes of `digits-gan` and `digits-wgan-gp`, and the weights that they left in the repository."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.architecture import Generator
from models.catalogue import build
from models.zoo.fetch import WEIGHTS
from training.cards.digits_judged import write_gan_card, write_wgan_gp_card
from training.generate import draw, latents
from training.loop import Data, ResumeError
from training.metrics.diversity import mean_pairwise_distance
from training.metrics.judges import digit_labels
from training.recipes import digits_gan, digits_wgan_gp
from training.recipes.digits_judged import Figures, without_margin

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
DATA_DISTANCE = 20.13  # the cards', of MNIST itself


def noise(seed: int) -> Data:
    """256 pictures that look like nothing, as uint8, with labels."""
    draws = np.random.default_rng(seed)
    pictures = draws.integers(0, 256, (256, 1, 28, 28), dtype=np.uint8)
    return Data(torch.from_numpy(pictures), torch.arange(256) % 10)


def run_gan(out: Path, epochs: int, *, seed: int = 5, resume: bool = False) -> Figures:
    return digits_gan.train(
        noise(0), noise(1), epochs=epochs, seed=seed, out=out, resume=resume, device=CPU, hidden=(8, 16), judged=300
    )


def run_wgan_gp(out: Path, epochs: int, *, seed: int = 5, resume: bool = False) -> Figures:
    return digits_wgan_gp.train(
        noise(0), noise(1), epochs=epochs, seed=seed, out=out, resume=resume, device=CPU, widths=(4, 4), judged=300
    )


Recipe = Callable[..., Figures]
RECIPES = {"digits-gan": run_gan, "digits-wgan-gp": run_wgan_gp}
every_recipe = pytest.mark.parametrize(("name", "recipe"), RECIPES.items(), ids=RECIPES)


@every_recipe
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(name: str, recipe: Recipe, tmp_path: Path) -> None:
    whole = recipe(tmp_path / "whole", 2)
    recipe(tmp_path / "parts", 1)
    parts = recipe(tmp_path / "parts", 2, resume=True)
    assert parts.history.losses == whole.history.losses
    assert (parts.frechet_drawn, parts.shares) == (whole.frechet_drawn, whole.shares)
    for file in (f"{name}.safetensors", f"{name}.png", "epoch-02.png"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


@every_recipe
def test_another_seed_cannot_resume(name: str, recipe: Recipe, tmp_path: Path) -> None:
    recipe(tmp_path, 1)
    with pytest.raises(ResumeError, match="'seed': 5"):
        recipe(tmp_path, 2, seed=6, resume=True)


def test_the_cards_say_how_and_how_well(tmp_path: Path) -> None:
    write_gan_card(run_gan(tmp_path, 1), epochs=1, seed=5, device=CPU, path=tmp_path / "gan.md")
    write_wgan_gp_card(run_wgan_gp(tmp_path, 1), epochs=1, seed=5, device=CPU, path=tmp_path / "wgan-gp.md")
    for name, said in (("gan", "digits-gan --epochs 1 --seed 5"), ("wgan-gp", "digits-wgan-gp --epochs 1 --seed 5")):
        card = (tmp_path / f"{name}.md").read_text()
        for part in (f"python -m training {said}", "Frechet distance", "of the data's", "8f87f2d0d9133e6c", "CC BY-SA"):
            assert part in card, (name, part)


def test_a_margin_is_taken_off_digits_of_32_px_only() -> None:
    pictures = torch.arange(32.0 * 32).reshape(1, 1, 32, 32)
    assert torch.equal(without_margin(pictures), pictures[..., 2:30, 2:30])
    assert torch.equal(without_margin(pictures[..., :28, :28]), pictures[..., :28, :28])


def committed(name: str) -> tuple[str, Generator]:
    state = {key: tensor.float() for key, tensor in load_file(WEIGHTS / f"{name}.safetensors").items()}
    return build(state)


@pytest.mark.parametrize(("name", "architecture"), [("digits-gan", "mlp"), ("digits-wgan-gp", "dcgan")])
def test_the_committed_weights_draw_many_different_digits(name: str, architecture: str) -> None:
    found, generator = committed(name)
    assert found == architecture
    drawn = without_margin(draw(generator.network, latents(range(500), generator.latent_size)))
    assert mean_pairwise_distance(drawn) > 0.85 * DATA_DISTANCE
    shares = [(digit_labels(drawn) == digit).float().mean().item() for digit in range(10)]
    assert min(shares) > 0.03
    assert (WEIGHTS / f"{name}.safetensors").stat().st_size <= 4e6
