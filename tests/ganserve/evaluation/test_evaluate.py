"""`ganserve evaluate`: graphs and images of every kind, and the command against the fake server."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from ganserve.cli.main import main
from ganserve.datasets.contents import contents_of, spread
from ganserve.evaluation import features
from ganserve.evaluation.classes import Named, compare
from ganserve.evaluation.errors import EvaluationError
from ganserve.evaluation.features import Graph, features_of, open_extractor
from ganserve.evaluation.images import batch, find, read
from ganserve.v1 import images_pb2 as pb
from models.zoo import judges
from tests.ganserve.fake_server import Fake, image_of

Capture = pytest.CaptureFixture[str]


def graph(path: Path, shape: list[Any], of: int = TensorProto.UINT8) -> Path:
    """The image's pixels as floats, flattened by the extractor."""
    nodes = [helper.make_node("Cast", ["image"], ["features"], to=TensorProto.FLOAT)]
    given = [helper.make_tensor_value_info("image", of, shape)]
    made = [helper.make_tensor_value_info("features", TensorProto.FLOAT, shape)]
    model = helper.make_model(helper.make_graph(nodes, "g", given, made), opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.save(model, path)
    return path


IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)


@pytest.mark.parametrize("n", ["N", 1, 2, 8])
def test_a_graph_gets_what_it_takes(tmp_path: Path, n: object) -> None:
    last = open_extractor(graph(tmp_path / "a.onnx", [n, 4, 6, 3]), "a", None)
    np.testing.assert_array_equal(last(IMAGES), IMAGES.reshape(5, -1))
    assert (last.channels, last.size, last.is_inception) == (3, (4, 6), False)
    first = open_extractor(graph(tmp_path / "b.onnx", [n, 3, "H", "W"], TensorProto.FLOAT), "b", "-1..1")
    expected = IMAGES.transpose(0, 3, 1, 2).reshape(5, -1) / 127.5 - 1
    np.testing.assert_allclose(first(IMAGES), expected, atol=1e-6)
    assert first.size is None


