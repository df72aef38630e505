"""The model repository on disk: manifests come back as written, versions are whole or absent."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifact.repository import ArtifactError, check_target, next_version, read_manifest, verify, write_version
from artifact.spec import Parity, Provenance, ShapeRange, Spec, SpecError, Task, TensorRTPlan, TensorSpec, Tile

TEXT = st.text(max_size=12)
SIZES = st.integers(1, 4096)
TENSORS = st.builds(
    TensorSpec, TEXT, st.sampled_from(["UINT8", "FP32", "INT64"]), st.lists(st.integers(-1, 99), max_size=3).map(tuple)
)
SHAPES = st.lists(SIZES, max_size=3).map(tuple)
PLANS = st.builds(
    TensorRTPlan,
    variant=st.sampled_from(["rtx", "classic"]),
    version=TEXT,
    compute_capabilities=st.lists(TEXT, max_size=2).map(tuple),
    precision=st.sampled_from(["fp32", "fp16", "bf16"]),
    onnx_sha256=TEXT,
    profiles=st.lists(st.dictionaries(TEXT, st.builds(ShapeRange, SHAPES, SHAPES, SHAPES), max_size=2), max_size=2).map(
        tuple
    ),
)
SPECS = st.builds(
    Spec,
    plan=st.none() | PLANS,
    task=st.sampled_from(Task),
    architecture=TEXT,
    hyperparameters=st.dictionaries(TEXT, st.one_of(st.booleans(), st.integers(-9, 9), TEXT), max_size=3),
    tensors=st.sampled_from(["uint8", "float32"]),
    precision=st.sampled_from(["fp32", "fp16"]),
    opset=st.integers(18, 24),
    inputs=st.lists(TENSORS, max_size=2).map(tuple),
    outputs=st.lists(TENSORS, max_size=2).map(tuple),
    image_shape=st.tuples(SIZES, SIZES, SIZES),
    provenance=st.builds(Provenance, TEXT, TEXT, TEXT, st.dictionaries(TEXT, TEXT, max_size=2)),
    parity=st.builds(Parity, st.floats(0, 9), st.floats(0, 9), st.just((1, 5)), st.just((0, 1))),
    latent_size=st.integers(0, 999),
    labels=st.lists(TEXT, max_size=3).map(tuple),
    truncation_default=st.none() | st.floats(0, 1),
    scale=st.integers(1, 4),
    tile=st.none() | st.builds(Tile, SIZES, SIZES, SIZES, SIZES, st.floats(0, 255)),
)
SPEC = Spec(
    task=Task.UNCONDITIONAL,
    architecture="dcgan",
    hyperparameters={"nz": 4},
    tensors="uint8",
    precision="fp32",
    opset=18,
    inputs=(TensorSpec("latent", "FP32", (4,)),),
    outputs=(TensorSpec("image", "UINT8", (8, 8, 3)),),
    image_shape=(8, 8, 3),
    provenance=Provenance("test", "none", "0" * 64),
    parity=Parity(1.0, 0.0, (1, 5), (0, 1)),
)


@given(SPECS)
def test_a_manifest_comes_back_as_it_was_written(spec: Spec) -> None:
    assert Spec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda found: found.update(schema_version=99), "schema_version 99; this version reads 1"),
        (lambda found: found.pop("parity"), "KeyError: 'parity'"),
        (lambda found: found.update(extra=1), "unexpected keyword argument 'extra'"),
        (lambda found: found.update(task="dancing"), "'dancing' is not a valid Task"),
        (lambda found: found.update(image_shape=[1, 2]), "not enough values"),
    ],
)
def test_a_manifest_that_cannot_be_read_says_why(change: object, sentence: str) -> None:
    found = json.loads(SPEC.to_json())
    assert callable(change)
    change(found)
    with pytest.raises(SpecError, match=sentence):
        Spec.from_json(json.dumps(found))


def model_file(folder: Path, text: str = "graph") -> dict[str, Path]:
    (folder / "incoming").write_text(text)
    return {"model.onnx": folder / "incoming"}


def test_a_version_is_written_whole_and_verifies(tmp_path: Path) -> None:
    folder = write_version(tmp_path / "repository", "m", 3, SPEC, model_file(tmp_path), "name: 'm'\n")
    assert folder == tmp_path / "repository" / "m" / "3"
    spec = read_manifest(folder)
    assert spec is not None
    assert replace(spec, files={}) == SPEC
    verify(folder, spec)
    assert sorted(path.name for path in (tmp_path / "repository").iterdir()) == ["m"]


def test_a_changed_or_missing_file_does_not_verify(tmp_path: Path) -> None:
    folder = write_version(tmp_path, "m", 1, SPEC, model_file(tmp_path), "")
    spec = read_manifest(folder)
    assert spec is not None
    (folder / "model.onnx").write_text("other")
    with pytest.raises(ArtifactError, match=r"model\.onnx: sha256 .* on disk"):
        verify(folder, spec)
    (folder / "model.onnx").unlink()
    with pytest.raises(ArtifactError, match="missing on disk"):
        verify(folder, spec)


def test_a_plan_may_travel_without_its_graph(tmp_path: Path) -> None:
    written = tmp_path / "1"
    written.mkdir()
    (written / "model.plan").write_bytes(b"plan")
    digest = hashlib.sha256(b"plan").hexdigest()
    verify(written, replace(SPEC, files={"model.onnx": "0" * 64, "model.plan": digest}))
    with pytest.raises(ArtifactError, match=r"model\.fp32\.onnx: named by the manifest, missing on disk"):
        verify(written, replace(SPEC, files={"model.fp32.onnx": "0" * 64, "model.plan": digest}))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden"])
def test_names_that_are_no_folder_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactError, match="plain folder name"):
        write_version(tmp_path / "repository", name, 1, SPEC, {}, "")
    assert not (tmp_path / "repository").exists()


def test_a_version_is_never_overwritten_and_a_failed_one_leaves_nothing(tmp_path: Path) -> None:
    write_version(tmp_path / "repository", "m", 1, SPEC, model_file(tmp_path), "first")
    with pytest.raises(ArtifactError, match="exists; pass another --version"):
        write_version(tmp_path / "repository", "m", 1, SPEC, model_file(tmp_path), "second")
    with pytest.raises(FileNotFoundError):
        write_version(tmp_path / "repository", "m", 2, SPEC, {"model.onnx": tmp_path / "absent"}, "third")
    assert (tmp_path / "repository" / "m" / "config.pbtxt").read_text() == "first"
    assert sorted(path.name for path in (tmp_path / "repository").rglob("*")) == [
        "1", "config.pbtxt", "m", "manifest.json", "model.onnx",
    ]  # fmt: skip


def test_a_target_is_checked_without_a_trace_on_disk(tmp_path: Path) -> None:
    check_target(tmp_path / "new" / "repository", "m", 1)
    assert not list(tmp_path.iterdir())
    (tmp_path / "m" / "1").mkdir(parents=True)
    check_target(tmp_path, "m", 2)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["1", "m"]


@pytest.mark.parametrize("repository", ["a file", "a file/below", "/proc/none"])
def test_a_repository_that_cannot_be_written_is_refused_by_name(tmp_path: Path, repository: str) -> None:
    (tmp_path / "a file").write_text("no folder")
    with pytest.raises(ArtifactError, match=f"cannot write .*{repository}/m/1: "):
        check_target(tmp_path / repository, "m", 1)


def test_a_model_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("no folder")
    with pytest.raises(ArtifactError, match=r"cannot write .*/m/1: "):
        check_target(tmp_path, "m", 1)


def test_the_next_version_follows_the_highest_on_disk(tmp_path: Path) -> None:
    assert next_version(tmp_path, "m") == 1
    for name in ("2", "10", "old", "²", ".11"):
        (tmp_path / "m" / name).mkdir(parents=True)
    assert next_version(tmp_path, "m") == 11
