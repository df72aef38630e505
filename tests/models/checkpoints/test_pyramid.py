"""What is particular to pyramids: OpenCV's borders, a folder's order, what names and settings say."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.architecture import ArchitectureError
from models.catalogue import build, detect
from models.checkpoints.pyramid import read_pyramid
from models.checkpoints.read import CheckpointError
from models.families.basic.pyramid import pyr_down, pyr_up
from tests.models.cases.base import ready
from tests.models.cases.lapgan import CASES
from tests.models.references import lapgan


@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (7, 7), (4, 9)])
def test_pyr_up_is_opencvs_to_the_last_border_pixel(shape: tuple[int, int]) -> None:
    plane = np.random.RandomState(0).randn(*shape).astype(np.float32)
    found = pyr_up(torch.from_numpy(plane)[None, None])[0, 0]
    np.testing.assert_allclose(found, lapgan.pyr_up(plane), atol=1e-6)


def test_pyr_up_repeats_the_last_pixel_and_mirrors_before_the_first() -> None:
    row = torch.tensor([[8.0, 0.0, 16.0], [8.0, 0.0, 16.0]])[None, None]
    assert pyr_up(row)[0, 0, 1].tolist() == [6, 4, 3, 8, 14, 16]


def test_pyr_down_keeps_a_flat_picture_and_weighs_a_dot_by_the_binomial_kernel() -> None:
    dot = torch.zeros(1, 1, 8, 8)
    dot[0, 0, 4, 4] = 256
    small = pyr_down(dot)
    assert small.shape == (1, 1, 4, 4)
    assert small[0, 0, 1:4, 1:4].tolist() == [[1, 6, 1], [6, 36, 6], [1, 6, 1]]
    assert torch.equal(pyr_down(torch.full((1, 2, 6, 6), 3.0)), torch.full((1, 2, 3, 3), 3.0))


def written(folder: Path, names: tuple[str, ...]) -> nn.Module:
    """The reference's levels, coarse to fine, in files of these names, a torch.save file or safetensors each."""
    network = ready(CASES["lapgan"])
    folder.mkdir()
    for level, name in zip(network.get_submodule("levels").children(), names, strict=True):
        state = level.state_dict()
        if name.endswith(".safetensors"):
            save_file(state, folder / name)
        else:
            torch.save(state, folder / name)
    return network


@pytest.mark.parametrize(
    "names",
    [
        ("gen_2.pth", "gen_1.pth", "gen_0.pth"),
        ("G0.pth", "G1.pth", "G2.pth"),
        ("Gen_two.pt", "Gen_one.pt", "Gen_zero.pt"),
        ("netG_level_0.safetensors", "netG_level_1.pth", "netG_level_2.safetensors"),
        ("level_3", "level_2", "level_1"),
    ],
)
def test_a_folder_of_levels_is_one_state_dict_coarse_to_fine(tmp_path: Path, names: tuple[str, ...]) -> None:
    network = written(tmp_path / "pyramid", names)
    (tmp_path / "pyramid" / "disc_0.pth").write_bytes(b"not read")
    found = read_pyramid(tmp_path / "pyramid")
    expected: Mapping[str, Tensor] = network.state_dict()
    assert found.state.keys() == expected.keys()
    assert all(torch.equal(found.state[key], expected[key].float()) or "tracked" in key for key in expected)
    assert any(f"{names[0]} the coarsest" in note for note in found.notes)
    assert found.dtype == "float32"
    assert detect(found.state).name == "lapgan"


def test_another_level_makes_another_hash(tmp_path: Path) -> None:
    written(tmp_path / "pyramid", ("G0.pth", "G1.pth", "G2.pth"))
    before = read_pyramid(tmp_path / "pyramid").sha256
    torch.save(lapgan.AnirudhLevel((8, 6)).state_dict(), tmp_path / "pyramid" / "G1.pth")
    assert read_pyramid(tmp_path / "pyramid").sha256 != before


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("weights.pth", "other.pth", "third.pth"), "pyramid: a folder is read as a pyramid.*; found none"),
        (("G0.pth", "G1.pth", "G3.pth"), "found G0.pth, G1.pth, G3.pth"),
        (("G0.pth", "gen_0.pth", "G1.pth"), "G0.pth and gen_0.pth are of one level"),
        (("G1.pth", "G0.pth", "G2.pth"), "linear layers only; G1.pth is"),
    ],
)
def test_a_folder_that_is_no_pyramid_is_refused(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    written(tmp_path / "pyramid", names)
    with pytest.raises(CheckpointError, match=said):
        read_pyramid(tmp_path / "pyramid")


def test_one_level_alone_says_what_is_missing() -> None:
    for level in (lapgan.WitnessLevel(3, 8), lapgan.AnirudhLevel((8, 6))):
        with pytest.raises(ArchitectureError, match="one level of a LAPGAN; give the folder"):
            detect(dict(sorted(level.state_dict().items())))


def test_a_pyramid_of_discriminators_is_none() -> None:
    base = {f"levels.0.{key}": value for key, value in lapgan.AnirudhBase(6, 16, 4).state_dict().items()}
    critic = nn.Sequential(nn.Conv2d(1, 4, 5), nn.Conv2d(4, 8, 5), nn.Linear(8, 1))
    with pytest.raises(ArchitectureError):
        detect(base | {f"levels.1.{key}": value for key, value in critic.state_dict().items()})


def generated(name: str, overrides: Mapping[str, str]) -> Tensor:
    generator = build(dict(ready(CASES[name]).state_dict()), "auto", overrides)[1]
    random = torch.Generator().manual_seed(0)
    latent = torch.randn(2, generator.latent_size, generator=random)
    images: Tensor = generator.network(latent, torch.randn(2, generator.noise_size, generator=random))
    return images


@pytest.mark.parametrize(
    "overrides", [{"noise_std": "0.5"}, {"noise": "uniform"}, {"tanh": "yes"}, {"variant": "anirudhmaiya"}]
)
def test_what_no_file_says_can_be_set(overrides: Mapping[str, str]) -> None:
    name = "lapgan-witnessai-cifar10"
    assert not torch.allclose(generated(name, overrides), generated(name, {}))


def test_the_settings_that_a_variant_stands_for_draw_the_same() -> None:
    spelled = {"variant": "witnessai", "noise": "normal", "noise_std": "0.1", "tanh": "no"}
    name = "lapgan-witnessai-cifar10"
    assert torch.equal(generated(name, spelled), generated(name, {}))


def test_a_negative_deviation_is_refused() -> None:
    with pytest.raises(ArchitectureError, match="noise_std=-1: must be above 0"):
        generated("lapgan", {"noise_std": "-1"})
