"""The judges: what their features tell apart, and the recipe of the emoji's."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.data.emoji import Emoji
from training.loop import ResumeError
from training.metrics.frechet import between
from training.metrics.judges import WEIGHTS as JUDGES
from training.metrics.judges import digit_features, emoji_features
from training.networks.emoji_trunk import EmojiTrunk
from training.recipes.emoji_judge import change, train

CPU = torch.device("cpu")
WEIGHTS = JUDGES / "emoji_judge.safetensors"


def emoji(seed: int, n: int = 70) -> Emoji:
    """Pictures that look like nothing."""
    random = torch.Generator().manual_seed(seed)
    pictures = torch.randint(0, 256, (n, 3, 32, 32), generator=random, dtype=torch.uint8)
    names = tuple(str(row) for row in range(n))
    return Emoji(pictures, torch.zeros(n, dtype=torch.int64), names, names, names)


def run(out: Path, epochs: int, *, seed: int = 3, resume: bool = False) -> tuple[float, float]:
    return train((emoji(0), emoji(1)), epochs=epochs, seed=seed, out=out, resume=resume, device=CPU)[1]


def test_a_resumed_run_of_the_emojis_judge_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", 2)
    run(tmp_path / "parts", 1)
    assert run(tmp_path / "parts", 2, resume=True) == whole
    one, other = (load_file(tmp_path / name / "emoji_judge.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    with pytest.raises(ResumeError, match="'seed': 3"):
        run(tmp_path / "parts", 2, seed=4, resume=True)


def test_the_committed_judge_of_emoji_is_small_and_fits_its_network() -> None:
    assert WEIGHTS.stat().st_size <= 1e6
    state = load_file(WEIGHTS)
    assert {key: tensor.shape for key, tensor in state.items()} == {
        key: tensor.shape for key, tensor in EmojiTrunk().state_dict().items()
    }


def test_features_of_emoji_tell_noise_from_flat_colours_whatever_the_size() -> None:
    random = torch.Generator().manual_seed(0)
    noise = torch.rand(200, 3, 32, 32, generator=random) * 2 - 1
    flat = (torch.rand(200, 3, 1, 1, generator=random) * 2 - 1).expand(-1, -1, 32, 32)
    features = emoji_features(noise)
    assert features.shape == (200, 128)
    enlarged = flat.expand(-1, -1, 32, 32).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(emoji_features(enlarged), emoji_features(flat))
    assert between(features, emoji_features(flat)) > 10 * between(features[:100], features[100:])


def test_features_of_digits_are_quarters_of_the_judges_last_map() -> None:
    pictures = torch.full((2, 1, 28, 28), -1.0)
    pictures[1, 0, 18:26, 18:26] = 1.0
    features = digit_features(pictures).reshape(2, 64, 2, 2)
    changed = (features[1] - features[0]).abs().sum(0)
    assert changed[1, 1] > 10 * changed[0, 0]


def test_changed_emoji_stay_white_around_and_are_not_as_they_were() -> None:
    white = torch.ones(4, 3, 32, 32)
    random = torch.Generator().manual_seed(0)
    assert torch.equal(change(white, random), white)
    dotted = white.clone()
    dotted[:, :, 12:20, 12:20] = -1
    assert not torch.equal(change(dotted, random)[0], change(dotted, random)[1])
