"""The model repository on disk: manifests come back as written, versions are whole or absent."""

import hashlib
import json
import os
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
        (lambda found: found.update(schema_version=10**400), "schema_version 1000.*; this version reads 1"),
        (lambda found: found.pop("parity"), "manifest: parity is missing"),
        (lambda found: found.pop("tile"), "manifest: tile is missing"),
        (lambda found: found.update(extra=1), "manifest: extra: unknown key"),
        (lambda found: found.update(task="dancing"), "task is 'dancing', must be one of unconditional, class-cond"),
        (lambda found: found.update(task=["dancing"]), "task is list, must be one of unconditional"),
        (lambda found: found.update(image_shape=[1, 2]), "image_shape is list, must be a list of 3"),
        (lambda found: found.update(image_shape={}), "image_shape is dict, must be a list"),
        (lambda found: found.update(latent_size="4"), "latent_size is '4', must be an integer"),
        (lambda found: found.update(latent_size=4.0), "latent_size is 4.0, must be an integer"),
        (lambda found: found.update(latent_size=True), "latent_size is True, must be an integer"),
        (lambda found: found.update(latent_size=-1), "latent_size has -1, must be 0 to 2147483647"),
        (lambda found: found.update(latent_size=1 << 30), "latent_size is 1073741824 values an item, must be 16777216"),
        (lambda found: found.update(scale=10**30), "scale: an integer beyond 9007199254740991"),
        (lambda found: found.update(multiple_px=1 << 31), "multiple_px has 2147483648, must be 1 to 2147483647"),
        (lambda found: found.update(truncation_default="a"), "truncation_default is 'a', must be a number"),
        (lambda found: found.update(truncation_default=10**30), "truncation_default: an integer beyond"),
        (lambda found: found.update(labels="cat"), "labels is 'cat', must be a list"),
        (lambda found: found.update(labels=["\ud800"]), "labels.0. is '.ud800', must be text of whole characters"),
        (lambda found: found.update(tensors="pixels"), "tensors is 'pixels', must be uint8 or float32"),
        (lambda found: found.update(hyperparameters={"a": [1]}), "hyperparameters.a is list, must be true or false or"),
        (lambda found: found.update(plan={"profiles": 7}), "plan.profiles is 7, must be a list"),
        (lambda found: found["inputs"][0].update(shape=[-2]), "inputs.shape has -2, must be -1"),
        (lambda found: found["inputs"][0].update(dtype=None), r"inputs\[0\].dtype is None, must be text"),
    ],
)
def test_a_manifest_that_cannot_be_read_says_why(change: object, sentence: str) -> None:
    found = json.loads(SPEC.to_json())
    assert callable(change)
    change(found)
    with pytest.raises(SpecError, match=sentence):
        Spec.from_json(json.dumps(found))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b'{"task": "\xe9"}', "manifest.json is not UTF-8 text: byte 0xe9 at 10"),
        (b"[" * 100_000, "manifest: nested too deeply"),
        (b"9" * 5000, "manifest: not JSON: Exceeds the limit"),
        (b"[NaN]", "manifest: not JSON: NaN is not a JSON number"),
        (SPEC.to_json().replace('"latent_size": 0', '"latent_size": 1e999').encode(), "latent_size is inf, must be an"),
        (
            SPEC.to_json().replace('"tolerance": 1.0', '"tolerance": 1e999').encode(),
            "parity.tolerance is inf, must be a",
        ),
        (b"", "manifest: not JSON: Expecting value"),
        (b" " * (16 << 20) + b"1", "manifest.json has 16777217 bytes; at most 16777216"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "manifest.json is a Git LFS pointer"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_manifest_of_any_bytes_is_refused_with_a_reason(tmp_path: Path, data: bytes, sentence: str) -> None:
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises((SpecError, ArtifactError), match=sentence):
        read_manifest(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_manifest_that_an_editor_saved_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "manifest.json").write_bytes(SPEC.to_json().replace("\n", "\r\n").encode(encoding))
    assert read_manifest(tmp_path) == SPEC


def test_what_is_no_file_is_not_read_as_one(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    assert read_manifest(tmp_path) is None
    path.symlink_to("manifest.json")
    with pytest.raises(ArtifactError, match=r"manifest\.json cannot be read: Too many levels of symbolic links"):
        read_manifest(tmp_path)
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(ArtifactError, match=r"manifest\.json is a link to what does not exist"):
        read_manifest(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArtifactError, match=r"manifest\.json is not a file"):
        read_manifest(tmp_path)


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
    (folder / "model.onnx").write_bytes(b"\xf0ther")
    with pytest.raises(ArtifactError, match=r"model.onnx has sha256 .* in the manifest"):
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
    with pytest.raises(ArtifactError, match=r"model\.fp32\.onnx, named by the manifest, is missing on disk"):
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
