"""The recipe of `emoji-stylegan2`, and the weights that it left in the repository."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from models import catalogue
from models.checkpoints.read import read
from models.families.style.stylegan2_ops import Fir, FirUpsample, fir_kernel
from models.zoo.fetch import WEIGHTS as ZOO_WEIGHTS
from training.augmentation import MOST, AdaptiveShare, augment
from training.cards.emoji_stylegan2 import Figures, measure, nearest, write_card
from training.data.emoji import Emoji
from training.loop import Data, History, ResumeError
from training.metrics.diversity import mean_pairwise_distance
from training.networks.stylegan2 import StyleGan2, deviation, double
from training.recipes import emoji_stylegan2, stylegan2

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
GENERATOR = ZOO_WEIGHTS / "emoji-stylegan2.safetensors"
WIDTHS = (8, 8, 6, 4)


def drawings(count: int = 4) -> Data:
    """(count, 3, 32, 32) uint8: a coloured box on white each."""
    random = np.random.RandomState(0)
    pictures = np.full((count, 3, 32, 32), 255, dtype=np.uint8)
    for picture in pictures:
        top, left = random.randint(4, 12, 2)
        picture[:, top : top + 14, left : left + 14] = random.randint(0, 256, (3, 1, 1))
    return Data(torch.from_numpy(pictures), torch.zeros(count, dtype=torch.int64))


def run(out: Path, epochs: int, *, seed: int = 5, resume: bool = False) -> tuple[StyleGan2, History]:
    return emoji_stylegan2.train(
        drawings(), epochs=epochs, seed=seed, out=out, resume=resume, device=CPU, widths=WIDTHS
    )


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    _, whole = run(tmp_path / "whole", 2)
    run(tmp_path / "parts", 1)
    _, parts = run(tmp_path / "parts", 2, resume=True)
    assert parts.losses == whole.losses
    for name in ("emoji-stylegan2.safetensors", "epoch-02.png", "emoji-stylegan2.png"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    with pytest.raises(ResumeError, match="'seed': 5"):
        run(tmp_path / "parts", 3, seed=6, resume=True)


def test_a_run_leaves_what_the_exporter_reads_and_draws_alike(tmp_path: Path) -> None:
    network, _ = run(tmp_path, 1)
    name, generator = catalogue.build(read(tmp_path / "emoji-stylegan2.safetensors").state)
    assert (name, generator.hyperparameters["latent_avg"]) == ("stylegan2", "stored")
    latent = torch.from_numpy(np.random.RandomState(3).randn(1, stylegan2.LATENT).astype(np.float32))
    nothing = torch.zeros(1, *(generator.w_shape or ()))
    for psi in (1.0, 0.4):
        found = generator.network(latent, torch.tensor([psi]), nothing, torch.zeros(1))
        torch.testing.assert_close(found.clamp(-1, 1), stylegan2.pictures(network, range(3, 4), psi), rtol=0, atol=1e-4)


def test_doubling_in_one_convolution_is_a_transposed_one_and_the_filter() -> None:
    random = torch.Generator().manual_seed(0)
    picture, weight = torch.randn(2, 5, 6, 6, generator=random), torch.randn(7, 5, 3, 3, generator=random)
    kernel = fir_kernel(gain=4.0)
    network = StyleGan2(WIDTHS, 4, 1)
    filtered = network.convs[0].conv.blur.filtered(weight)  # type: ignore[union-attr,operator]
    plain = functional.conv_transpose2d(picture, weight.transpose(0, 1), stride=2)
    torch.testing.assert_close(double(picture, filtered), Fir(7, kernel, (1, 1, 1, 1))(plain), rtol=0, atol=1e-4)
    centre = functional.pad(torch.eye(5)[:, :, None, None], (1, 1, 1, 1))
    enlarged = FirUpsample(5, kernel, (2, 1, 2, 1))(picture)
    found = double(picture, network.convs[0].conv.blur.filtered(centre))  # type: ignore[union-attr,operator]
    torch.testing.assert_close(found, enlarged, rtol=0, atol=1e-5)


def test_pictures_that_are_alike_have_no_deviation() -> None:
    alike = torch.ones(8, 3, 4, 4)
    assert deviation(alike).shape == (8, 1, 4, 4)
    assert deviation(alike).max() < 1e-3
    alike[1] += 2  # rows 1, 3, 5 and 7 are a group
    assert (deviation(alike)[:, 0, 0, 0] > 0.5).tolist() == [False, True] * 4


def test_augmentation_leaves_pictures_alone_but_for_mirroring_until_it_is_needed() -> None:
    pictures = drawings(8).pictures.float() / 127.5 - 1
    still = augment(pictures, 0.0, torch.Generator().manual_seed(0))
    for before, after in zip(pictures, still, strict=True):
        distances = [(after - each).abs().max().item() for each in (before, before.flip(2))]
        assert min(distances) < 1e-4
    assert not torch.allclose(augment(pictures, 1.0, torch.Generator().manual_seed(0)), still, atol=0.1)


def test_augmentation_passes_gradients_to_the_generator() -> None:
    pictures = torch.zeros(4, 3, 8, 8, requires_grad=True)
    augment(pictures, 0.5, torch.Generator().manual_seed(0)).sum().backward()  # type: ignore[no-untyped-call]
    assert pictures.grad is not None
    assert (pictures.grad.abs().sum((1, 2, 3)) > 0).all()


def test_the_share_rises_while_the_discriminator_is_sure_and_stays_below_its_limit() -> None:
    share = AdaptiveShare()
    share.follow(torch.tensor([-1.0, 1.0]))
    assert share.share == 0
    for _ in range(1500):
        share.follow(torch.ones(16))
    assert share.share == MOST
    share.follow(torch.tensor([-1.0, 1.0]))
    assert share.share < MOST


def test_only_faces_are_learned_from() -> None:
    groups = ("face-smiling", "heart", "face-costume", "animal-mammal", "face-hat")
    pictures = drawings(5)
    emoji = Emoji(pictures.pictures, pictures.labels, tuple("abcde"), tuple("vwxyz"), groups)
    assert emoji_stylegan2.faces(emoji).codes == ("a", "e")


def test_the_nearest_is_looked_for_among_mirrored_pictures_too() -> None:
    real = torch.zeros(2, 1, 1, 2)
    real[0, 0, 0, 0], real[1, 0, 0, 1] = 3.0, 5.0
    assert nearest(real.flip(3), real) == 0
    assert nearest(real, real, same=True) == 2
    assert nearest(torch.tensor([[[[3.0, 4.0]]]]), real) == pytest.approx(10**0.5)


def test_a_card_says_how_it_was_made(tmp_path: Path) -> None:
    network, history = run(tmp_path, 1)
    figures = {"truncation_psi 1": Figures(1.5, 2.5, 3.5)}
    path = tmp_path / "emoji-stylegan2.md"
    write_card(figures, network, history, count=4, command="python -m training x", device=CPU, path=path)
    card = path.read_text()
    for said in ("`python -m training x`", "| truncation_psi 1 | 1.50 | 2.50 | 3.50 |", "Noto Emoji", "Apache-2.0"):
        assert said in card


@pytest.fixture(scope="module")
def drawn() -> Tensor:
    """The pictures of seeds 0..99, by the committed generator."""
    state = load_file(GENERATOR)
    widths = [state[f"{name}.conv.weight"].shape[2] for name in ("to_rgb1", "to_rgbs.0", "to_rgbs.1", "to_rgbs.2")]
    network = StyleGan2(widths, stylegan2.LATENT, stylegan2.DEPTH)
    mean = state.pop("latent_avg")
    network.load_state_dict(state)
    torch.testing.assert_close(stylegan2.mean_of(network.eval()).float(), mean, rtol=0, atol=1e-5)
    return stylegan2.pictures(network, range(100))


def test_the_committed_faces_are_on_white_and_differ(drawn: Tensor) -> None:
    assert GENERATOR.stat().st_size <= 4e6
    corners = drawn[:, :, :2, :2].mean((1, 2, 3))
    assert corners.mean() > 0.8
    assert mean_pairwise_distance(drawn) > 10


def test_figures_name_every_row_of_the_card(drawn: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.cards.emoji_stylegan2.JUDGED", 64)
    levels = ((drawn + 1) * 127.5).round().to(torch.uint8)
    groups = tuple("face-smiling" if row < 60 else "heart" for row in range(100))
    emoji = Emoji(levels, torch.zeros(100, dtype=torch.int64), tuple(map(str, range(100))), groups, groups)
    network = StyleGan2((16, 16, 16, 8), stylegan2.LATENT, stylegan2.DEPTH)
    figures = measure(network.eval(), emoji)
    assert list(figures)[-2:] == ["the faces, mirrored", "Google's other emoji"]
    assert figures["truncation_psi 1"].frechet > figures["the faces, mirrored"].frechet
