"""Files that are no generator's checkpoint: `export` and `inspect` refuse each in one line; nothing written or run."""

import io
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from ganserve.cli.main import main
from models.families.basic.dcgan import DcganGenerator
from tests.models.checkpoints.hostile_pickles import HOSTILE, Calls
from tests.models.checkpoints.nvidia_files import write_snapshot
from tests.models.references.nvidia_stylegan2 import Generator

Write = Callable[[Path, Path], object]  # of a path and of the file that appears once something was run
Capture = pytest.CaptureFixture[str]


def generator() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return DcganGenerator((6, 16, 8, 4, 3)).state_dict()


def saved(found: object, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(found, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def running(probe: Path) -> Calls:
    return Calls(os.system, f"touch {probe}")


def inflating() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(0))
        archive.writestr("archive/data/0", bytes(50_000_000))
    return buffer.getvalue()


def classifier() -> dict[str, torch.Tensor]:
    """Keys and shapes as in torchvision's ResNet-18, narrower."""
    state = {"conv1.weight": torch.zeros(8, 3, 7, 7)}
    for name in ("bn1", "layer1.0.bn1", "layer1.0.bn2"):
        state |= {f"{name}.{key}": torch.ones(8) for key in ("weight", "bias", "running_mean", "running_var")}
    state |= {f"layer1.0.conv{index}.weight": torch.zeros(8, 8, 3, 3) for index in (1, 2)}
    return state | {"fc.weight": torch.zeros(1000, 8), "fc.bias": torch.zeros(1000)}


def discriminator() -> dict[str, torch.Tensor]:
    shapes = {0: (8, 3, 4, 4), 2: (16, 8, 4, 4), 5: (32, 16, 4, 4), 8: (1, 32, 4, 4)}
    return {f"main.{index}.weight": torch.zeros(shape) for index, shape in shapes.items()}


def optimizer() -> dict[str, object]:
    layer = torch.nn.Linear(2, 2)
    adam = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    adam.step()
    return adam.state_dict()


def with_number(number: float) -> dict[str, torch.Tensor]:
    state = generator()
    state["main.3.weight"][0, 0, 0, 0] = number
    return state


def network_of_tensorflow() -> bytes:
    network = b"cdnnlib.tflib.network\nNetwork\n)\x81}b"
    return b"\x80\x03" + network * 3 + b"\x87."


def of(data: Callable[[Path], bytes]) -> Write:
    return lambda path, probe: path.write_bytes(data(probe))


REFUSED: dict[str, tuple[Write, str]] = {
    "missing": (lambda path, probe: None, "no such file"),
    "an empty folder": (lambda path, probe: path.mkdir(), "folder"),
    "zero bytes": (of(lambda p: b""), "the file is empty"),
    "one byte": (of(lambda p: b"\x80"), "not a checkpoint"),
    "a zip cut short": (of(lambda p: saved(generator())[:-300]), "truncated or damaged"),
    "a legacy file cut short": (of(lambda p: saved(generator(), legacy=True)[:-9]), "truncated or damaged"),
    "a legacy file's first bytes": (of(lambda p: saved(generator(), legacy=True)[:40]), "truncated or damaged"),
    "safetensors cut short": (of(lambda p: safetensors.torch.save(generator())[:-9]), "broken safetensors"),
    "a Git LFS pointer": (of(lambda p: b"version https://git-lfs.github.com/spec/v1\noid sha256:0"), "Git LFS"),
    "a web page": (of(lambda p: b"<!DOCTYPE html><title>Sign in</title>"), "web page"),
    "a picture": (of(lambda p: b"\x89PNG\r\n\x1a\n" + bytes(100)), "a PNG image, not weights"),
    "text": (of(lambda p: b"loss 0.1\nloss 0.2\n"), "a text file .*, not weights"),
    "a random file": (of(lambda p: np.random.RandomState(5).bytes(5000)), "not a checkpoint"),
    "code in a zip": (of(lambda p: saved({"main.0.weight": running(p)})), "no tensors of a network"),
    "code in a legacy file": (
        of(lambda p: saved({"main.0.weight": running(p)}, legacy=True)), "no tensors of a network"),
    "a whole module": (of(lambda p: saved(torch.nn.Linear(2, 2))), "no known generator"),
    "a whole module, pickled": (of(lambda p: pickle.dumps(torch.nn.Linear(2, 2))), "no known generator"),
    "a zip that inflates": (of(lambda p: inflating()), "inflate far beyond"),
    "a tensor of endless size": (of(lambda p: saved({"x": torch.zeros(1).expand(10**12)})), "claims 1000000000000"),
    "one storage, many tensors": (
        of(lambda p: saved(dict.fromkeys(map(str, range(99)), torch.zeros(9999)))), "share storage"),
    "NaN": (of(lambda p: saved(with_number(float("nan")))), "main.3.weight carries NaN"),
    "infinity": (of(lambda p: saved(with_number(float("-inf")))), "main.3.weight carries NaN or infinity"),
    "NaN in safetensors": (of(lambda p: safetensors.torch.save(with_number(float("nan")))), "carries NaN"),
    "a classifier": (of(lambda p: saved(classifier())), "no known generator: 17 tensors, beginning conv1.weight"),
    "a classifier in safetensors": (of(lambda p: safetensors.torch.save(classifier())), "no known generator"),
    "a discriminator": (of(lambda p: saved(discriminator())), "discriminator"),
    "a generator and its discriminator": (
        of(lambda p: saved(generator() | discriminator())), "discriminator|no known generator"),
    "an optimizer": (of(lambda p: saved(optimizer())), "an optimizer's state and no network"),
    "a tensor": (of(lambda p: saved(torch.zeros(3))), "holds a Tensor"),
    "an empty dict": (of(lambda p: saved({})), "holds an empty dict"),
    "a list": (of(lambda p: saved([1, 2])), "holds a list"),
    "a conv of another width": (
        of(lambda p: saved(generator() | {"main.3.weight": torch.zeros(5, 8, 4, 4)})), "no known generator"),
    "a norm of another width": (
        of(lambda p: saved(generator() | {"main.1.bias": torch.zeros(3)})), "no known generator"),
    "a scalar for a kernel": (
        of(lambda p: saved(generator() | {"main.0.weight": torch.tensor(1.0)})), "no known generator"),
    "a tensor more": (of(lambda p: saved(generator() | {"main.99.weight": torch.zeros(3)})), "no known generator"),
    "a sparse tensor": (of(lambda p: saved(generator() | {"main.1.bias": torch.eye(3).to_sparse()})), "sparse"),
    "whole numbers": (
        of(lambda p: saved({key: value.long() for key, value in generator().items()})), "quantised weights"),
    "TensorFlow's StyleGAN": (of(lambda p: network_of_tensorflow()), "a TensorFlow network"),
    "an average of NaN": (
        lambda path, probe: write_snapshot(path, {"G_ema": undefined()}, probe), "mapping.w_avg carries NaN"),
    **{f"pickle: {name}": (of(write), "") for name, (write, _) in HOSTILE.items() if name != "endless steps"},
}  # fmt: skip


# Read all the same: what would run is left out.
WITH_CODE: dict[str, Write] = {
    "a zip": of(lambda p: saved({"netG": generator(), "log": running(p)})),
    "a legacy file": of(lambda p: saved({"netG": generator(), "log": running(p)}, legacy=True)),
    "a pickle": of(lambda p: pickle.dumps({"G_ema": generator(), "log": running(p)})),
}


def undefined() -> Generator:
    network = Generator(6, 0, 5, 8, 3, 2, (6, 4))
    network.mapping.w_avg.fill_(float("nan"))
    return network


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_one_line_with_nothing_written_and_nothing_run(
    tmp_path: Path, name: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, sentence = REFUSED[name]
    place, probe = tmp_path / "place", tmp_path / "something-ran"
    place.mkdir()
    monkeypatch.chdir(place)
    path = place / "netG.pth"
    write(path, probe)
    before = contents(place)
    export = ["export", str(path), "--repository", str(place / "repository"), "--name", "mine"]
    for command in (["inspect", str(path)], export, [*export, "--arch", "dcgan"]):
        assert main(command) == 2
        said = capsys.readouterr()
        assert said.err.count("\n") == 1, said.err
        assert said.err.startswith("ganserve: ")
        assert len(said.err) < 700
        assert "Traceback" not in said.err + said.out
        assert contents(place) == before, "something was written"
        assert not (place / "repository").exists()
        assert not probe.exists(), "something was run"
        if "--arch" not in command:
            assert re.search(sentence, said.err), said.err


@pytest.mark.parametrize("name", WITH_CODE)
def test_a_generator_beside_code_is_read_and_the_code_not_run(tmp_path: Path, name: str, capsys: Capture) -> None:
    probe, path = tmp_path / "something-ran", tmp_path / "netG.pth"
    WITH_CODE[name](path, probe)
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["architecture"] == "dcgan"
    assert not probe.exists()


def test_the_same_file_would_run(tmp_path: Path) -> None:
    """Otherwise the tests above show nothing."""
    probe, path = tmp_path / "something-ran", tmp_path / "netG.pth"
    WITH_CODE["a pickle"](path, probe)
    pickle.loads(path.read_bytes())
    assert probe.exists()


@pytest.mark.slow
def test_the_command_itself_ends_with_2_and_one_line(tmp_path: Path) -> None:
    path, probe, repository = tmp_path / "netG.pth", tmp_path / "something-ran", tmp_path / "repository"
    REFUSED["code in a zip"][0](path, probe)
    export = ["export", str(path), "--repository", str(repository), "--name", "mine"]
    result = subprocess.run([sys.executable, "-m", "ganserve", *export], capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1
    assert "netG.pth" in result.stderr
    assert (probe.exists(), repository.exists()) == (False, False)
