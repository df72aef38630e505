"""The recipes of the translators, and what they share."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from demo.gallery import EXAMPLES
from models import catalogue
from models.checkpoints.read import read
from models.zoo.fetch import WEIGHTS
from training.cards import emoji_cyclegan as emoji_cyclegan_card
from training.cards import emoji_pix2pix as emoji_pix2pix_card
from training.cards.translation import distance_levels
from training.loop import ResumeError
from training.metrics.judge import to_signed
from training.patches import PatchDiscriminator, PicturePool, crop, draw_weights, held_out, jitter, spread, translate
from training.recipes import emoji_cyclegan, emoji_pix2pix

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
NAMES = ("emoji-cyclegan", "emoji-cyclegan-reverse")


def drawings(seed: int, count: int = 20) -> torch.Tensor:
    """(count, 3, 64, 64) uint8: a coloured box on white each."""
    random = np.random.RandomState(seed)
    pictures = np.full((count, 3, 64, 64), 255, dtype=np.uint8)
    for picture in pictures:
        top, left = random.randint(0, 32, 2)
        picture[:, top : top + 24, left : left + 24] = random.randint(0, 256, (3, 1, 1))
    return torch.from_numpy(pictures)


def test_an_outline_is_black_where_neighbours_differ_in_any_channel() -> None:
    picture = torch.full((1, 3, 6, 6), 200, dtype=torch.uint8)
    picture[:, 2, 2:4, 2:4] = 100
    lines = emoji_pix2pix.outline(picture)
    expected = torch.tensor(
        [[255] * 6, [255, 255, 0, 0, 255, 255], [255, 0, 255, 0, 255, 255], [255, 0, 0, 0, 255, 255], *[[255] * 6] * 2]
    )
    assert lines.dtype == torch.uint8
    for channel in lines[0]:
        torch.testing.assert_close(channel.int(), expected.int())


def test_a_faint_change_is_no_line() -> None:
    picture = torch.full((1, 3, 4, 4), 200, dtype=torch.uint8)
    picture[..., 2:] = 200 - emoji_pix2pix.EDGE_LEVELS
    assert emoji_pix2pix.outline(picture).min() == 255


def test_every_tenth_is_held_out() -> None:
    kept = held_out(31)
    assert torch.nonzero(kept)[:, 0].tolist() == [9, 19, 29]


def test_a_sheet_shows_pictures_from_first_to_last() -> None:
    assert spread(163, 12)[[0, -1]].tolist() == [0, 162]
    assert spread(3, 12).tolist() == [0, 1, 2]


def test_jitter_moves_pictures_over_white_and_crop_cuts_windows_out_of_them() -> None:
    pictures, random = drawings(0), torch.Generator().manual_seed(0)
    moved = jitter(pictures, 4, random)
    assert moved.shape == pictures.shape
    assert not torch.equal(moved, pictures)
    colours = {tuple(colour) for colour in moved[0].flatten(1).T.tolist()}
    assert colours <= {tuple(colour) for colour in pictures[0].flatten(1).T.tolist()}
    assert crop(pictures, 40, random).shape == (20, 3, 40, 40)


def test_the_pool_gives_each_picture_or_a_past_one_and_keeps_its_size() -> None:
    pool, random = PicturePool(3), torch.Generator().manual_seed(0)
    seen: set[float] = set()
    for number in range(60):
        given = pool.exchange(torch.full((1, 1, 1, 1), float(number)), random).item()
        assert given == number or given in seen
        seen.add(float(number))
    assert len(pool.kept) == 3
    assert min(kept.item() for kept in pool.kept) > 3, "past pictures are replaced"


def test_patches_are_scored_apart() -> None:
    discriminator = PatchDiscriminator(3, 4, 2)
    assert discriminator(torch.zeros(2, 3, 64, 64)).shape == (2, 1, 14, 14)
    assert discriminator(torch.zeros(1, 3, 40, 40)).shape == (1, 1, 8, 8)
    assert discriminator.mean_score(torch.zeros(2, 3, 40, 40)).shape == (2,)


def test_distances_are_said_in_levels() -> None:
    assert distance_levels(torch.full((1, 3, 2, 2), -1.0), torch.full((1, 3, 2, 2), 1.0)) == pytest.approx(255)


def pix2pix(out: Path, epochs: int, *, resume: bool = False, seed: int = 3) -> None:
    pictures = drawings(1)
    network, history = emoji_pix2pix.train(
        pictures, epochs=epochs, seed=seed, out=out, resume=resume, device=CPU, widths=(4, 4, 4, 4)
    )
    emoji_pix2pix_card.write_card(
        network, history, pictures, command="a command", device=CPU, path=out / "emoji-pix2pix.md"
    )


def test_pix2pix_resumed_ends_where_an_uninterrupted_run_does(tmp_path: Path) -> None:
    pix2pix(tmp_path / "whole", 2)
    pix2pix(tmp_path / "parts", 1)
    pix2pix(tmp_path / "parts", 2, resume=True)
    for name in ("emoji-pix2pix.safetensors", "emoji-pix2pix.png", "epoch-02.png"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    with pytest.raises(ResumeError, match="'seed': 3"):
        pix2pix(tmp_path / "parts", 3, resume=True, seed=4)


def test_pix2pix_leaves_weights_that_export_reads_and_a_card_of_how(tmp_path: Path) -> None:
    pix2pix(tmp_path, 1)
    name, generator = catalogue.build(read(tmp_path / "emoji-pix2pix.safetensors").state)
    assert (name, generator.hyperparameters["norm"], generator.multiple_px) == ("unet", "batch", 16)
    card = (tmp_path / "emoji-pix2pix.md").read_text()
    for said in ("emoji-pix2pix.png", "Apache-2.0", "| white paper |", "2 pictures that training never saw"):
        assert said in card


def cyclegan(out: Path, epochs: int, *, resume: bool = False) -> None:
    hands = drawings(1), drawings(2)
    networks, history = emoji_cyclegan.train(
        *hands, epochs=epochs, seed=3, out=out, resume=resume, device=CPU, widths=(4, 4)
    )
    emoji_cyclegan_card.write_cards(networks, history, hands, command="a command", device=CPU, out=out)


def test_cyclegan_resumed_ends_where_an_uninterrupted_run_does(tmp_path: Path) -> None:
    cyclegan(tmp_path / "whole", 2)
    cyclegan(tmp_path / "parts", 1)
    cyclegan(tmp_path / "parts", 2, resume=True)
    for name in NAMES:
        for file in (f"{name}.safetensors", f"{name}.png", f"{name}.md"):
            parts, whole = (tmp_path / run / file for run in ("parts", "whole"))
            if file.endswith(".md"):
                assert "OFL-1.1" in whole.read_text()
            else:
                assert parts.read_bytes() == whole.read_bytes(), file


def test_cyclegan_leaves_two_different_translators_that_export_reads(tmp_path: Path) -> None:
    cyclegan(tmp_path, 1)
    states = [read(tmp_path / f"{name}.safetensors").state for name in NAMES]
    assert [catalogue.build(state)[0] for state in states] == ["unet", "unet"]
    assert not torch.equal(*(state["model.model.0.weight"] for state in states))


@pytest.mark.parametrize("name", ["emoji-pix2pix", *NAMES])
def test_the_committed_translators_are_small_and_in_half_precision(name: str) -> None:
    path = WEIGHTS / f"{name}.safetensors"
    assert path.stat().st_size <= 4e6
    assert all(tensor.dtype in (torch.float16, torch.int64) for tensor in load_file(path).values())


def test_the_committed_pix2pix_colours_a_face_yellow() -> None:
    y, x = np.mgrid[:64, :64]
    ring = np.abs(np.hypot(x - 32, y - 32) - 28) < 1.2
    eyes = np.hypot(np.abs(x - 32) - 10, y - 26) < 4
    mouth = (np.abs(np.hypot(x - 32, y - 30) - 17) < 1) & (y > 38)
    lines = torch.from_numpy(np.where(ring | eyes | mouth, 0, 255).astype(np.uint8)).expand(1, 3, 64, 64)
    network = catalogue.build(read(WEIGHTS / "emoji-pix2pix.safetensors").state)[1].network
    red, green, blue = translate(network, lines, CPU)[0, :, 14:20, 24:40].flatten(1).mean(1)
    assert min(red, green) > blue + 0.5


def test_the_committed_cyclegan_draws_in_black_and_white_and_its_reverse_in_colour() -> None:
    there, back = (catalogue.build(read(WEIGHTS / f"{name}.safetensors").state)[1].network for name in NAMES)
    smiley, outlines = (
        torch.from_numpy(np.array(Image.open(EXAMPLES / name).convert("RGB"))).permute(2, 0, 1)[None]
        for name in ("smiley.png", "smiley-outline.png")
    )
    ink = translate(there, smiley, CPU)
    assert _colourful(ink) < 0.05 < _colourful(to_signed(smiley))
    assert (ink.abs() > 0.8).float().mean() > 0.8, "black or white"
    assert _colourful(translate(back, outlines, CPU)) > 0.02


def _colourful(pictures: torch.Tensor) -> float:
    """The mean distance of the channels from their mean, in -1..1."""
    return (pictures - pictures.mean(1, keepdim=True)).abs().mean().item()


def test_transposed_convs_begin_as_smooth_enlargement() -> None:
    layer = torch.nn.ConvTranspose2d(3, 2, 4, 2, 1)
    draw_weights(layer)
    drawn = layer(torch.ones(1, 3, 8, 8))[:, :, 2:-2, 2:-2]
    assert drawn.std((2, 3)).max() < 1e-6 < drawn.abs().min()
