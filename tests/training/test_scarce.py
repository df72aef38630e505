"""The comparison of classifiers with and without generated digits, on a handful of blots."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.data.packages import DataError
from training.loop import Data
from training.scarce import WAYS, Way, few, learn, moved, read_folders


def blots(count: int) -> Data:
    labels = torch.arange(count) % 10
    pictures = torch.zeros(count, 1, 28, 28, dtype=torch.uint8)
    for index, label in enumerate(labels.tolist()):
        pictures[index, 0, 2 * label : 2 * label + 8, 4:24] = 200
    return Data(pictures, labels)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_few_takes_as_many_of_each_class_and_others_for_another_seed() -> None:
    data = Data(torch.arange(500, dtype=torch.uint8).reshape(500, 1, 1, 1), torch.arange(500) % 10)
    chosen = few(data, 3, random())
    assert torch.bincount(chosen.labels).tolist() == [3] * 10
    assert not torch.equal(chosen.pictures, few(data, 3, random(1)).pictures)


def test_moved_digits_are_elsewhere_on_the_same_paper() -> None:
    pictures = blots(20).pictures.float() / 127.5 - 1
    found = moved(pictures, random())
    assert found.shape == pictures.shape
    assert found.min() >= -1 - 1e-6
    assert found.max() <= 1
    centre = torch.full((1, 1, 28, 28), -1.0)
    assert torch.equal(moved(centre, random()), centre)
    assert (found - pictures).abs().mean() > 0.02


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_every_way_learns_the_same_each_time(way: Way) -> None:
    first, again = (learn(way, blots(20), blots(50), 3, 1) for _ in range(2))
    for one, other in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert not first.training


def test_folders_of_a_data_set_are_read_with_their_labels(tmp_path: Path) -> None:
    for label in (3, 7):
        (tmp_path / str(label)).mkdir()
        Image.fromarray(np.full((28, 28), 10 * label, np.uint8)).save(tmp_path / str(label) / "00000001.png")
    found = read_folders(tmp_path)
    assert found.labels.tolist() == [3, 7]
    assert found.pictures[:, 0, 0, 0].tolist() == [30, 70]
    with pytest.raises(DataError, match="no folders 0 to 9"):
        read_folders(tmp_path / "none")
    Image.new("L", (32, 32)).save(tmp_path / "3" / "00000001.png")
    Image.new("L", (32, 32)).save(tmp_path / "7" / "00000001.png")
    with pytest.raises(DataError, match="must be grey, 28x28 px"):
        read_folders(tmp_path)
