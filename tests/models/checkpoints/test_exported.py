"""Files of torch.export.save: their weights are read as data, and whatever is wrong with them is one line."""

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from export.errors import ExportError
from export.inspection import inspect
from models.checkpoints.read import CheckpointError, read
from models.families.basic.dcgan import DcganGenerator

TABLE = "program/data/weights/model_weights_config.json"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A file of a DCGAN, two of whose tensors share a storage, and its weights."""
    torch.manual_seed(0)
    network = DcganGenerator((4, 6, 3, 1)).eval()
    storage = torch.randn(20)
    network.main[1].weight = nn.Parameter(storage[3:15:2])
    network.main[1].running_mean = storage[14:20]
    path = tmp_path_factory.mktemp("exported") / "program.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no tensor has the storage to itself
        torch.export.save(torch.export.export(network, (torch.zeros(1, 4),)), path)
    return path, {key: value.detach().clone() for key, value in network.state_dict().items()}


def test_the_weights_are_those_of_the_network(program: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, state = program
    found = read(path)
    assert found.known
    assert found.state.keys() == state.keys()
    assert all(torch.equal(found.state[key], value) for key, value in state.items())


def test_files_of_before_2_8_are_read(program: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    inner = io.BytesIO()
    torch.save(program[1], inner)
    with zipfile.ZipFile(tmp_path / "old.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_state_dict.pt", inner.getvalue())
    assert torch.equal(read(tmp_path / "old.pt2").state["main.0.weight"], program[1]["main.0.weight"])


def test_graphs_of_networks_that_are_not_known_are_loaded_in_the_users_process(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 6), nn.ELU()).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 4),)), tmp_path / "mine.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is deprecated
        torch.jit.freeze(torch.jit.script(network)).save(str(tmp_path / "mine.pt"))
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    for file, given in (("pt2", r"torch\.export\.load\(\"mine\.pt2\"\)"), ("pt", r"torch\.jit\.load\(\"mine\.pt\"\)")):
        with pytest.raises(ExportError, match=rf"in your process: ganserve\.export_module\({given}, latent_size="):
            inspect(tmp_path / f"mine.{file}")
    with pytest.raises(ExportError, match=r"no known generator: .*ganserve\.export_module\(netG, latent_size="):
        inspect(tmp_path / "mine.pth")


def set_meta(name: str, **values: object) -> Callable[[dict[str, Any]], None]:
    return lambda config: config[name]["tensor_meta"].update(values)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            set_meta("main.0.weight", sizes=[{"as_int": 1 << 40}], strides=[{"as_int": 0}]),
            "main.0.weight has 109951162",
        ),
        (set_meta("main.0.weight", storage_offset={"as_int": 10**6}), "main.0.weight has .* numbers, .* are stored"),
        (set_meta("main.0.weight", storage_offset={"as_int": -1}), "the shape of main.0.weight"),
        (set_meta("main.0.weight", strides=[]), "the shape of main.0.weight"),
        (set_meta("main.0.weight", dtype=31), "main.0.weight has numbers of type 31 of torch.export"),
        (set_meta("main.0.weight", sizes=[{"as_expr": {}}]), "model_weights_config.json"),
        (
            lambda config: config["main.0.weight"].update(use_pickle=True),
            "main.0.weight is a tensor of a class of its own",
        ),
        (lambda config: config["main.0.weight"].update(path_name="../../x"), "the record .* is missing"),
        (lambda config: config.clear(), "holds .* no tensors of a network"),
    ],
)
def test_a_damaged_one_is_refused(
    change: Callable[[dict[str, Any]], None],
    sentence: str,
    program: tuple[Path, dict[str, torch.Tensor]],
    tmp_path: Path,
) -> None:
    path = tmp_path / "program.pt2"
    with zipfile.ZipFile(program[0]) as archive, zipfile.ZipFile(path, "w") as changed:
        for name in archive.namelist():
            data = archive.read(name)
            if name == TABLE:
                table = json.loads(data)
                change(table["config"])
                data = json.dumps(table).encode()
            changed.writestr(name, data)
    with pytest.raises(CheckpointError, match=sentence) as caught:
        read(path)
    assert "\n" not in str(caught.value)
