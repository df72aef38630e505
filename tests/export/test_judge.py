"""The judge beside a generator: found, brought to its images, run on them, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from artifact.repository import JUDGE, sha256_of
from artifact.spec import Provenance, Spec
from export.errors import ExportError
from export.golden import IMAGES, add_golden
from export.graph.parity import open_session
from export.judge.find import JudgeWanted, check_judge, find_judge, read_judge
from export.judge.graph import brought, resampling
from export.judge.run import Judge
from models.zoo.judges import judge_of
from tests.server.graphs import write_styled

CLASSES = ("dark", "bright")


def write_judge(path: Path, shape: list[Any], classes: int = 2, of: int = TensorProto.UINT8) -> Path:
    """Features are the image's values, and scores of two classes minus and plus what their mean is above 128."""
    nodes = [
        helper.make_node("Cast", ["picture"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["values"], ["features"]),
    ]
    outputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", None])]
    if classes:
        nodes += [
            helper.make_node("ReduceMean", ["features", "one"], ["mean"], keepdims=1),
            helper.make_node("MatMul", ["mean", "signs"], ["apart"]),
            helper.make_node("Sub", ["apart", "shift"], ["scores"]),
        ]
        outputs.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", classes]))
    signs = np.resize(np.array([-1, 1], np.float32), (1, max(1, classes)))
    constants = {"one": np.array([1]), "signs": signs, "shift": signs * 128}
    model = helper.make_model(
        helper.make_graph(
            nodes, "judge", [helper.make_tensor_value_info("picture", of, shape)], outputs,
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=10,
    )  # fmt: skip
    if classes:
        model.metadata_props.add(key="classes", value=json.dumps(CLASSES[:classes]))
    onnx.save(model, path)
    return path


def opened(path: Path, shape: tuple[int, int, int], **wanted: Any) -> Any:
    """The graph as it is brought to images of a shape."""
    found = read_judge(path, "it", JudgeWanted(str(path), **wanted))
    return open_session(brought(found, shape))


@pytest.fixture
def styled(tmp_path: Path) -> Spec:
    return write_styled(tmp_path / "repository", "styled")


def measured(tmp_path: Path, spec: Spec, wanted: JudgeWanted, version: int = 2) -> tuple[Spec, tuple[str, ...]]:
    """The spec with its golden statistics; the judge's file goes into the version's folder."""
    check_judge(wanted)
    model = tmp_path / "repository" / "styled"
    folder = model / str(version)
    folder.mkdir(exist_ok=True)
    session = open_session(onnx.load(model / "1" / "model.onnx"))
    spec, files, said = add_golden(spec, session, (model, version), (wanted, tmp_path / "own.pt"), folder, print)
    assert set(files) == ({JUDGE} if spec.judge else set())
    return spec, said


@pytest.mark.parametrize(("shape", "channels"), [((5, 7, 3), 3), ((5, 7, 3), 1), ((4, 4, 1), 3), ((4, 4, 4), 3)])
def test_an_image_comes_in_the_judges_colours_and_size_whatever_its_layout(
    tmp_path: Path, shape: tuple[int, int, int], channels: int
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    last = write_judge(tmp_path / "last.onnx", ["N", *shape[:2], channels], 0)
    first = write_judge(tmp_path / "first.onnx", ["N", channels, *shape[:2]], 0, TensorProto.FLOAT)
    (found,) = opened(last, shape).run(["features"], {"image": image})
    (floats,) = opened(first, shape, pixels="-1..1").run(["features"], {"image": image})
    for index, each in enumerate(image):
        colours = each.squeeze() if shape[2] == 1 else each[..., :3]
        wanted = np.asarray(Image.fromarray(colours).convert("L" if channels == 1 else "RGB")).reshape(*shape[:2], -1)
        assert np.abs(found[index] - wanted.reshape(-1)).max() <= 1
        planes = wanted.transpose(2, 0, 1).reshape(-1) / 127.5 - 1
        np.testing.assert_allclose(floats[index], planes, atol=1 / 127)


def test_an_image_is_resized_as_pillow_does(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 40, 24, 3), np.uint8)
    path = write_judge(tmp_path / "small.onnx", ["N", 10, 12, 3], 0)
    (found,) = opened(path, (40, 24, 3)).run(["features"], {"image": image})
    wanted = np.asarray(Image.fromarray(image[0]).resize((12, 10), Image.Resampling.BICUBIC))
    assert np.abs(found.reshape(10, 12, 3) - wanted).max() <= 2
    np.testing.assert_allclose(resampling(10, 10), np.eye(10), atol=1e-6)


def test_a_judge_counts_the_classes_of_each_label(tmp_path: Path, styled: Spec) -> None:
    path = write_judge(tmp_path / "own-judge.onnx", ["N", "H", "W", 1])
    spec, said = measured(tmp_path, styled, JudgeWanted("auto"))
    assert said == ()
    assert spec.judge is not None
    assert (spec.judge.classes, spec.judge.grouped, spec.judge.provenance.source) == (CLASSES, False, path.name)
    assert spec.golden is not None
    assert len(spec.golden.judged) == len(spec.labels)
    assert sum(sum(row) for row in spec.golden.judged) == spec.golden.images == IMAGES
    assert spec.golden.judged[0][1] < spec.golden.judged[-1][1], "later labels are brighter"
    assert Spec.from_json(spec.to_json()) == spec


def test_features_alone_make_groups_which_later_versions_keep(tmp_path: Path, styled: Spec) -> None:
    wanted = JudgeWanted(str(write_judge(tmp_path / "features.onnx", ["N", "H", "W", 1], 0)))
    spec, _ = measured(tmp_path, styled, wanted)
    assert spec.judge is not None
    assert spec.judge.grouped
    assert len(spec.judge.classes) == 8
    folder = tmp_path / "repository" / "styled" / "2"
    (folder / "manifest.json").write_text(replace(spec, files={JUDGE: sha256_of(folder / JUDGE)}).to_json())
    later, said = measured(tmp_path, styled, wanted, 3)
    assert later.golden == spec.golden
    assert (later.judge, said) == (spec.judge, ())
    assert (folder.parent / "3" / JUDGE).read_bytes() == (folder / JUDGE).read_bytes()
    images = np.random.default_rng(0).integers(0, 256, (3, *spec.image_shape), np.uint8)
    scores = open_session(folder / JUDGE).run(["scores"], {"image": images})[0]
    assert scores.shape == (3, 8)
    other = JudgeWanted(str(write_judge(tmp_path / "other.onnx", ["N", "H", "W", 1])))
    assert not measured(tmp_path, styled, other, 4)[0].golden.is_judged_like(spec.golden)  # type: ignore[union-attr, arg-type]


def test_groups_are_kept_only_of_a_judge_that_takes_the_same_range(tmp_path: Path, styled: Spec) -> None:
    path = str(write_judge(tmp_path / "floats.onnx", ["N", "H", "W", 1], 0, TensorProto.FLOAT))
    folder = tmp_path / "repository" / "styled"
    for version, pixels in ((2, "0..255"), (3, "0..1"), (4, "0..255")):
        spec, _ = measured(tmp_path, styled, JudgeWanted(path, pixels=pixels), version)
        files = {JUDGE: sha256_of(folder / str(version) / JUDGE)}
        (folder / str(version) / "manifest.json").write_text(replace(spec, files=files).to_json())
    images = np.full((1, *styled.image_shape), 255, np.uint8)
    seen = [
        open_session(folder / name / JUDGE).run(["features"], {"image": images})[0].max() for name in ("2", "3", "4")
    ]
    assert seen == [255, 1, 255]
    assert (folder / "4" / JUDGE).read_bytes() == (folder / "2" / JUDGE).read_bytes()


def test_a_judge_lies_beside_the_folder_that_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").mkdir()
    monkeypatch.chdir(tmp_path / "own")
    origin = Provenance("own", "not stated", "0" * 64)
    assert find_judge(JudgeWanted("auto"), Path(), origin, True) == (None, ())
    write_judge(tmp_path / "own-judge.onnx", ["N", "H", "W", 1])
    found, said = find_judge(JudgeWanted("auto"), Path(), origin, True)
    assert (found and found.classes, said) == (CLASSES, ())


def test_what_cannot_judge_is_refused_if_it_was_asked_for_and_else_left_out(tmp_path: Path, styled: Spec) -> None:
    names = tmp_path / "names.txt"
    names.write_text("one\ntwo\nthree\n")
    path = write_judge(tmp_path / "own-judge.onnx", ["N", "H", "W", 1])
    floats = write_judge(tmp_path / "f.onnx", ["N", 3, 8, 8], 0, TensorProto.FLOAT)
    fixed = write_judge(tmp_path / "fixed.onnx", [1, 8, 8, 3])
    for wanted, says in (
        (JudgeWanted(str(tmp_path / "none.onnx")), "no such file; or auto or none"),
        (JudgeWanted("auto", names), "--judge-classes: goes with --judge FILE"),
        (JudgeWanted(str(names)), "is not an ONNX graph"),
        (JudgeWanted(str(floats)), "takes float32, and no file says of which range"),
        (JudgeWanted(str(floats), pixels="0..2"), "--judge-pixels 0..2: must be one of"),
        (JudgeWanted(str(path), pixels="0..1"), "takes uint8; leave out --judge-pixels"),
        (JudgeWanted(str(path), names), "the judge gives 2 scores, and has 3 classes"),
        (JudgeWanted(str(fixed)), "takes batches of 1 only"),
    ):  # fmt: skip
        with pytest.raises(ExportError, match=says):
            measured(tmp_path, styled, wanted)
    path.write_bytes(fixed.read_bytes())
    spec, (said,) = measured(tmp_path, styled, JudgeWanted("auto"))
    assert (spec.judge, said.startswith("no judge: the judge takes batches of 1 only")) == (None, True)
    assert measured(tmp_path, styled, JudgeWanted())[0].judge is None


def test_the_zoos_judge_of_digits_names_them(tmp_path: Path) -> None:
    session = opened(judge_of("zoo digits: weights"), (28, 28, 1))
    scores, features = session.run(["scores", "features"], {"image": np.zeros((2, 28, 28, 1), np.uint8)})
    assert (scores.shape, features.shape) == ((2, 10), (2, 256))


def test_a_judge_that_gives_no_finite_numbers_is_refused(tmp_path: Path) -> None:
    model = onnx.load(write_judge(tmp_path / "nan.onnx", ["N", 4, 4, 1]))
    (shift,) = (each for each in model.graph.initializer if each.name == "shift")
    shift.CopyFrom(numpy_helper.from_array(np.full((1, 2), np.nan, np.float32), "shift"))
    onnx.save(model, tmp_path / "nan.onnx")
    found = read_judge(tmp_path / "nan.onnx", "it", JudgeWanted())
    with pytest.raises(ExportError, match="finite numbers"):
        Judge(found, brought(found, (4, 4, 1)), tmp_path / JUDGE, None).see(np.zeros((2, 4, 4, 1), np.uint8))
