"""The recipe of `faces-srgan`, its measures, and the weights that it left in the repository."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from models.catalogue import build
from models.families.superres.srresnet import SrResNet, SrResNetConfig
from models.zoo.fetch import WEIGHTS as ZOO_WEIGHTS
from training.cards.faces_srgan import write_card
from training.data.generated_faces import HELD_OUT, TRAINED, Pairs, draw, resize
from training.loop import ResumeError
from training.metrics import likeness
from training.networks.srgan import feature_distance, relativistic, start_as_enlarger
from training.recipes.faces_srgan import Figures, Size, enlarge, train

CPU = torch.device("cpu")
WEIGHTS = ZOO_WEIGHTS / "faces-srgan.safetensors"
SMALL = Size(features=8, blocks=1, width=4, pretraining_epochs=1, batch_size=4)


def discs(seed: int, count: int) -> Pairs:
    """Pale discs on dark ground, 64x64, and their reductions."""
    random = np.random.RandomState(seed)
    rows, columns = np.mgrid[:64, :64]
    pictures = []
    for _ in range(count):
        (x, y), radius = random.randint(20, 44, 2), random.randint(8, 20)
        inside = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
        colours = random.randint(0, 256, (2, 3, 1, 1))
        pictures.append(np.where(inside, colours[0], colours[1] // 3))
    high = torch.from_numpy(np.stack(pictures).astype(np.uint8))
    return Pairs(high, resize(high, 16))


def test_no_face_is_both_learned_from_and_measured_on() -> None:
    assert not set(TRAINED) & set(HELD_OUT)


def test_faces_are_drawn_from_their_seeds() -> None:
    class Echo(nn.Module):
        def forward(self, latent: Tensor) -> Tensor:
            return latent[:, :3, None, None].clamp(-1, 1).expand(-1, -1, 4, 4)

    found = draw(Echo(), range(7, 130), 5)
    value = np.clip(np.random.RandomState(129).randn(1, 5)[0, 1], -1, 1)
    assert found.shape == (123, 3, 4, 4)
    assert found[122, 1, 0, 0] == round((value + 1) / 2 * 255)


def test_pictures_are_resized_as_pillow_does() -> None:
    picture = discs(0, 1)
    wanted = Image.fromarray(picture.high[0].permute(1, 2, 0).numpy()).resize((16, 16), Image.Resampling.BICUBIC)
    assert np.array_equal(picture.low[0].permute(1, 2, 0).numpy(), np.asarray(wanted))


def test_psnr_is_of_the_peak_of_255() -> None:
    black, grey = torch.zeros(2, 3, 16, 16, dtype=torch.uint8), torch.full((2, 3, 16, 16), 51, dtype=torch.uint8)
    assert likeness.psnr_db(grey, black) == pytest.approx(20 * np.log10(5))


def test_a_picture_is_most_like_itself() -> None:
    pair = discs(1, 4)
    blurred = resize(pair.low, 64)
    assert likeness.ssim(pair.high, pair.high) == pytest.approx(1)
    assert likeness.ssim(blurred, pair.high) < 0.99
    assert likeness.patch_distance(pair.high, pair.high) == pytest.approx(0, abs=1e-6)
    assert likeness.patch_distance(blurred, pair.high) > 0.01
    assert likeness.sharpness(blurred) < likeness.sharpness(pair.high)


def test_sharpness_is_the_root_mean_square_step_between_neighbours() -> None:
    steps = torch.tensor([0, 3, 7], dtype=torch.uint8).repeat(3, 1)[None, None]
    assert likeness.sharpness(steps) == pytest.approx(np.sqrt((9 + 16) / 2 / 2))


def test_ssim_is_what_its_formula_says_of_flat_pictures() -> None:
    dark, light = (torch.full((1, 1, 16, 16), level, dtype=torch.uint8) for level in (51, 102))
    assert likeness.ssim(dark, light) == pytest.approx((2 * 0.2 * 0.4 + 1e-4) / (0.2**2 + 0.4**2 + 1e-4), rel=1e-4)


def test_the_relativistic_loss_asks_each_side_to_pass_the_others_mean() -> None:
    low, high = torch.tensor([-3.0, -5.0]), torch.tensor([4.0, 6.0])
    assert relativistic(high, low) < 0.01 < 5 < relativistic(low, high)
    expected = np.mean([np.log1p(np.exp(x)) for x in (1, -1, 0, 0)])
    assert relativistic(low, low.mean().expand(2)) == pytest.approx(expected)


def test_the_feature_distance_is_summed_over_layers() -> None:
    found, wanted = [torch.zeros(2, 3), torch.ones(2, 4)], [torch.ones(2, 3), torch.full((2, 4), 3.0)]
    assert feature_distance(found, wanted) == pytest.approx(3)


def test_the_network_begins_as_a_plain_enlargement() -> None:
    generator = start_as_enlarger(SrResNet(SrResNetConfig(3, 8, 1, 2))).eval()
    grey = torch.full((1, 3, 12, 12), 0.6)
    middle = generator.unclipped(grey)[..., 16:-16, 16:-16]
    assert (middle - 0.6).abs().max() < 0.1
    pair = discs(2, 3)
    assert likeness.psnr_db(enlarge(generator, pair.low), pair.high) > 15


def run(out: Path, epochs: int, *, seed: int = 5, resume: bool = False) -> Figures:
    return train(discs(0, 12), discs(1, 10), epochs=epochs, seed=seed, out=out, resume=resume, device=CPU, size=SMALL)


@pytest.mark.slow
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", 2)
    run(tmp_path / "parts", 1)
    parts = run(tmp_path / "parts", 2, resume=True)
    assert [history.losses for history in parts.histories] == [history.losses for history in whole.histories]
    for name in ("faces-srgan.safetensors", "epoch-02.png", "faces-srgan.png"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_another_seed_cannot_resume(tmp_path: Path) -> None:
    run(tmp_path, 1)
    with pytest.raises(ResumeError, match="'seed': 5"):
        run(tmp_path, 2, seed=6, resume=True)


def test_a_run_leaves_weights_of_an_srresnet_and_a_card_of_how(tmp_path: Path) -> None:
    write_card(run(tmp_path, 1), epochs=1, seed=5, device=CPU, path=tmp_path / "faces-srgan.md")
    name, generator = build(load_file(tmp_path / "faces-srgan.safetensors"))
    assert (name, generator.hyperparameters["layout"], generator.scale) == ("srresnet", "lornatang", 4)
    card = (tmp_path / "faces-srgan.md").read_text()
    for said in (
        "python -m training faces-srgan --epochs 1 --seed 5",
        "(faces-srgan.png)",
        "bicubic (Pillow)",
        "DigiFace",
    ):
        assert said in card


def test_the_committed_weights_are_small_and_enlarge_better_than_bicubic() -> None:
    assert WEIGHTS.stat().st_size <= 4e6
    generator = build(load_file(WEIGHTS))[1]
    pair = discs(3, 8)
    found, plain = enlarge(generator.network, pair.low), resize(pair.low, 64)
    assert likeness.psnr_db(found, pair.high) > likeness.psnr_db(plain, pair.high)
    assert likeness.sharpness(found) > 1.1 * likeness.sharpness(plain)
