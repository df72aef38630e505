"""NVIDIA's pickles: weights and arguments come out, nothing runs, whatever the file tries."""

import contextlib
import io
import pickle
import pickletools
import resource
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.catalogue import build
from models.checkpoints import read as checkpoint
from models.checkpoints.pickle.machine import PickleError
from models.checkpoints.pickle.tensors import load
from models.families.style.stylegan2_synthesis import Layer
from tests.models.cases.base import trained
from tests.models.checkpoints.hostile_pickles import HOSTILE
from tests.models.checkpoints.nvidia_files import made_by, write_pickle, write_snapshot
from tests.models.references.nvidia_stylegan2 import Generator

ARGUMENTS: dict[str, object] = {
    "z_dim": 6,
    "c_dim": 3,
    "w_dim": 5,
    "img_resolution": 8,
    "img_channels": 3,
    "mapping_kwargs": {"num_layers": 2},
    "synthesis_kwargs": {"conv_clamp": 256, "architecture": "skip"},
}


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    """A file that exists once something of a pickle was run."""
    return tmp_path / "something-ran"


def network(seed: int = 0, conv_clamp: float = 256) -> nn.Module:
    found = Generator(6, 3, 5, 8, 3, 2, (6, 4), conv_clamp=conv_clamp)
    found.load_state_dict({key: value + seed for key, value in trained(found).items()})
    return made_by(found.eval().requires_grad_(False), **ARGUMENTS)


def snapshot(path: Path, probe: Path, protocol: int = 4) -> Path:
    networks = {"G": network(1), "D": network(2), "G_ema": network(0), "augment_pipe": None}
    return write_snapshot(path / "network-snapshot-000100.pkl", networks, probe, protocol)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_the_running_average_is_read_and_no_source_is_run(tmp_path: Path, probe: Path, protocol: int) -> None:
    path = snapshot(tmp_path, probe, protocol)
    found = checkpoint.read(path)
    expected = network().state_dict()
    assert list(found.state) == list(expected)
    assert all(torch.equal(found.state[key], expected[key]) for key in expected)
    assert found.notes == ("taken from key G_ema (the running average)",)
    assert found.dtype == "float32"
    assert not probe.exists()


def test_the_fixture_is_what_the_official_code_writes(tmp_path: Path, probe: Path) -> None:
    named = set()
    texts: list[object] = []
    for opcode, argument, _ in pickletools.genops(snapshot(tmp_path, probe, protocol=3).read_bytes()):
        texts.append(argument)
        if opcode.name == "GLOBAL":
            named.add(argument)
    assert named == {
        "torch_utils.persistence _reconstruct_persistent_obj",
        "dnnlib.util EasyDict",
        "builtins set",
        "collections OrderedDict",
        "torch._utils _rebuild_parameter",
        "torch._utils _rebuild_tensor_v2",
        "torch.storage _load_from_bytes",
        "numpy._core.multiarray scalar",
        "numpy dtype",
    }
    assert any(isinstance(text, str) and str(probe) in text for text in texts), "source that would make the file"


def test_arguments_and_attributes_come_as_plain_values(tmp_path: Path, probe: Path) -> None:
    config = checkpoint.read(snapshot(tmp_path, probe)).config
    assert config["class_name"] == "Generator"
    assert (config["z_dim"], config["c_dim"], config["mapping_kwargs.num_layers"]) == (6, 3, 2)
    assert config["synthesis_kwargs.architecture"] == "skip"
    assert config["synthesis.b8.conv1.conv_clamp"] == 256
    assert config["synthesis.block_resolutions"] == [4, 8]
    assert config["mapping.fc0.weight_gain"] == pytest.approx(0.01 / np.sqrt(11))


def test_a_snapshot_builds_a_generator_with_its_own_clamp(tmp_path: Path, probe: Path) -> None:
    found = checkpoint.read(write_pickle(tmp_path / "a.pkl", network(conv_clamp=7), probe))
    name, generator = build(found.state, config=found.config)
    assert name == "stylegan2-ada"
    assert generator.classes == 3
    layers = [layer for layer in generator.network.modules() if isinstance(layer, Layer)]
    assert {layer.clamp for layer in layers} == {7.0}


def test_without_a_running_average_the_trained_network_is_taken(tmp_path: Path, probe: Path) -> None:
    path = write_snapshot(tmp_path / "a.pkl", {"G": network(1), "D": network(2)}, probe)
    found = checkpoint.read(path)
    assert torch.equal(found.state["mapping.w_avg"], network(1).state_dict()["mapping.w_avg"])
    assert found.notes == ("taken from key G",)


