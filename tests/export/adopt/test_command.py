"""`ganserve export` takes a file that is called *.onnx for a graph to adopt."""

import json
from pathlib import Path

import pytest

from ganserve.cli.main import main
from tests.export.adopt.graphs import generator, saved

Capture = pytest.CaptureFixture[str]


def test_a_graph_is_adopted_with_what_the_options_say(tmp_path: Path, capsys: Capture) -> None:
    path = saved(generator(label="number", activation="Softsign"), tmp_path)
    target = ("--repository", str(tmp_path / "repository"), "--name", "mine")
    said = ("--task", "class-conditional", "--latent", "image", "--label", "y", "--classes", "3", "--range", "-1,1")
    assert main(["export", str(path), *target, *said, "--layout", "NCHW", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    spec = answer["spec"]
    assert (spec["task"], spec["labels"], spec["latent_size"]) == ("class-conditional", ["0", "1", "2"], 5)
    assert spec["hyperparameters"] == {"layout": "NCHW", "range": "-1,1"}
    assert Path(answer["folder"], "model.onnx").is_file()
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
def test_options_that_do_not_fit_exit_2(
    file: str, options: tuple[str, ...], sentence: str, tmp_path: Path, capsys: Capture
) -> None:
    saved(generator(), tmp_path)
    target = ("--repository", str(tmp_path / "repository"), "--name", "m")
    assert main(["export", str(tmp_path / file), *target, *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "repository").exists()
