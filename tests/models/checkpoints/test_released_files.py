"""Files as the newer repositories write them: several networks, in the containers and under the names they use."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from models.catalogue import build
from models.checkpoints.read import Checkpoint, read
from tests.models.cases.base import trained
from tests.models.references import r3gan


def weights(network: nn.Module, shift: float = 0.0) -> dict[str, torch.Tensor]:
    """As after training, `shift` apart from other copies of the network."""
    return {key: value + shift if value.is_floating_point() else value for key, value in trained(network).items()}


def same(found: Checkpoint, expected: Mapping[str, torch.Tensor]) -> bool:
    """Whether these weights were taken, whatever stood before their keys."""
    return [*map(torch.Tensor.tolist, found.state.values())] == [*map(torch.Tensor.tolist, expected.values())]


def test_a_snapshot_of_r3gan_gives_its_average(tmp_path: Path) -> None:
    networks = {}
    for name, shift in (("G", 1.0), ("D", 2.0), ("G_ema", 0.0)):
        networks[name] = r3gan.Generator(6, [12, 8], [3, 2], blocks=1, classes=5, embedded=4)
        networks[name].load_state_dict(weights(networks[name], shift))
    path = tmp_path / "network-snapshot-00000100.pkl"
    path.write_bytes(pickle.dumps({**networks, "training_set_kwargs": {"path": "x"}, "cur_nimg": 100}))
    found = read(path)
    assert same(found, networks["G_ema"].state_dict())
    assert "taken from key G_ema (the running average)" in found.notes[0]
    assert build(found.state, config=found.config)[0] == "r3gan"
