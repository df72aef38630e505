"""Folders of one's own pictures, the recipe that learns from them, and what keeps a run from being lost."""

import re
import shlex
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from typer.testing import CliRunner

from export.inspection import inspect
from models.catalogue import build
from tests.docs.pages import read
from training import __main__ as command
from training.data.folder import load
from training.data.packages import DataError
from training.discriminators import save_discriminator
from training.networks.stylegan2 import StyleGan2
from training.networks.stylegan2_layouts import save_weights
from training.recipes import images, stylegan2


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


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training of seconds."""
    monkeypatch.setattr(images, "STEPS_PER_EPOCH", 2)
    monkeypatch.setattr(stylegan2, "MEAN_OF", 8)
    monkeypatch.setattr(images, "train", partial(images.train, widths=(8, 8, 6, 4)))


def on_page(block: int) -> list[list[str]]:
    """The commands in a block of docs/training.md, in words."""
    return [
        shlex.split(line) for line in re.findall(r"```sh\n(.*?)```", read("training.md"), re.DOTALL)[block].splitlines()
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_the_three_commands_of_the_page_lead_to_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, export, serve = on_page(0)
    assert (export[:2], serve[:2]) == (["ganserve", "export"], ["ganserve", "serve"])
    monkeypatch.chdir(pictures(tmp_path / "pictures").parent)
    for path in [*tmp_path.glob("*/*/*.png"), *tmp_path.glob("*/*/*/*.JPG")]:
        path.rename(tmp_path / "pictures" / f"{path.parent.name}-{path.name}")
    done = CliRunner().invoke(command.app, [*train[3:], "--epochs", "2"])
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stderr.splitlines() if "epoch" in line and "discriminator" in line]
    assert [line.partition("  ")[0] for line in lines] == ["images: epoch 1/2", "images: epoch 2/2"]
    assert "10 pictures, 32 px; no labels" in done.stderr
    assert inspect(export[2]).architecture == "stylegan2"
    assert (tmp_path / "out" / "mine" / "images-discriminator.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_folders_are_labels_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((*export, file, option, names, _, _, _, _),) = on_page(1)
    assert (export, option) == (["ganserve", "export"], "--labels")
    monkeypatch.chdir(pictures(tmp_path / "pictures").parent)
    done = CliRunner().invoke(command.app, [*on_page(0)[0][3:], "--epochs", "1"])
    assert done.exit_code == 0, done.output
    assert "labels: cats (5), dogs (5)" in done.stderr
    assert f"ganserve export {file} --labels {names}" in done.stderr
    assert Path(names).read_text() == "cats\ndogs\n"
    assert inspect(file).architecture == "stylegan2-ada"


@pytest.mark.slow
def test_a_network_with_labels_is_exported_as_it_was_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = StyleGan2((8, 8, 6, 4), stylegan2.LATENT, stylegan2.DEPTH, classes=3).eval()
    save_weights(trained, stylegan2.mean_of(trained), tmp_path / "labelled.safetensors")
    network = build(load_file(tmp_path / "labelled.safetensors"))[1].network
    latent = torch.from_numpy(np.random.RandomState(3).randn(1, stylegan2.LATENT).astype(np.float32))
    nothing = torch.zeros(1, 8, stylegan2.LATENT), torch.zeros(1)
    for label, psi in ((0, 1.0), (2, 1.0), (2, 0.4)):
        found = network(latent, torch.tensor([label]), torch.tensor([psi]), *nothing)
        wanted = stylegan2.pictures(trained, range(3, 4), psi, label)
        torch.testing.assert_close(found.clamp(-1, 1), wanted, rtol=0, atol=1e-4)
        assert wanted.std() > 0.1
