"""What was taken from a file, and what was assumed of it, is said wherever somebody may look."""

import json
from pathlib import Path

import pytest
import torch

from export.errors import ExportError
from export.inspection import inspect
from export.pipeline import Request, export
from export.source import open_source
from tests.models.checkpoints.field_networks import SIGMOID, E, G, scripted

ASSUMED = "assumed, since the file does not say it: eps=1e-05, slope=0.0, output=tanh, classes=0; --set KEY=VALUE"


@pytest.fixture
def two_copies(tmp_path: Path) -> Path:
    torch.save({"netG": G, "netG_EMA": E}, tmp_path / "all.pth")
    return tmp_path / "all.pth"


def test_inspect_says_what_was_taken_and_what_was_assumed(two_copies: Path) -> None:
    found = inspect(two_copies)
    assert found.notes == ("taken from key netG_EMA (the running average)",)
    assert found.assumed["output=tanh"] == "activation of the last layer; --set output=tanh|sigmoid|none"
    assert inspect(two_copies, key="netG").notes == ("taken from key netG",)


def test_what_the_user_or_the_file_says_is_not_assumed(tmp_path: Path, two_copies: Path) -> None:
    assert "output=tanh" not in inspect(two_copies, overrides={"output": "tanh"}).assumed
    scripted(SIGMOID)(tmp_path / "a.pt")
    told = open_source(tmp_path / "a.pt", "auto", {}, None, lambda line: None)
    assert "output" not in told.assumed
    assert told.generator.output_range == (0.0, 1.0)


def test_an_architecture_that_is_none_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--arch nonsense: must be auto or one of"):
        inspect(tmp_path / "missing.pth", arch="nonsense")


@pytest.mark.slow
def test_export_and_manifest_say_it_and_what_parity_means(tmp_path: Path, two_copies: Path) -> None:
    exported = export(Request(two_copies, tmp_path / "repository", "mine"))
    assert exported.notes[0] == "taken from key netG_EMA (the running average)"
    assert exported.notes[1].startswith(ASSUMED)
    assert exported.notes[2].startswith("parity of the ONNX graph with the PyTorch network built from this file: ")
    manifest = json.loads((exported.folder / "manifest.json").read_text())
    assert manifest["provenance"]["notes"] == list(exported.notes[:2])


@pytest.mark.parametrize(
    ("repository", "name", "option"),
    [("r", "a/b", "--name: model name 'a/b'"), ("all.pth", "m", "--repository: cannot")],
)
def test_what_can_be_checked_first_is_and_the_option_is_named(
    tmp_path: Path, two_copies: Path, repository: str, name: str, option: str
) -> None:
    lines: list[str] = []
    with pytest.raises(ExportError, match=option):
        export(Request(two_copies, tmp_path / repository, name), lambda line, share=None: lines.append(line))
    assert not lines, "before any work"