def test_what_is_no_such_graph_is_said(tmp_path: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("no graph")
    weights = tmp_path / "inception.pth"
    weights.write_bytes(b"PK")
    floats = graph(tmp_path / "f.onnx", [1, 3, 4, 4], TensorProto.FLOAT)
    for path, pixels, says in (
        (tmp_path / "none.onnx", None, "no such file"),
        (text, None, "cannot be read as an ONNX graph"),
        (weights, None, f"standard Inception file, whose sha256 is {features.INCEPTION_SHA256}; this one's is"),
        (floats, None, "takes float32, and no file says of which range: give --pixels -1..1, 0..1, 0..255"),
        (graph(tmp_path / "u.onnx", [1, 3, 4, 4]), "0..1", "takes uint8; leave out --pixels"),
        (graph(tmp_path / "five.onnx", [1, 5, 8, 8]), None, "neither NHWC nor NCHW with 1, 3 or 4 channels"),
        (graph(tmp_path / "flat.onnx", [1, 12]), None, "must take one batch of images"),
        (graph(tmp_path / "int.onnx", [1, 3, 4, 4], TensorProto.INT32), None, "must be uint8 or float32"),
    ):
        with pytest.raises(EvaluationError, match=says.replace("(", r"\(")):
            open_extractor(path, "x", pixels)


def test_the_standard_inception_is_known_by_its_hash_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "any-name.bin"
    weights.write_bytes(b"weights")
    monkeypatch.setattr(features, "INCEPTION_SHA256", hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(EvaluationError, match="pip install torch-fidelity"):
        open_extractor(weights, "x", None)


def test_images_are_brought_to_the_colours_and_size_of_the_features(tmp_path: Path) -> None:
    grey, colours = IMAGES[0, :, :, :1], IMAGES[0]
    np.testing.assert_array_equal(batch([grey], 3, None)[0], np.repeat(grey, 3, axis=2))
    assert batch([colours, grey], 1, (8, 8)).shape == (2, 8, 8, 1)
    with pytest.raises(EvaluationError, match=r"different sizes \(6x4, 6x5\).*give --size"):
        batch([colours, np.zeros((5, 6, 3), np.uint8)], 3, None)
    clear = np.zeros((2, 2, 4), np.uint8)
    assert batch([clear], 3, None).min() == 255
    assert batch([colours], 4, (8, 8))[..., 3].min() == 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert read(tmp_path / "clear.png", 3).min() == 255
    np.testing.assert_array_equal(read(tmp_path / "clear.png", 4), clear)
    with_alpha = open_extractor(graph(tmp_path / "four.onnx", ["N", 2, 2, 4]), "a", None)
    np.testing.assert_array_equal(with_alpha(clear[None]), np.zeros((1, 16)))
    Image.fromarray(colours).convert("P").save(tmp_path / "palette.gif")
    assert read(tmp_path / "palette.gif", 1).shape == (4, 6, 1)
    deep = np.linspace(0, 65535, 24).reshape(4, 6).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read(tmp_path / "deep.png", 1)[..., 0], deep >> 8)
    Image.fromarray(deep.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(EvaluationError, match="pixels of 32 bits"):
        read(tmp_path / "float.tif", 1)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(EvaluationError, match=r"broken\.png: cannot be read as an image"):
        read(tmp_path / "broken.png", 3)


def test_features_are_bounded_and_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = open_extractor(graph(tmp_path / "a.onnx", ["N", 4, 6, 3]), "a", None)
    assert isinstance(extractor, Graph)
    found = features_of(extractor, (image_of(seed) for seed in range(70)), 70, None)
    np.testing.assert_array_equal(found[69], image_of(69).reshape(-1))
    monkeypatch.setattr(features, "MAX_BYTES", 1000)
    with pytest.raises(EvaluationError, match="70 images of 72 features; at most 3 fit"):
        features_of(extractor, (image_of(seed) for seed in range(70)), 70, None)


def write_real(folder: Path, count: int = 60) -> Path:
    for seed in range(1000, 1000 + count):
        target = folder / str(seed % 3) / f"{seed}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image_of(seed)).save(target)
    return folder


def test_real_images_are_found_in_folders(tmp_path: Path) -> None:
    write_real(tmp_path / "real")
    (tmp_path / "real" / ".cache").mkdir()
    (tmp_path / "real" / ".cache" / "a.png").touch()
    (tmp_path / "real" / "notes.txt").touch()
    assert len(find(tmp_path / "real", 100)) == 60
    some = find(tmp_path / "real", 20)
    assert len(set(some)) == 20
    for folder, says in ((tmp_path / "none", "no such folder"), (tmp_path / "real" / ".cache", "1 images")):
        with pytest.raises(EvaluationError, match=says):
            find(folder, 10)


def test_the_command_reports_in_words_and_json(fake: Fake, tmp_path: Path, capsys: Capture) -> None:
    path = graph(tmp_path / "pixels.onnx", ["N", 4, 6, 3])
    real = write_real(tmp_path / "real")
    run = ["evaluate", "faces", "--data", str(real), "--features", str(path), "--count", "50", "--server", fake.server]
    assert main([*run, "--resamples", "3", "-o", str(tmp_path / "report.json")]) == 0
    said = capsys.readouterr().out
    assert "50 images of faces version 3, 50 of " in said
    assert "Frechet distance in pixels.onnx features: " in said
    assert "FID" not in said
    assert "WARNING: few images (50 real, 50 generated)" in said
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["extractor_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert report["frechet"]["bootstrap_std"] > 0
    assert main([*run, "--json", "--resamples", "3"]) == 0
    assert json.loads(capsys.readouterr().out) == report
    made = np.stack([image_of(seed).reshape(-1) for seed in range(50)]).astype(np.float32)
    data = np.stack([np.asarray(Image.open(real / name)).reshape(-1) for name in _names(real)]).astype(np.float32)
    apart = np.square(made.mean(0) - data.mean(0)).sum()
    assert report["frechet"]["value"] > apart > 0


def _names(real: Path) -> list[str]:
    return [path.relative_to(real).as_posix() for path in find(real, 50)]


def test_copies_of_the_data_are_found_by_seed_and_file(fake: Fake, tmp_path: Path, capsys: Capture) -> None:
    path = graph(tmp_path / "pixels.onnx", ["N", 4, 6, 3])
    real = write_real(tmp_path / "real", 50)
    run = ["evaluate", "faces", "--data", str(real), "--features", str(path), "--count", "50", "--server", fake.server]
    assert main([*run, "--first-seed", "1000", "--json", "--resamples", "0"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert any(text.startswith("memorisation: 100.0%") for text in report["warnings"])
    for pair in report["copies"]["closest"]:
        assert pair["generated"].removeprefix("seed ") == Path(pair["other"]).stem
        assert pair["distance"] == 0


CLASSES = tuple(f"name {index}" for index in range(30))


def judge(path: Path, classes: bool = False) -> Path:
    """Features are pixels, scores of 30 classes sums of them by WEIGHTS."""
    graph(path, ["N", 4, 6, 3])
    model = onnx.load(path)
    nodes = [
        helper.make_node("Flatten", ["features"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
    ]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(WEIGHTS, "weights"))
    model.graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 30]))
    if classes:
        model.metadata_props.add(key="classes", value=json.dumps(CLASSES))
    onnx.save(model, path)
    return path


WEIGHTS = np.random.default_rng(1).normal(size=(72, 30)).astype(np.float32)


def shown(images: Any) -> Any:
    return (np.stack([image.reshape(-1) for image in images]) @ WEIGHTS).argmax(axis=1)


def test_the_judge_beside_the_model_is_the_default_and_says_which_classes_are_shown(
    fake: Fake, tmp_path: Path, capsys: Capture
) -> None:
    real = write_real(tmp_path / "real")
    fake.service.judge = judge(tmp_path / "judge.onnx").read_bytes()
    run = ["evaluate", "digits", "--data", str(real), "--count", "60", "--server", fake.server, "--resamples", "0"]
    assert main([*run, "--json", "--edit", "smile:1", "--truncation", "0.5", "--best-of", "2", "--then", "sr"]) == 0
    report = json.loads(capsys.readouterr().out)
    asked = next(each for each in fake.service.requests if isinstance(each, pb.GenerateRequest))
    assert (asked.edits[0].direction, list(asked.edits[0].strengths), asked.best_of) == ("smile", [1], 2)
    assert report["parameters"]["edits"][0]["direction"] == "smile"
    assert report["parameters"]["then"] == ["sr"]
    assert report["extractor"] == "own-judge"
    found, named = report["classes"], shown([image_of(seed) for seed in range(60)])
    assert found["shares"] == {name: (named == index).mean() for index, name in enumerate(CLASSES)}
    of_data = shown([np.asarray(Image.open(real / name)) for name in _names(real)])
    assert found["shares_of_data"]["name 3"] == (of_data == 3).mean()
    labels = contents_of(spread(60, 30), 0).labels
    assert found["obeyed"] == (named == labels).mean()
    assert main(run) == 0
    assert f"labels obeyed: {found['obeyed']:.2%}" in capsys.readouterr().out


def test_a_folder_is_compared_with_a_folder_without_a_server(tmp_path: Path, capsys: Capture) -> None:
    real, made = write_real(tmp_path / "real", 40), tmp_path / "made"
    for seed in range(40):
        (made / "0").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image_of(seed)).save(made / "0" / f"{seed}.png")
    run = ["evaluate", "--images", str(made), "--data", str(real)]
    assert main([*run, "--features", str(judge(tmp_path / "judge.onnx", classes=True)), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["images"], report["data_images"], report["generated"]) == (40, 40, str(made))
    names = [path.relative_to(made).as_posix() for path in find(made, 100)]
    named = shown([np.asarray(Image.open(made / name)) for name in names])
    assert report["classes"]["shares"]["name 3"] == (named == 3).mean(), "classes from the graph's metadata"
    assert "obeyed" not in report["classes"]
    assert {pair["generated"] for pair in report["copies"]["closest"]} <= set(names)
    for more, says in (
        (["--features", "judge"], "no model says which judge"),
        (["--edit", "smile:1", "--features", "x"], "edits: for images that a server makes"),
        (["faces"], "give a MODEL, or a folder of generated images"),
        (["--features", "x", "--images", str(tmp_path / "none")], "--images"),
    ):
        assert main([*run, *more]) == 2
        assert says in capsys.readouterr().err


def test_a_class_that_the_data_has_and_the_images_lack_is_warned_of() -> None:
    found = compare(Named(("a", "b"), [0] * 10 + [1] * 10, [0] * 20, [0] * 10 + [1] * 10))
    assert (found["missing"], found["apart"], found["obeyed"]) == (["b"], 0.5, 0.5)
    assert found["confused"] == [{"label": "b", "shows": "a", "images": 10}]
    assert compare(Named(("a", "b"), [0] * 20 + [1] * 9, [0] * 20))["missing"] == [], "too few of the data"


def test_a_model_without_a_judge_says_where_one_is_from(
    fake: Fake, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = write_real(tmp_path / "real")
    run = ["evaluate", "faces", "--data", str(real), "--server", fake.server]
    assert main(run) == 2
    assert "no judge is known for a model from 'an unknown source'" in capsys.readouterr().err
    assert main(["evaluate", "sketch", *run[2:]]) == 2
    assert "is for image-to-image; generators are evaluated" in capsys.readouterr().err
    assert len(fake.service.requests) == 2  # nothing was generated
    monkeypatch.setattr(judges, "WEIGHTS", tmp_path / "none")
    monkeypatch.setattr(judges, "WEIGHTS_PACKAGE", "no_such_package")
    assert main([*run, "--features", "digits-judge"]) == 2
    assert capsys.readouterr().err.startswith("ganserve: --features digits-judge: the judges are in the package")
