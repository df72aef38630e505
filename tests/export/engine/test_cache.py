"""Engines and timings that are kept: under which key, when they are used, and when not."""

from pathlib import Path
from typing import Any

import onnx
import pytest

from artifact import tensorrt
from export.engine.cache import plan_key
from tests.export.engine.small_engines import built, cuda, halving, sizes


@pytest.fixture
def halver(tmp_path: Path) -> Path:
    return halving(tmp_path / "model.onnx")


def test_the_same_engine_is_not_built_twice_and_another_is(halver: Path) -> None:
    lines: list[str] = []
    heard = {"progress": lambda line, share: lines.append(line)}
    path, first = built(halver, sizes(2, 64), **heard)
    content = path.read_bytes()
    path.unlink()
    lines.clear()
    _, second = built(halver, sizes(2, 64), **heard)
    assert lines == ["this engine was built before: taken from the cache"]
    assert (path.read_bytes(), second) == (content, first)
    lines.clear()
    built(halver, sizes(2, 32), **heard)
    assert lines[0].startswith("building the engine with TensorRT for RTX")
    assert len([*halver.parent.glob("cache/plans/*.plan")]) == 2


def test_an_engine_that_was_kept_badly_is_built_again(halver: Path) -> None:
    path, _ = built(halver, sizes(2, 64))
    (kept,) = halver.parent.glob("cache/plans/*.plan")
    assert kept.read_bytes() == path.read_bytes()
    kept.write_bytes(kept.read_bytes()[:-1])
    path.unlink()
    built(halver, sizes(2, 64))
    assert len(path.read_bytes()) > 1000
    assert kept.read_bytes() == path.read_bytes(), "repaired"


def test_an_engine_is_made_where_the_cache_cannot_be_written(halver: Path) -> None:
    (halver.parent / "cache").write_text("a file, no folder")
    lines: list[str] = []
    path, _ = built(halver, sizes(2, 64), progress=lambda line, share: lines.append(line))
    assert path.stat().st_size > 1000
    assert lines[-1].startswith("the engine cannot be kept in the cache: ")


def test_every_ingredient_changes_the_key() -> None:
    facts = {
        "onnx_sha256": "ab" * 32,
        "variant": "rtx",
        "version": "1.7.1.116",
        "compute_capabilities": ("8.9",),
        "precision": "fp32",
        "profiles": sizes(2, 64),
    }
    others = {
        "onnx_sha256": "cd" * 32,
        "variant": "classic",
        "version": "1.7.1.117",
        "compute_capabilities": (),
        "precision": "fp16",
        "profiles": sizes(2, 65),
    }
    key = plan_key(**facts)  # type: ignore[arg-type]
    assert len(key) == 64
    assert plan_key(**{**facts, "profiles": [dict(sizes(2, 64)[0])]}) == key  # type: ignore[arg-type]
    changed = {plan_key(**{**facts, name: other}) for name, other in others.items()}  # type: ignore[arg-type]
    assert len(changed | {key}) == 1 + len(others)


def test_weights_next_to_the_graph_are_found_and_such_engines_are_not_kept(halver: Path) -> None:
    onnx.save_model(onnx.load(halver), halver, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (halver.parent / "weights.bin").stat().st_size > 0
    path, _ = built(halver, sizes(2, 64))
    assert path.stat().st_size > 1000
    assert not (halver.parent / "cache").exists(), "the graph's sha256 says nothing of such weights"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # RTX still has classic's timing cache, as a no-op
def test_classic_tensorrt_goes_on_from_what_it_timed_before(halver: Path) -> None:
    library = tensorrt.load("rtx")
    classic: dict[str, Any] = {"variant": "classic", "library": library, "cuda": cuda(8, 9)}
    _, plan = built(halver, sizes(2, 64), **classic)
    assert plan.compute_capabilities == ("8.9",)
    timings = halver.parent / "cache" / "timing" / f"classic-{library.__version__}-8.9.cache"
    content = timings.read_bytes()
    assert content
    built(halver, sizes(2, 32), **classic)
    timings.write_bytes(b"no timings")
    path, _ = built(halver, sizes(2, 16), **classic)
    assert path.stat().st_size > 1000
    assert timings.read_bytes() == content, "what cannot be read is replaced"
