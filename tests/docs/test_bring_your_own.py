"""The commands of docs/bring-your-own.md, run as they stand in a folder that has the files they name."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ganserve.cli.main import main
from models.families.basic.dcgan import DcganGenerator
from tests.docs.pages import ROOT
from tests.export.adopt.graphs import generator, mapping, saved, synthesis, upscaler

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
    for name, proto in (("upscaler", upscaler()), ("synthesis", synthesis()), ("mapping", mapping())):
        saved(proto, tmp_path, f"{name}.onnx")
    run_commands("An ONNX graph", tmp_path)
    assert {path.name for path in (tmp_path / "repository").iterdir()} == {"mine", "sharp", "faces"}


class Conditional(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.main = nn.Sequential(*layers)

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        found: Tensor = self.main(latent + label[:, None])
        return found


def test_a_network_of_your_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawing(kind: type[nn.Module]) -> nn.Module:
        return kind(nn.Linear(64, 192), nn.Unflatten(1, (3, 8, 8)), nn.Tanh())

    networks = {
        "netG": drawing(nn.Sequential),
        "netC": drawing(Conditional),
        "netSR": nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2), nn.Sigmoid()),
        "netT": nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()),
    }

    def adopted_here(graph: Path, options: list[str], *_: object) -> None:
        assert main(["export", str(graph), *options]) == 0

    monkeypatch.setattr("ganserve.module.export._adopted", adopted_here)  # which starts a process for each
    monkeypatch.chdir(tmp_path)
    for code in blocks("A network of your own", "python"):
        exec(code, dict(networks))
    run_commands("A network of your own", tmp_path)
    assert {path.name for path in (tmp_path / "repository").iterdir()} == {"mine", "digits", "sharp", "photo"}
    assert "max_batch_size: 16" in (tmp_path / "repository" / "mine" / "config.pbtxt").read_text()


def test_the_five_steps_are_where_the_page_says() -> None:
    title = "To add an architecture, do these five things"
    assert "(../CONTRIBUTING.md#to-add-an-architecture-do-these-five-things)" in PAGE
    steps = (ROOT / "CONTRIBUTING.md").read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert re.findall(r"^(\d)\.", steps, re.MULTILINE) == list("12345")
    assert all((ROOT / name).exists() for name in re.findall(r"`([a-z_]+(?:/[a-z_]+)+\.py)`", steps))
