"""What the two StyleGAN2 families do beyond what every architecture does: whole files, refusals, operations."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.architecture import ArchitectureError
from models.catalogue import build
from models.checkpoints.read import read
from models.families.style.stylegan2_ops import Fir, FirUpsample, LatentsPerLayer
from tests.models.cases.base import ready
from tests.models.cases.stylegan2 import CASES, CONVERTED_MEAN
from tests.models.cases.stylegan2_lucidrains import CASES as LUCIDRAINS


def rosinality(name: str = "stylegan2-converted-cutoff") -> dict[str, Tensor]:
    return dict(ready(CASES[name]).state_dict())


def test_a_training_file_gives_the_average(tmp_path: Path) -> None:
    average = rosinality()
    other = {key: tensor + 1 for key, tensor in average.items()}
    discriminator = {"final_conv.0.weight": torch.zeros(3), "final_linear.0.weight": torch.zeros(3)}
    whole = {"g": other, "d": discriminator, "g_ema": average, "g_optim": {}, "args": Namespace(size=16, n_mlp=2)}
    torch.save(whole, tmp_path / "010000.pt")
    found = read(tmp_path / "010000.pt")
    assert set(found.state) == set(average)
    assert torch.equal(found.state["conv1.conv.weight"], average["conv1.conv.weight"])
    assert build(found.state)[1].hyperparameters["latent_avg"] == "of 4096 latents"


def test_a_converted_file_brings_its_mean_latent(tmp_path: Path) -> None:
    torch.save({"g_ema": rosinality(), "latent_avg": CONVERTED_MEAN}, tmp_path / "stylegan2-ffhq-config-f.pt")
    name, generator = build(read(tmp_path / "stylegan2-ffhq-config-f.pt").state)
    assert (name, generator.hyperparameters["latent_avg"]) == ("stylegan2", "stored")
    latent, psi = torch.randn(2, generator.latent_size), torch.zeros(2)
    nothing = torch.zeros(2, *(generator.w_shape or ()))
    averaged = generator.network(latent, psi, nothing, torch.zeros(2))
    given = generator.network(latent, torch.ones(2), CONVERTED_MEAN.expand_as(nothing), torch.ones(2))
    torch.testing.assert_close(averaged, given)


def test_a_whole_gan_file_of_lucidrains_is_read_with_its_config(tmp_path: Path) -> None:
    case = LUCIDRAINS["stylegan2-lucidrains"]
    torch.save({"GAN": dict(ready(case).state_dict()), "version": "1.9.0"}, tmp_path / "model_7.pt")
    found = read(tmp_path / "model_7.pt")
    name, generator = build(found.state, config={"lr_mlp": 0.2, "fq_layers": []})
    assert (name, generator.hyperparameters["lr_mlp"]) == ("stylegan2-lucidrains", 0.2)


def test_feature_quantisation_is_the_discriminators_and_changes_nothing() -> None:
    state = dict(ready(LUCIDRAINS["stylegan2-lucidrains-no-const"]).state_dict())
    quantised = {**state, "D.quantize_blocks.0.fn._codebook.embed": torch.zeros(1)}
    plain, other = build(state)[1], build(quantised, config={"fq_layers": [1, 2]})[1]
    assert plain.hyperparameters == other.hyperparameters
    for tensor, same in zip(plain.network.state_dict().values(), other.network.state_dict().values(), strict=True):
        assert torch.equal(tensor, same)


def test_relatives_are_named() -> None:
    with pytest.raises(ArchitectureError, match="StyleGAN2 discriminator"):
        build({"final_conv.0.weight": torch.zeros(4, 5, 3, 3), "final_linear.0.weight": torch.zeros(4, 64)})
    with pytest.raises(ArchitectureError, match="SWAGAN"):
        build({**rosinality(), "to_rgbs.0.iwt.ll": torch.zeros(2, 2)})


def test_a_file_without_noise_says_what_to_set() -> None:
    state = {key: tensor for key, tensor in rosinality().items() if not key.startswith("noises.")}
    with pytest.raises(ArchitectureError, match="--set noise=none or --set noise=input"):
        build(state)
    assert build(state, overrides={"noise": "input"})[1].noise_size == 4**2 + 2 * 8**2 + 2 * 16**2


def test_the_cutoff_must_be_a_number_of_layers() -> None:
    with pytest.raises(ArchitectureError, match="truncation_cutoff=7: must be 0 "):
        build(rosinality(), overrides={"truncation_cutoff": "7"})


def test_one_changed_shape_is_no_generator() -> None:
    state = {**rosinality(), "convs.1.noise.weight": torch.zeros(2)}
    with pytest.raises(ArchitectureError, match="no known generator"):
        build(state)


def test_each_row_has_its_own_truncation_and_w() -> None:
    latents = LatentsPerLayer(3, 2, cutoff=1)
    latents.average.copy_(torch.tensor([10.0, 20.0]))
    mapped, w = torch.tensor([[0.0, 0.0]] * 3), torch.full((3, 3, 2), 7.0)
    found = latents(mapped, torch.tensor([0.5, 1.0, 0.0]), w, torch.tensor([0.0, 0.0, 1.0]))
    expected = torch.zeros(3, 3, 2)
    expected[0, 0] = torch.tensor([5.0, 10.0])
    expected[2] = 7
    assert torch.equal(found, expected)


def upfirdn(image: Tensor, kernel: Tensor, up: int, down: int, padding: tuple[int, int, int, int]) -> Tensor:
    """By definition: zeros in, pad or crop, convolve (scipy's sense), keep every n-th pixel; one channel at a time."""
    n, channels, height, width = image.shape
    spaced = torch.zeros(n, channels, height * up, width * up)
    spaced[:, :, ::up, ::up] = image
    padded = functional.pad(spaced, padding).reshape(n * channels, 1, -1, width * up + padding[0] + padding[1])
    out = functional.conv2d(padded, kernel.flip(0, 1)[None, None])[:, :, ::down, ::down]
    return out.reshape(n, channels, *out.shape[2:])


@pytest.mark.parametrize(
    ("shape", "padding", "up"),
    [((4, 4), (2, 1, 2, 1), 2), ((12, 12), (9, 4, 7, 8), 4), ((5, 5), (8, -1, -2, 9), 2), ((1, 6), (3, 2, 0, 0), 2)],
)
def test_fir_upsampling_is_upfirdn(shape: tuple[int, int], padding: tuple[int, int, int, int], up: int) -> None:
    random = np.random.RandomState(0)
    image = torch.from_numpy(random.randn(2, 3, 5, 7).astype(np.float32))
    kernel = torch.from_numpy(random.randn(*shape).astype(np.float32))
    torch.testing.assert_close(FirUpsample(3, kernel, padding, up)(image), upfirdn(image, kernel, up, 1, padding))


@pytest.mark.parametrize(("padding", "down"), [((1, 1, 1, 1), 1), ((2, 1, 2, 1), 2), ((0, 3, 1, 0), 2)])
def test_fir_filtering_is_upfirdn(padding: tuple[int, int, int, int], down: int) -> None:
    random = np.random.RandomState(0)
    image = torch.from_numpy(random.randn(2, 3, 6, 7).astype(np.float32))
    kernel = torch.from_numpy(random.randn(4, 4).astype(np.float32))
    torch.testing.assert_close(Fir(3, kernel, padding, down)(image), upfirdn(image, kernel, 1, down, padding))