def test_a_network_pickled_alone_is_read(tmp_path: Path, probe: Path) -> None:
    found = checkpoint.read(write_pickle(tmp_path / "a.pkl", network(), probe))
    assert list(found.state) == list(network().state_dict())
    assert found.config["z_dim"] == 6


def test_networks_that_are_no_records_are_read_too(tmp_path: Path) -> None:
    """Those of projected-gan: plain objects of torch's classes and of its own, spectral norm's hooks among them."""
    layers = nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(2, 3, 1)), nn.BatchNorm2d(3), nn.ReLU())
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"G": layers, "G_ema": layers, "progress": {"best_fid": 9.5}}))
    found = checkpoint.read(path)
    assert set(found.state) == set(layers.state_dict())
    assert torch.equal(found.state["0.weight_u"], layers.state_dict()["0.weight_u"])


def test_half_precision_and_arrays_are_read(tmp_path: Path, probe: Path) -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.size = np.array([36, 52])
            self.rates = np.asfortranarray(np.arange(6.0).reshape(2, 3))
            self.weight = nn.Parameter(torch.arange(4.0).half())
            self.register_buffer("unsaved", torch.ones(2), persistent=False)
            self.register_buffer("none", None)

    for protocol in (3, 5):
        path = write_snapshot(tmp_path / f"{protocol}.pkl", {"G_ema": Sized()}, probe, protocol)
        found = checkpoint.read(path)
        assert list(found.state) == ["weight"]
        assert found.state["weight"].tolist() == [0, 1, 2, 3]
        assert found.config["size"] == [36, 52]
        assert found.config["rates"] == [[0, 1, 2], [3, 4, 5]]


def test_a_plain_pickle_of_a_state_dict_is_read(tmp_path: Path) -> None:
    path = tmp_path / "netG.pkl"
    path.write_bytes(pickle.dumps({"state_dict": OrderedDict(a=torch.ones(2, 3).T, b=torch.arange(3))}))
    found = checkpoint.read(path)
    assert found.state["a"].shape == (3, 2)
    assert found.state["b"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_or_broken_pickle_is_refused_in_one_line_and_nothing_runs(
    tmp_path: Path, probe: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.checkpoints.pickle.tensors.MAX_STEPS", 200_000)
    write, sentence = HOSTILE[name]
    path = tmp_path / "network-snapshot-000001.pkl"
    path.write_bytes(write(probe))
    modules = set(sys.modules)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(checkpoint.CheckpointError, match=sentence) as caught:
        checkpoint.read(path)
    assert str(caught.value).startswith(path.name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert not probe.exists(), "code of the file was run"
    imported = {module for module in set(sys.modules) - modules if not module.startswith("encodings.")}
    assert not imported, "something was imported"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < peak_kib + 400_000


@pytest.mark.parametrize("name", ["os.system", "eval", "exec", "a storage that calls"])
def test_the_hostile_files_would_run_in_a_real_unpickler(probe: Path, name: str) -> None:
    with contextlib.suppress(AttributeError, TypeError, RuntimeError, pickle.UnpicklingError):
        pickle.loads(HOSTILE[name][0](probe))
    assert probe.exists(), "otherwise the test above shows nothing"


def test_a_truncated_snapshot_is_refused_wherever_it_is_cut(tmp_path: Path, probe: Path) -> None:
    whole = snapshot(tmp_path, probe).read_bytes()
    for length in (1, 2, 3, 50, 1000, *range(5000, len(whole), len(whole) // 40), len(whole) - 1):
        with pytest.raises(PickleError, match=r"damaged|more than the file|attributes"):
            load(io.BytesIO(whole[:length]), length)


def test_a_snapshot_with_one_byte_changed_never_runs_anything(tmp_path: Path, probe: Path) -> None:
    whole = snapshot(tmp_path, probe).read_bytes()
    random = np.random.RandomState(0)
    path = tmp_path / "changed.pkl"
    refused = 0
    for place in random.randint(2, len(whole), 100):
        path.write_bytes(whole[:place] + bytes([random.randint(256)]) + whole[place + 1 :])
        try:
            checkpoint.read(path)
        except checkpoint.CheckpointError:
            refused += 1
    assert 0 < refused < 100
    assert not probe.exists()
