"""`ganserve export` takes a file that is called *.onnx for a graph to adopt."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.export.adopt.graphs import generator, saved


def export(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ganserve", "export", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_graph_is_adopted_with_what_the_options_say(tmp_path: Path) -> None:
    path = saved(generator(label="number", activation="Softsign"), tmp_path)
    target = ("--repository", str(tmp_path / "repository"), "--name", "mine")
    said = ("--task", "class-conditional", "--latent", "image", "--label", "y", "--classes", "3", "--range", "-1,1")
    answer = export(str(path), *target, *said, "--layout", "NCHW", "--json")
    assert answer.returncode == 0, answer.stderr
    spec = json.loads(answer.stdout)["spec"]
    assert (spec["task"], spec["labels"], spec["latent_size"]) == ("class-conditional", ["0", "1", "2"], 5)
    assert spec["hyperparameters"] == {"layout": "NCHW", "range": "-1,1"}
    assert Path(json.loads(answer.stdout)["folder"], "model.onnx").is_file()
    assert sorted(spec["files"]) == ["directions.npz", "directions.png", "model.onnx"]


@pytest.mark.parametrize(
    ("file", "options", "sentence"),
    [
        ("theirs.onnx", ("--range", "1"), "--range 1: must be LOW,HIGH, such as -1,1"),
        ("theirs.onnx", ("--range", "1,-1"), "--range 1,-1: must be two finite numbers, the lower one first"),
        ("theirs.onnx", ("--arch", "dcgan"), "--arch: does not apply to an ONNX graph"),
        ("theirs.onnx", ("--precision", "fp16"), "--precision fp16: an ONNX graph is served in the precision"),
        ("theirs.onnx", ("--tensors", "float32"), "--tensors float32: a graph with its own tensors needs no export"),
        ("gone.onnx", (), "no such file"),
        ("theirs.pth", ("--input-range", "-1,1"), "--input-range -1,1: applies to ONNX graphs (*.onnx) only"),
    ],
)
def test_options_that_do_not_fit_exit_2(file: str, options: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    saved(generator(), tmp_path)
    answer = export(str(tmp_path / file), "--repository", str(tmp_path / "repository"), "--name", "m", *options)
    assert answer.returncode == 2
    assert sentence in answer.stderr
    assert not (tmp_path / "repository").exists()
