"""What exports measure of a generator's images, and say of a version that makes others."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from artifact.repository import read_manifest
from artifact.spec import Spec
from export import golden as module
from export.golden import IMAGES, LEAST, add_golden, measure_golden
from export.graph.parity import open_session
from export.judge.find import JudgeWanted
from export.pipeline import Exported
from tests.server.graphs import write_golden, write_styled, write_translator


def silent(line: str) -> None:
    pass


def test_an_export_measures_generators_and_nothing_else(faces: Exported, upscaler: Exported) -> None:
    golden = faces.spec.golden
    assert golden is not None
    assert golden.images == IMAGES
    assert golden.channels == 3
    assert not golden.is_by_class
    assert upscaler.spec.golden is None


def test_a_slow_graph_is_measured_on_fewer_images_and_classes_have_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_styled(tmp_path, "styled")
    session = open_session(tmp_path / "styled" / "1" / "model.onnx")
    found = measure_golden(spec, session)
    assert (found.images, len(found.figures["mean"])) == (IMAGES, len(spec.labels))
    monkeypatch.setattr(module, "LIMIT_S", 0.0)
    assert measure_golden(spec, session).images == LEAST


def test_a_version_whose_images_differ_from_those_of_the_one_before_is_told_of(tmp_path: Path) -> None:
    write_styled(tmp_path, "styled")
    model = tmp_path / "styled"
    write_golden(model / "1")
    spec = read_manifest(model / "1")
    assert spec is not None
    proto = onnx.load(model / "1" / "model.onnx")

    def add(spec: Spec, version: int) -> tuple[Spec, Mapping[str, Path], tuple[str, ...]]:
        judge = JudgeWanted(), tmp_path / "styled.onnx"
        return add_golden(spec, open_session(proto), (model, version), judge, tmp_path, silent)

    assert add(spec, 2) == (spec, {}, ()), "the same graph"
    (bias,) = (each for each in proto.graph.initializer if each.name == "grey")
    bias.CopyFrom(numpy_helper.from_array(np.array(20, np.float32), "grey"))
    _, _, (said,) = add(spec, 2)
    assert said.startswith("its images differ from those of version 1, in standard deviations of one image: mean by ")
    assert add(spec, 1)[2] == (), "there is none before"
    other = replace(spec, labels=())
    (model / "1" / "manifest.json").write_text(replace(other, golden=None).to_json())
    assert add(spec, 2)[2] == (), "nothing to compare with"
    write_translator(tmp_path, "other")
    translator = read_manifest(tmp_path / "other" / "1")
    assert translator is not None
    assert add(translator, 2) == (translator, {}, ())
