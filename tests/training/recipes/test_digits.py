"""The recipe of `digits`, and the weights that it left in the repository."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.families.basic.cgan import ARCHITECTURE
from models.zoo.fetch import WEIGHTS as ZOO_WEIGHTS
from training.cards.digits import write_card
from training.loop import Data, ResumeError
from training.metrics.diversity import mean_pairwise_distance, per_label
from training.metrics.judge import Judge, agreement
from training.metrics.judges import WEIGHTS as JUDGES
from training.recipes.digits import DigitsLearner, Figures, draw, train

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
GENERATOR = ZOO_WEIGHTS / "digits.safetensors"
DATA_DISTANCES = (19.6, 13.3, 20.1, 18.7, 17.6, 18.9, 17.3, 16.7, 17.8, 16.6)  # the card's, of MNIST itself
JUDGE = JUDGES / "digits_judge.safetensors"


@pytest.fixture(scope="module")
def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    """The pictures and labels of seeds 0..199, by the committed generator."""
    state = load_file(GENERATOR)
    assert ARCHITECTURE.matches(state)
    settings = {name: setting.default for name, setting in ARCHITECTURE.settings.items()}
    return draw(ARCHITECTURE.build(state, settings).network, range(200), CPU)


def test_the_committed_digits_obey_their_labels(drawn: tuple[torch.Tensor, torch.Tensor]) -> None:
    judge = Judge()
    judge.load_state_dict(load_file(JUDGE))
    assert agreement(judge.eval(), *drawn) >= 0.97


def test_the_committed_digits_of_one_label_differ(drawn: tuple[torch.Tensor, torch.Tensor]) -> None:
    ratios = [found / data for found, data in zip(per_label(*drawn, classes=10), DATA_DISTANCES, strict=True)]
    assert min(ratios) > 0.8


def test_the_committed_weights_are_small() -> None:
    assert GENERATOR.stat().st_size <= 4e6
    assert JUDGE.stat().st_size < 500e3


def test_a_drawn_picture_is_in_range_and_its_label_follows_its_seed(drawn: tuple[torch.Tensor, torch.Tensor]) -> None:
    pictures, labels = drawn
    assert pictures.shape == (200, 1, 28, 28)
    assert pictures.abs().max() <= 1
    assert labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_the_mean_pairwise_distance_leaves_out_a_picture_and_itself() -> None:
    corners = torch.tensor([[0.0, 0.0], [3.0, 4.0]]).reshape(2, 1, 1, 2)
    assert mean_pairwise_distance(corners) == pytest.approx(5.0)


def noise(seed: int) -> Data:
    """128 pictures that look like nothing, as uint8, with labels."""
    draws = np.random.default_rng(seed)
    pictures = draws.integers(0, 256, (128, 1, 28, 28), dtype=np.uint8)
    return Data(torch.from_numpy(pictures), torch.arange(128) % 10)


def run(out: Path, epochs: int, *, seed: int = 5, resume: bool = False) -> Figures:
    return train(noise(0), noise(1), epochs=epochs, seed=seed, out=out, resume=resume, device=CPU, width=8)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", 2)
    run(tmp_path / "parts", 1)
    parts = run(tmp_path / "parts", 2, resume=True)
    assert parts.history.losses == whole.history.losses
    for name in ("digits.safetensors", "digits_judge.safetensors", "epoch-02.png", "digits.png"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_another_seed_draws_other_weights_and_cannot_resume(tmp_path: Path) -> None:
    run(tmp_path, 1)
    before = load_file(tmp_path / "digits.safetensors")
    with pytest.raises(ResumeError, match="'seed': 5"):
        run(tmp_path, 2, seed=6, resume=True)
    run(tmp_path, 1, seed=6)
    after = load_file(tmp_path / "digits.safetensors")
    assert not torch.equal(before["main.0.weight"], after["main.0.weight"])


def test_a_run_leaves_weights_of_a_conditional_gan_and_a_card_of_how(tmp_path: Path) -> None:
    write_card(run(tmp_path, 1), epochs=1, seed=5, device=CPU, path=tmp_path / "digits.md")
    state = load_file(tmp_path / "digits.safetensors")
    assert ARCHITECTURE.matches(state)
    assert set(state) == set(DigitsLearner(8, CPU).average.state_dict())
    card = (tmp_path / "digits.md").read_text()
    for said in ("python -m training digits --epochs 1 --seed 5", "8f87f2d0d9133e6c", "Apache-2.0", "(digits.png)"):
        assert said in card
