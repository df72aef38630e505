"""Folders of one's own pictures, the recipe that learns from them, and what keeps a run from being lost."""

import re
import shlex
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from typer.testing import CliRunner

from export.inspection import inspect
from tests.docs.pages import read
from training import __main__ as command
from training.data.folder import load
from training.data.packages import DataError
from training.discriminators import save_discriminator
from training.recipes import emoji_stylegan2


def picture(path: Path, colour: str, size: tuple[int, int] = (40, 20), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def pictures(folder: Path) -> Path:
    for at in range(5):
        picture(folder / "cats" / f"{at}.png", "red")
        picture(folder / "dogs" / "old" / f"{at}.JPG", "blue")
    return folder


def test_labels_are_the_folders(tmp_path: Path) -> None:
    found = load(pictures(tmp_path), 8)
    assert found.names == ("cats", "dogs")
    assert found.data.labels.tolist() == [0] * 5 + [1] * 5
    assert found.data.pictures.shape == (10, 3, 8, 8)
    assert found.data.pictures[0, :, 0, 0].tolist() == [255, 0, 0]


def test_a_picture_is_put_on_white_and_its_middle_is_taken(tmp_path: Path) -> None:
    for at in range(8):
        made = Image.new("RGBA", (30, 10), (0, 0, 0, 0))
        made.paste((0, 255, 0, 255), (10, 0, 15, 10))
        made.save(tmp_path / f"{at}.png")
    found = load(tmp_path, 10)
    assert found.names == ()
    assert found.data.pictures[0, :, 5, 1].tolist() == [0, 255, 0]
    assert found.data.pictures[0, :, 5, 8].tolist() == [255, 255, 255]


def test_what_is_no_folder_of_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load(tmp_path / "gone", 8)
    picture(tmp_path / "one.png", "red")
    with pytest.raises(DataError, match=r"1 pictures .*; at least 8 are needed"):
        load(tmp_path, 8)
    with pytest.raises(DataError, match=r"holds one\.png beside the folder cats"):
        load(pictures(tmp_path), 8)
    (tmp_path / "one.png").unlink()
    (tmp_path / "cats" / "0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"0\.png: is no picture that can be read"):
        load(tmp_path, 8)


def test_a_run_that_is_there_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "images.pt").write_bytes(b"")
    run = ["images", "--data", str(tmp_path / "gone"), "--out", str(tmp_path)]
    refused = CliRunner().invoke(command.app, run)
    assert (refused.exit_code, "--resume goes on with it, --overwrite starts over" in refused.stderr) == (2, True)
    both = CliRunner().invoke(command.app, [*run, "--resume", "--overwrite"])
    assert (both.exit_code, "give one of them" in both.stderr) == (2, True)
    over = CliRunner().invoke(command.app, [*run, "--overwrite"])
    assert (over.exit_code, "no such folder" in over.stderr) == (2, True)


def test_a_discriminator_says_whose_it_is(tmp_path: Path) -> None:
    network = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(3, 2))
    save_discriminator(network, tmp_path / "faces.safetensors")
    with safe_open(tmp_path / "faces-discriminator.safetensors", "pt") as file:
        assert set(file.keys()) == set(network.state_dict())
        assert file.metadata()["generator"] == "faces.safetensors"


@pytest.mark.slow
def test_the_three_commands_of_the_page_lead_to_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", read("training.md"), re.DOTALL)
    train, export, serve = (shlex.split(line) for line in block.splitlines())
    assert serve[:2] == ["ganserve", "serve"]
    pictures(tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "STEPS_PER_EPOCH", 2)
    monkeypatch.setattr(emoji_stylegan2, "MEAN_OF", 8)
    monkeypatch.setattr(emoji_stylegan2, "train", partial(emoji_stylegan2.train, widths=(8, 8, 6, 4)))
    done = CliRunner().invoke(command.app, [*train[3:], "--epochs", "2"])
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stderr.splitlines() if "epoch" in line and "discriminator" in line]
    assert [line.partition("  ")[0] for line in lines] == ["images: epoch 1/2", "images: epoch 2/2"]
    assert "10 pictures of 2 folders" in done.stderr
    assert export[:2] == ["ganserve", "export"]
    assert inspect(export[2]).architecture == "stylegan2"
    assert (tmp_path / "out" / "mine" / "images-discriminator.safetensors").is_file()
