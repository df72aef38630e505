"""Folders and config files as training repositories leave them."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from models.catalogue import build
from models.checkpoints.folders import find_config, read_at
from models.checkpoints.read import CheckpointError
from tests.models.cases.base import ready
from tests.models.cases.biggan_deep import CASES as DEEP
from tests.models.cases.studiogan import CASES as STUDIOGAN

FILE = torch.zeros(1)


def fill(folder: Path, *names: str) -> Path:
    """Files in which a tensor says their place in `names`."""
    for place, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"state_dict": {"place": FILE + place}}, path)
    return folder


def chosen(folder: Path) -> tuple[str, Mapping[str, object]]:
    found = find_config(folder)
    assert found is not None
    return found[0].relative_to(folder).as_posix(), found[1]


def test_a_hugging_face_folder_is_read_with_its_config(tmp_path: Path) -> None:
    case = DEEP["biggan-deep-configured"]
    network = ready(case)
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(case.config))
    for place in (tmp_path, tmp_path / "pytorch_model.bin"):
        found = read_at(place)
        name, generator = build(found.state, config=found.config)
        assert (name, generator.image_size_px) == ("biggan-deep", (32, 32))
        norms = [module.eps for module in generator.network.modules() if hasattr(module, "statistics")]
        assert set(norms) == {0.01}, "the config's eps"


def test_a_studiogan_folder_gives_the_best_average_and_its_yaml(tmp_path: Path) -> None:
    case = STUDIOGAN["studiogan-sagan"]
    wanted = "model=G_ema-best-weights-step=4000.pth"
    fill(tmp_path, "model=D-best-weights-step=4000.pth", "model=G-best-weights-step=4000.pth")
    fill(tmp_path, "model=G_ema-current-weights-step=9000.pth")
    torch.save({"state_dict": ready(case).state_dict(), "seed": 1}, tmp_path / wanted)
    (tmp_path / "SAGAN.yaml").write_text("DATA:\n  img_size: 32\nMODEL:\n  backbone: resnet\n  g_act_fn: Leaky_ReLU\n")
    found = read_at(tmp_path)
    assert found.notes[0] == f"{wanted} of the folder"
    _, generator = build(found.state, config=found.config)
    assert any(isinstance(module, nn.LeakyReLU) for module in generator.network.modules())
    plain = build(found.state)[1]
    assert not any(isinstance(module, nn.LeakyReLU) for module in plain.network.modules())


def test_the_user_overrules_the_config(tmp_path: Path) -> None:
    state = ready(STUDIOGAN["studiogan-sagan"]).state_dict()
    config = STUDIOGAN["studiogan-sagan"].config
    _, generator = build(state, overrides={"g_act_fn": "GELU"}, config=config)
    assert any(isinstance(module, nn.GELU) for module in generator.network.modules())


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("netG_5000_steps.pth", "netG_10000_steps.pth"), "netG_10000_steps.pth"),
        (
            ("checkpoints/netG/netG_10_steps.pth", "checkpoints/netD/netD_10_steps.pth"),
            "checkpoints/netG/netG_10_steps.pth",
        ),
        (("model_9.pt", "model_10.pt"), "model_10.pt"),
        (("netG_epoch_24.pth", "netG_epoch_3.pth", "netD_epoch_24.pth"), "netG_epoch_24.pth"),
        (("G.pth", "D.pth", "G_ema.pth", "G_ema_best0.pth"), "G_ema.pth"),
        (("G.pth", "G_ema_best0.pth", "G_ema_best1.pth"), "G_ema_best1.pth"),
        (("G.pth", "G_optim.pth", "D.pth"), "G.pth"),
        (("model=G-current-weights-step=9.pth", "model=G-best-weights-step=5.pth"), "model=G-best-weights-step=5.pth"),
    ],
)
def test_the_newest_generator_of_a_folder_is_taken(tmp_path: Path, names: tuple[str, ...], wanted: str) -> None:
    fill(tmp_path, *names)
    assert chosen(tmp_path) == (wanted, {})
    assert read_at(tmp_path).state["place"].item() == names.index(wanted)


@pytest.mark.parametrize(
    ("weights", "config"), [("model_3.pt", ".config.json"), ("netG_epoch_3.pth", "generator_config.json")]
)
def test_what_lies_next_to_a_file_goes_along(tmp_path: Path, weights: str, config: str) -> None:
    fill(tmp_path, weights, "other.pth")
    (tmp_path / config).write_text('{"image_size": 64}')
    assert read_at(tmp_path / weights).config == {"image_size": 64}
    assert read_at(tmp_path / "other.pth").config == {}, "not the config of a file of any name"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", r"config\.json next to the weights cannot be read"), ("[1]", "holds a list, not settings by name")],
)
def test_a_broken_config_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    fill(tmp_path, "model_3.pt")
    (tmp_path / ".config.json").write_text(text)
    with pytest.raises(CheckpointError, match=sentence):
        read_at(tmp_path)


def test_a_yaml_file_makes_no_objects(tmp_path: Path) -> None:
    fill(tmp_path, "model=G-best-weights-step=5.pth")
    (tmp_path / "a.yaml").write_text("MODEL: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(CheckpointError, match=r"a\.yaml next to the weights cannot be read"):
        read_at(tmp_path)


def test_two_yaml_files_are_one_too_many(tmp_path: Path) -> None:
    fill(tmp_path, "model=G-best-weights-step=5.pth")
    for name in ("a.yaml", "b.yml"):
        (tmp_path / name).write_text("MODEL: {}\n")
    with pytest.raises(CheckpointError, match=r"which config belongs to the weights, a\.yaml or b\.yml"):
        read_at(tmp_path)


def test_studiogans_copies_of_stylegan_are_refused_by_name(tmp_path: Path) -> None:
    fill(tmp_path, "model=G-best-weights-step=5.pth")
    (tmp_path / "a.yaml").write_text("MODEL:\n  backbone: stylegan2\n")
    with pytest.raises(CheckpointError, match="StudioGAN's own copy of stylegan2, which is not read"):
        read_at(tmp_path)


def test_a_folder_of_no_known_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    assert find_config(tmp_path) is None
    with pytest.raises(CheckpointError):
        read_at(tmp_path)
