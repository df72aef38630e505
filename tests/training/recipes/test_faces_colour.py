"""The recipe of `faces-colour`, its colours and figures, and the weights that it left in the repository."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from demo.gallery import EXAMPLES
from export.source import open_source
from models.catalogue import build
from models.zoo.fetch import WEIGHTS
from training.cards.faces_colour import write_card
from training.colours import ab_psnr_db, coloured, colourfulness, lab
from training.recipes.faces_colour import Figures, train

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
WHITE_RED_BLUE = torch.tensor([[[255, 255, 0]], [[255, 0, 0]], [[255, 0, 255]]], dtype=torch.uint8)[None]


def scenes(seed: int, count: int) -> torch.Tensor:
    """(count, 3, 64, 64) uint8: bright green discs on dark red."""
    random = np.random.RandomState(seed)
    rows, columns = np.mgrid[:64, :64]
    pictures = np.zeros((count, 3, 64, 64), np.uint8)
    pictures[:, 0] = 90
    for picture in pictures:
        (x, y), radius = random.randint(20, 44, 2), random.randint(8, 20)
        inside = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
        picture[:, inside] = np.array([[60], [220], [80]])
    return torch.from_numpy(pictures)


def run(out: Path, epochs: int, *, resume: bool = False) -> Figures:
    return train(
        scenes(0, 16), scenes(1, 12), epochs=epochs, seed=5, out=out, resume=resume, device=CPU, widths=(4, 4, 4, 4, 4)
    )


def test_lab_is_what_tables_say_of_white_red_and_blue() -> None:
    light, colours = lab(WHITE_RED_BLUE)
    torch.testing.assert_close(light.flatten(), torch.tensor([100.0, 53.24, 32.30]), rtol=0, atol=0.02)
    wanted = torch.tensor([[0.0, 0.0], [80.09, 67.20], [79.19, -107.86]])
    torch.testing.assert_close(colours[0, :, 0].T, wanted, rtol=0, atol=0.05)


def test_true_colours_give_the_picture_back_and_have_figures() -> None:
    pictures = scenes(0, 2)
    true = lab(pictures)[1]

    class Known(torch.nn.Module):
        def forward(self, light: torch.Tensor) -> torch.Tensor:
            return true / 110

    found = coloured(Known(), pictures, 64)
    assert (found.int() - pictures.int()).abs().max() <= 1
    assert ab_psnr_db(true + 2.2, true) == pytest.approx(40, abs=0.01)
    assert colourfulness(pictures) > 50
    assert colourfulness(pictures.float().mean(1, keepdim=True).expand(-1, 3, -1, -1)) == 0


def test_a_resumed_run_ends_where_an_uninterrupted_one_does_and_leaves_a_card(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", 2)
    run(tmp_path / "parts", 1)
    parts = run(tmp_path / "parts", 2, resume=True)
    assert (parts.history.losses, parts.rows) == (whole.history.losses, whole.rows)
    first, second = (
        load_file(tmp_path / name / "faces-colour-discriminator.safetensors") for name in ("whole", "parts")
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0)  # the order of what the file's header says is by chance
    for file in ("faces-colour.safetensors", "faces-colour.png"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    assert build(load_file(tmp_path / "whole" / "faces-colour.safetensors"))[1].input_channels == 3
    write_card(whole, epochs=2, seed=5, device=CPU, path=tmp_path / "card.md")
    card = (tmp_path / "card.md").read_text()
    for said in ("python -m training faces-colour --epochs 2 --seed 5", "(faces-colour.png)", "| grey |", "DigiFace"):
        assert said in card


def test_the_committed_network_colours_a_photograph_and_keeps_its_lightness() -> None:
    assert (WEIGHTS / "faces-colour.safetensors").stat().st_size <= 4e6
    network = open_source("faces-colour", "auto", {}, None, print).generator.network
    with Image.open(EXAMPLES / "portrait-grey.png") as opened:
        levels = np.asarray(opened.convert("RGB").resize((150, 90)))
    given = torch.from_numpy(levels.copy()).permute(2, 0, 1)[None]
    with torch.no_grad():
        found = (network(given.float() / 255) * 255).round().to(torch.uint8)
    assert found.shape == given.shape
    assert colourfulness(found) > 10
    assert (lab(found)[0] - lab(given)[0]).abs().mean() < 1
