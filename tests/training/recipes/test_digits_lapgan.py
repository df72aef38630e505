"""The recipe of `digits-lapgan`, and the weights that it left in the repository."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.catalogue import build
from models.zoo.fetch import WEIGHTS as ZOO_WEIGHTS
from training.cards.digits_lapgan import frechet_of_digits, write_lapgan_card
from training.generate import latents, noise
from training.loop import Data, ResumeError
from training.metrics.diversity import mean_pairwise_distance
from training.metrics.judges import digit_labels
from training.recipes.digits_judged import Figures
from training.recipes.digits_lapgan import LATENT, LapganLearner, build_generator, draw, train

CPU = torch.device("cpu")
WEIGHTS = ZOO_WEIGHTS / "digits-lapgan.safetensors"
DATA_DISTANCE = 20.13  # the card's, of MNIST itself
SIZES = ((8,), ((4,), (6, 4)), 32)


def data(seed: int) -> Data:
    """128 pictures that look like nothing, as uint8, with labels."""
    draws = np.random.default_rng(seed)
    pictures = draws.integers(0, 256, (128, 1, 28, 28), dtype=np.uint8)
    return Data(torch.from_numpy(pictures), torch.arange(128) % 10)


def run(out: Path, epochs: int, *, seed: int = 5, resume: bool = False) -> Figures:
    return train(
        data(0), data(1), epochs=epochs, seed=seed, out=out, resume=resume, device=CPU, sizes=SIZES, judged=100
    )


@pytest.mark.slow
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", 2)
    run(tmp_path / "parts", 1)
    parts = run(tmp_path / "parts", 2, resume=True)
    assert parts.history.losses == whole.history.losses
    for file in ("digits-lapgan.safetensors", "digits-lapgan.png", "epoch-02.png"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    with pytest.raises(ResumeError, match="'seed': 5"):
        run(tmp_path / "parts", 3, seed=6, resume=True)


def test_what_is_saved_draws_what_was_measured(tmp_path: Path) -> None:
    run(tmp_path, 1)
    name, generator = build(load_file(tmp_path / "digits-lapgan.safetensors"))
    assert (name, generator.hyperparameters["variant"], generator.image_size_px) == ("lapgan", "anirudhmaiya", (28, 28))
    own = build_generator(*SIZES[:2]).eval()
    own.load_state_dict(generator.network.state_dict())
    seeds = range(3)
    expected = generator.network(latents(seeds, LATENT), noise(seeds, LATENT, generator.noise_size))
    torch.testing.assert_close(draw(own, seeds), expected)


def test_the_levels_take_turns_and_the_base_steps_with_each_batch() -> None:
    torch.manual_seed(0)
    learner = LapganLearner(CPU, *SIZES)
    for step, moved in enumerate((1, 2, 1)):
        before = {name: tensor.clone() for name, tensor in learner.generator.named_parameters()}
        learner.step(data(step).pictures[:8], torch.zeros(8), torch.Generator().manual_seed(step))
        changed = {
            name.split(".")[1] for name, now in learner.generator.named_parameters() if (now != before[name]).any()
        }
        assert changed == {"0", str(moved)}, step


def test_the_card_says_how_and_how_well(tmp_path: Path) -> None:
    figures = run(tmp_path, 1)
    beside = frechet_of_digits(data(1), judged=100)
    write_lapgan_card(figures, beside, epochs=1, seed=5, device=CPU, path=tmp_path / "card.md")
    card = (tmp_path / "card.md").read_text()
    for said in (
        "python -m training digits-lapgan --epochs 1 --seed 5",
        f"| {beside:.2f}, measured",
        "8f87f2d0d9133e6c",
    ):
        assert said in card, said


@pytest.fixture(scope="module")
def drawn() -> torch.Tensor:
    """The pictures of seeds 0..299, by the committed pyramid."""
    generator = build(load_file(WEIGHTS))[1]
    seeds = range(300)
    pictures: torch.Tensor = generator.network(
        latents(seeds, generator.latent_size), noise(seeds, generator.latent_size, generator.noise_size)
    )
    return pictures


def test_the_committed_digits_are_of_all_ten_kinds_and_differ(drawn: torch.Tensor) -> None:
    counts = digit_labels(drawn).bincount(minlength=10)
    assert counts.min() >= 5
    assert mean_pairwise_distance(drawn) / DATA_DISTANCE > 0.8


def test_the_committed_weights_are_small() -> None:
    assert WEIGHTS.stat().st_size <= 4e6
