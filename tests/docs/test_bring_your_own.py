"""The commands of docs/bring-your-own.md, run as they stand in a folder that has the files they name."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from models.families.basic.dcgan import DcganGenerator
from tests.docs.pages import ROOT
from tests.export.adopt.graphs import generator, saved, upscaler

PAGE = (ROOT / "docs" / "bring-your-own.md").read_text()


def blocks(title: str, language: str) -> list[str]:
    """The code of a section."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def run_commands(title: str, folder: Path) -> None:
    """Runs every command but the server."""
    lines = [line for block in blocks(title, "sh") for line in block.splitlines()]
    assert lines
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for line in lines:
        name, *options = shlex.split(line)
        assert name == "ganserve", line
        if options[0] != "serve":
            command = [sys.executable, "-m", name, *options]
            subprocess.run(command, cwd=folder, check=True, env=environment, capture_output=True)


def test_a_known_file(tmp_path: Path) -> None:
    torch.save(DcganGenerator((6, 16, 8, 3)).state_dict(), tmp_path / "netG.pth")
    run_commands("A known file", tmp_path)
    assert (tmp_path / "repository" / "faces" / "1" / "model.onnx").is_file()


def test_an_onnx_graph(tmp_path: Path) -> None:
    named = generator()
    named.graph.input[0].name = named.graph.node[0].input[0] = "z"
    saved(named, tmp_path, "generator.onnx")
    saved(upscaler(), tmp_path, "upscaler.onnx")
    run_commands("An ONNX graph", tmp_path)
    assert {path.name for path in (tmp_path / "repository").iterdir()} == {"mine", "sharp"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's tracing exporter, which gives free axes by name
def test_a_network_of_your_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Linear(64, 192), nn.Unflatten(1, (3, 8, 8)), nn.Tanh())
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("A network of your own", "python")
    exec(code, {"netG": network})
    run_commands("A network of your own", tmp_path)
    assert "max_batch_size: 16" in (tmp_path / "repository" / "mine" / "config.pbtxt").read_text()
