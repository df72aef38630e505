"""Files as the newer repositories write them: several networks, in the containers and under the names they use."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from models.catalogue import assumed, build
from models.checkpoints.read import Checkpoint, CheckpointError, read
from tests.models.cases.base import trained
from tests.models.references import anime, progan, r3gan


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


def test_a_file_of_progan_gives_its_average_and_says_its_size(tmp_path: Path) -> None:
    network = progan.Akanimax(12, [8, 8, 6], doublings=1)
    conf = {"depth": 4, "num_channels": 3, "latent_size": 12, "use_eql": True}
    held = {
        name: {"conf": conf, "state_dict": weights(network, shift)}
        for name, shift in (("generator", 1.0), ("shadow_generator", 0.0))
    }
    discriminator = {"conf": conf, "state_dict": {"layers.0.conv_1.weight": torch.zeros(8, 9, 3, 3)}}
    torch.save({**held, "discriminator": discriminator, "gen_optim": {}}, path := tmp_path / "depth_3_epoch_7.bin")
    found = read(path)
    assert same(found, held["shadow_generator"]["state_dict"])  # type: ignore[arg-type]
    name, generator = build(found.state, config=found.config)
    assert (name, generator.image_size_px, assumed(name, generator, {}, found.config)) == (
        "progan",
        (8, 8),
        {"classes": 0, "slope": 0.2},
    )


class BaseConfig:
    """pytorch_GAN_zoo's, an object of attributes."""

    def __init__(self) -> None:
        self.lossCriterion, self.alpha, self.leakyReluLeak, self.equalizedlR = "DCGAN", 0.25, 0.1, False
        self.attribKeysOrder = {"b": {"order": 1, "values": ["x", "y", "z"]}, "a": {"order": 0, "values": ["p", "q"]}}


def test_the_config_in_a_file_of_the_gan_zoo_is_followed(tmp_path: Path) -> None:
    network = progan.Zoo(12, [8, 6])
    held = {"netG": weights(network, 1.0), "netD": {"decisionLayer.weight": torch.zeros(1, 8)}}
    torch.save({"config": BaseConfig(), **held, "avgG": weights(network)}, path := tmp_path / "x_s1_i100.pt")
    found = read(path)
    assert same(found, weights(network))
    name, generator = build(found.state, config=found.config)
    assert assumed(name, generator, {}, found.config) == {}
    given = {key: found.config[f"beside.config.{key}"] for key in ("lossCriterion", "alpha", "leakyReluLeak")}
    assert given == {"lossCriterion": "DCGAN", "alpha": 0.25, "leakyReluLeak": 0.1}
    assert (generator.classes, generator.hyperparameters["alpha"]) == (6, 0.25)


def test_a_power_step_is_folded_into_any_network(tmp_path: Path) -> None:
    """christiancosgrove's norm around the layers of a DCGAN, behind a prefix."""
    plain = weights(nn.Sequential(nn.ConvTranspose2d(6, 8, 4, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
                                  nn.ConvTranspose2d(8, 3, 4, 2, 1, bias=False)))  # fmt: skip
    held: dict[str, torch.Tensor] = {}
    for key, value in plain.items():
        if value.ndim != 4:
            held[f"netG.main.{key}"] = value
            continue
        layer = key.removesuffix(".weight")
        u = torch.ones(len(value)) / len(value) ** 0.5
        for name, tensor in (("bar", value), ("u", u), ("v", torch.zeros(value[0].numel()))):
            held[f"netG.main.{layer}.module.weight_{name}"] = tensor
        right = torch.nn.functional.normalize(value.flatten(1).T @ u, dim=0)
        plain[key] = value / (value.flatten(1) @ right).norm()
    torch.save(held, path := tmp_path / "netG.pth")
    found = read(path)
    assert list(found.state) == [f"main.{key}" for key in plain]
    for key, value in plain.items():
        torch.testing.assert_close(found.state[f"main.{key}"], value)
    assert build(found.state)[0] == "dcgan"


def test_of_both_directions_of_ugatit_the_key_says_one(tmp_path: Path) -> None:
    network = anime.Ugatit(4, 2, light=True)
    discriminator = {"model.1.weight_orig": torch.zeros(8, 3, 4, 4), "gap_fc.weight_orig": torch.zeros(1, 8)}
    held = {"genA2B": weights(network), "genB2A": weights(network, 1.0), "disGA": discriminator, "disLA": discriminator}
    torch.save(held, path := tmp_path / "selfie2anime_params_0100000.pt")
    with pytest.raises(CheckpointError, match=r"genA2B \(ugatit\), genB2A \(ugatit\); say which with --key NAME"):
        read(path)
    assert same(read(path, key="genB2A"), held["genB2A"])
