"""What checkpoints come as, and one clear line for everything that is none."""

import argparse
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from models.checkpoints.read import CheckpointError, read
from models.families.basic.dcgan import DcganGenerator

STATE = dict(DcganGenerator((4, 3, 1)).state_dict())


def saved(path: Path, found: object, legacy: bool = False) -> Path:
    torch.save(found, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_bare_state_dict_is_read_whatever_the_suffix(tmp_path: Path, legacy: bool) -> None:
    found = read(saved(tmp_path / "netG.tar", OrderedDict(STATE), legacy))
    assert list(found.state) == list(STATE)
    assert (found.dtype, found.notes) == ("float32", ())
    assert torch.equal(found.state["main.0.weight"], STATE["main.0.weight"])


def test_safetensors_are_read(tmp_path: Path) -> None:
    safetensors.torch.save_file(STATE, tmp_path / "weights")
    assert read(tmp_path / "weights").state.keys() == STATE.keys()


def test_a_list_of_averaged_parameters_takes_the_place_of_the_generators_own(tmp_path: Path) -> None:
    average = [torch.full_like(value, 9.0) for value in DcganGenerator((4, 3, 1)).parameters()]
    found = read(saved(tmp_path / "all_10.pth", {"g": STATE, "d": STATE, "g_ema": average, "opt_g": {}}))
    assert torch.equal(found.state["main.0.weight"], average[0])
    assert torch.equal(found.state["main.1.running_mean"], STATE["main.1.running_mean"])
    with pytest.raises(CheckpointError, match="g_ema is a list of 5, which are not the 4 parameters of g"):
        read(saved(tmp_path / "all_20.pth", {"g": STATE, "g_ema": [*average, torch.zeros(1)]}))


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    half = {key: value.half() if value.is_floating_point() else value for key, value in STATE.items()}
    found = read(saved(tmp_path / "half.pth", half))
    assert found.dtype == "float16"
    assert {str(value.dtype) for value in found.state.values()} == {"torch.float32", "torch.int64"}


@pytest.mark.parametrize(
    ("wrapped", "note"),
    [
        ({"params": {"x": torch.zeros(1)}, "params_ema": STATE}, "taken from key params_ema (the running average)"),
        ({"g": {"x": torch.zeros(1)}, "g_ema": STATE, "args": argparse.Namespace(n=1)}, "taken from key g_ema"),
        ({"epoch": 3, "netG_state_dict": STATE, "netD_state_dict": {"y": torch.zeros(1)}}, "key netG_state_dict"),
        ({"state_dict": STATE, "optimizer": {"state": {}, "param_groups": []}}, "taken from key state_dict"),
        ({"generator": {"conf": {"depth": 3}, "state_dict": STATE}}, "taken from key generator.state_dict"),
        ({"weights_of_mine": STATE, "step": 7}, "taken from key weights_of_mine"),
        (
            {"g_ema": [torch.zeros_like(value) for value in DcganGenerator((4, 3, 1)).parameters()], "g": STATE},
            "key g_ema",
        ),
    ],
    ids=["basicsr", "stylegan2", "tutorial", "optimizer", "nested", "single", "fastgan"],
)
def test_the_generator_is_found_inside_its_wrapping(tmp_path: Path, wrapped: object, note: str) -> None:
    found = read(saved(tmp_path / "all.pt", wrapped))
    assert list(found.state) == list(STATE)
    assert note in found.notes[0]


def test_dicts_that_occur_again_and_again_are_looked_at_once(tmp_path: Path) -> None:
    """Four levels of a thousand times the same: a walk along every path would not end."""
    found: dict[str, object] = {"epoch": 1}
    for _ in range(4):
        found = dict.fromkeys(map(str, range(1000)), found)
    path = tmp_path / "netG.pkl"
    path.write_bytes(pickle.dumps({"state_dict": found}))
    with pytest.raises(CheckpointError, match="no tensors of a network"):
        read(path)


def test_wrappers_prefixes_come_off_when_all_keys_share_them(tmp_path: Path) -> None:
    wrapped = {f"_orig_mod.module.{key}": value for key, value in STATE.items()}
    found = read(saved(tmp_path / "ddp.pt", {**wrapped, "_orig_mod.n_averaged": torch.tensor(5)}))
    assert list(found.state) == [f"{key}" for key in STATE]


def test_a_prefix_that_only_some_keys_have_stays(tmp_path: Path) -> None:
    found = read(saved(tmp_path / "some.pt", {"module.a": torch.ones(1), "b": torch.ones(1)}))
    assert list(found.state) == ["module.a", "b"]


def hostile(path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return print, ("this code must not run",)

    torch.save({"main.0.weight": Runs()}, path)


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
        archive.writestr("archive/data/0", bytes(10_000_000))


def recursive(path: Path) -> None:
    found: dict[str, object] = {"epoch": 1}
    found["state_dict"] = found
    torch.save(found, path)


def truncated(path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    path.write_bytes(buffer.getvalue()[:-200])


def truncated_legacy(path: Path) -> None:
    saved(path, STATE, legacy=True)
    path.write_bytes(path.read_bytes()[:-9])


def truncated_safetensors(path: Path) -> None:
    path.write_bytes(safetensors.torch.save(STATE)[:-9])


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0"), "Git LFS pointer"),
        (lambda path: path.write_bytes(b"\n<!DOCTYPE html><title>Sign in</title>"), "a web page"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n0000"), "a PNG image"),
        (lambda path: path.write_bytes(pickle.dumps({"G_ema": 1})), "no tensors of a network"),
        (truncated, "truncated or damaged"),
        (truncated_legacy, "truncated or damaged"),
        (truncated_safetensors, "broken safetensors"),
        (hostile, "no tensors of a network"),
        (bomb, "inflate far beyond"),
        (recursive, "no tensors of a network"),
        (lambda path: saved(path, {**STATE, "main.0.weight": torch.tensor([1.0, float("nan")])}), "carries NaN"),
        (lambda path: saved(path, {"big": torch.zeros(1).expand(10**9)}), "claims 1000000000 numbers"),
        (lambda path: saved(path, {"a\x1b[2J": torch.zeros(1)}), "control characters"),
        (lambda path: saved(path, {"a" * 10_000: torch.zeros(1)}), "500 at most"),
        (lambda path: saved(path, {"sparse": torch.eye(3).to_sparse()}), "sparse"),
        (lambda path: saved(path, {"epoch": 3, "loss": 0.1}), "no tensors of a network"),
        (lambda path: saved(path, torch.zeros(3)), "holds a Tensor"),
        (lambda path: saved(path, {}), "holds an empty dict"),
        (
            lambda path: saved(path, {"one": STATE, "two": {key: 2 * STATE[key] for key in STATE}}),
            "one .dcgan., two .dcgan.; say which with --key",
        ),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_one_line(
    tmp_path: Path, write: Callable[[Path], object], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "netG.pth"
    write(path)
    with pytest.raises(CheckpointError, match=sentence) as caught:
        read(path)
    assert "netG.pth" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "must not run" not in capsys.readouterr().out
