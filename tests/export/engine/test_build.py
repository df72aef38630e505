"""Engines built on this machine without a GPU by TensorRT for RTX; classic TensorRT by the same code.

The two libraries share their API, so classic's path (timings kept, the local GPU) runs on RTX's builder, with a fake
of CUDA's binding that knows one GPU.
"""

import signal
import subprocess
import sys
import threading
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from artifact import tensorrt
from artifact.repository import sha256_of
from artifact.shapes import Sides
from artifact.spec import ShapeRange, Spec, TensorRTPlan
from export.engine.build import build, local_compute_capability
from export.engine.builder_log import Phases, set_flags
from export.engine.profiles import NetworkShapes, parse_profiles
from export.engine.targets import target_capabilities
from export.errors import ExportError
from export.pipeline import Exported
from ganserve.cli.main import main
from tests.export.engine.small_engines import FLOAT, built, cuda, graph, halving, refused, sizes


@pytest.fixture
def halver(tmp_path: Path) -> Path:
    return halving(tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("fixture", ["faces", "upscaler"])
def test_exported_networks_become_engines_that_the_manifest_describes(
    fixture: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    exported: Exported = request.getfixturevalue(fixture)
    spec, onnx_path = exported.spec, exported.folder / "model.onnx"
    profiles = parse_profiles((), NetworkShapes(spec.inputs, 8, Sides.of(spec)))
    seen: list[tuple[str, float | None]] = []
    plan = build(
        onnx_path,
        tmp_path / "model.plan",
        variant="rtx",
        precision=spec.precision,
        profiles=profiles,
        cache_dir=tmp_path,
        progress=lambda line, share: seen.append((line, share)),
    )
    runtime = tensorrt.load("rtx")
    assert (tmp_path / "model.plan").stat().st_size > 1000
    assert plan == TensorRTPlan("rtx", runtime.__version__, (), spec.precision, sha256_of(onnx_path), profiles), (
        "everything that the engine was built from, with and for"
    )
    assert Spec.from_json(replace(spec, plan=plan).to_json()).plan == plan
    assert seen[0] == (f"building the engine with TensorRT for RTX {runtime.__version__}", None)
    shares = [share for _, share in seen if share is not None]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.2
    assert 0.8 < shares[-1] <= 1


def test_an_engine_is_built_for_the_gpus_that_were_requested(halver: Path) -> None:
    path, plan = built(halver, sizes(2, 64), "12.0", "8.9", "8.9")
    assert plan.compute_capabilities == ("8.9", "12.0")
    two = path.read_bytes()
    _, portable = built(halver, sizes(2, 64))
    assert portable.compute_capabilities == ()
    assert path.read_bytes() != two


def test_every_operator_that_tensorrt_does_not_know_is_listed_with_its_node(tmp_path: Path) -> None:
    path = graph(
        tmp_path / "model.onnx",
        helper.make_node("Relu", ["x"], ["a"], name="fine"),
        helper.make_node("Det", ["a"], ["b"], name="first"),
        helper.make_node("Ours", ["a"], ["c"], name="second", domain="ours"),
        helper.make_node("Bernoulli", ["a"], ["y"]),
    )
    told = refused(path, sizes(2, 64))
    assert told == "TensorRT does not support: Det at node 'first', Ours at node 'second', Bernoulli at node '#3'"


def test_a_node_that_tensorrt_cannot_use_is_named_with_tensorrts_own_words(tmp_path: Path) -> None:
    path = graph(
        tmp_path / "model.onnx",
        helper.make_node("Cast", ["x"], ["levels"], name="early", to=TensorProto.UINT8),
        helper.make_node("Cast", ["levels"], ["y"], name="late", to=FLOAT),
    )
    told = refused(path, sizes(2, 64))
    assert told.startswith("TensorRT does not support: Cast at node 'early' (TensorRT does not support UINT8 types for")
    assert ".cpp" not in told
    path.write_bytes(b"no graph" * 9)
    with pytest.raises(ExportError, match="not an ONNX graph"):
        built(path, sizes(2, 64))


def test_a_profile_that_the_network_contradicts_is_refused(halver: Path) -> None:
    for smallest, largest in ((5, 5), (5, 64), (4, 5)):
        told = refused(halver, sizes(smallest, largest))
        assert "skip: axis 2 dimensions must be equal for concatenation" in told
        assert "/_src" not in told
    assert "profile 0" in refused(halver, ({"x": ShapeRange(*((1, 4, 8, 8),) * 3)},))
    assert "x is missing dimensions in profile 0" in refused(halver, ({},))
    assert "MIN<=OPT<=MAX" in refused(halver, ({"x": ShapeRange((2, 3, 8, 8), (1, 3, 8, 8), (2, 3, 8, 8))},))


def test_a_refusal_keeps_nothing_of_the_library_alive(halver: Path) -> None:
    with pytest.raises(ExportError) as caught:
        built(halver, sizes(5, 5))
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert any(frame.f_code.co_name == "_attempt" for frame in frames)
    kept = [value for frame in frames for value in frame.f_locals.values()]
    assert not [value for value in kept if type(value).__module__.startswith("tensorrt")], (
        "a builder that the garbage collector frees during another one's callback never returns"
    )


def test_gpus_that_cannot_be_built_for_are_refused_with_those_that_can(halver: Path) -> None:
    told = refused(halver, sizes(2, 64), "8.9", "9.0")
    assert told == ("--compute-capability 9.0: this library builds for 7.5, 8.0, 8.6, 8.9, 12.0, 12.1, or current")
    assert refused(halver, sizes(2, 64), "sm_89").startswith("--compute-capability sm_89: this library builds for 7.5")
    assert (
        refused(halver, sizes(2, 64), "current", "8.9")
        == "--compute-capability current,8.9: current cannot be combined with others"
    )
    told = refused(halver, sizes(2, 64), "8.9", "7.5", precision="bf16")
    assert told == "--precision bf16: compute capability 7.5 does not support it; 8.0 and later do"


def test_building_for_the_local_gpu_needs_one(halver: Path) -> None:
    told = refused(halver, sizes(2, 64), "current", cuda=cuda(0, 0))
    assert told == "building for the local GPU needs a GPU and its driver: no CUDA-capable device is detected"
    assert local_compute_capability(cuda(12, 1)) == "12.1"


def test_a_local_gpu_that_tensorrt_for_rtx_does_not_support_is_refused_before_the_build(halver: Path) -> None:
    lines: list[str] = []
    told = refused(halver, sizes(2, 64), "current", cuda=cuda(9, 0), progress=lambda line, share: lines.append(line))
    assert told == (
        "--compute-capability current: the local GPU is 9.0; TensorRT for RTX supports 7.5, 8.0, 8.6, 8.9, 12.0, 12.1 "
        "and newer. Use --tensorrt classic, or leave --tensorrt out: the server runs the graph"
    )
    assert lines == []


@pytest.mark.parametrize(
    ("variant", "requested", "gpu"),
    [("rtx", "current", "7.5"), ("rtx", "current", "12.1"), ("rtx", "current", "13.0"), ("classic", "", "9.0")],
)
def test_a_local_gpu_that_is_listed_or_newer_is_taken_and_by_classic_any(
    variant: str, requested: str, gpu: str
) -> None:
    library = tensorrt.load("rtx")
    assert target_capabilities(variant, requested.split(), "fp32", library, lambda: gpu) == (gpu,)


def test_classic_tensorrt_builds_only_for_the_local_gpu(halver: Path) -> None:
    classic: dict[str, Any] = {"variant": "classic", "library": tensorrt.load("rtx")}
    told = refused(halver, sizes(2, 64), "8.9", cuda=cuda(8, 9), **classic)
    assert told.startswith("--compute-capability 8.9: classic TensorRT builds only for the local GPU")
    told = refused(halver, sizes(2, 64), precision="bf16", cuda=cuda(7, 5), **classic)
    assert told == "--precision bf16: compute capability 7.5 does not support it; 8.0 and later do"
    assert "needs a GPU and its driver" in refused(halver, sizes(2, 64), cuda=cuda(0, 0), **classic)


@pytest.mark.parametrize(
    ("variant", "missing", "extra"),
    [("rtx", ("tensorrt_rtx_libs", "tensorrt_rtx"), "tensorrt-rtx"), ("classic", ("tensorrt",), "tensorrt")],
)
def test_a_missing_library_is_one_line_that_says_what_to_install(
    variant: str, missing: tuple[str, ...], extra: str, halver: Path
) -> None:
    code = f"""
import sys
from pathlib import Path
sys.modules.update(dict.fromkeys({missing!r}))
from export.errors import ExportError
from export.engine.build import build
try:
    build(Path({str(halver)!r}), Path("model.plan"), variant={variant!r}, precision="fp32", profiles=())
except ExportError as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"install 'ganserve[{extra}]'" in told
    assert told.count("\n") == 1


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_build_leaves_nothing(halver: Path) -> None:
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    pressed: list[str] = []

    def press(line: str, share: float | None = None) -> None:
        if share is not None and not pressed:
            pressed.append(line)
            signal.pthread_kill(main_thread, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        built(halver, sizes(2, 64), progress=press)
    assert pressed
    assert not (halver.parent / "engine").exists()


def test_a_build_that_cannot_say_how_far_it_is_stops(halver: Path) -> None:
    calls: list[float] = []

    def leave(line: str, share: float | None = None) -> None:
        if share is not None:
            calls.append(share)
            raise BrokenPipeError("nobody reads this")

    with pytest.raises(BrokenPipeError, match="nobody reads this"):
        built(halver, sizes(2, 64), progress=leave)
    assert len(calls) < 10, "a whole build makes some fifty"
    assert not (halver.parent / "engine").exists()


def test_nested_phases_are_one_share_that_never_falls() -> None:
    shares: list[float | None] = []
    phases = Phases(lambda line, share: shares.append(share))
    phases.start("whole", 2)
    phases.start("part", 4)
    assert phases.step("part", 0)
    assert phases.step("part", 1)
    phases.finish("part")
    assert phases.step("whole", 0)
    phases.start("endless", 0)
    phases.stop()
    assert not phases.step("endless", 5)
    assert shares == [0, 0, 1 / 8, 1 / 4, 1 / 2, 1 / 2, 1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--precision", "bf16"], "--precision bf16: needs --tensorrt, since ONNX Runtime has no bfloat16 convolution"),
        (
            ["--profile", "1,2,4", "--profile", "1,8,8"],
            "--profile 1,2,4 1,8,8: needs --tensorrt, since it is for the engine",
        ),
        (["--compute-capability", "8.9"], "--compute-capability 8.9: needs --tensorrt, since it is for the engine"),
    ],
)
def test_what_only_an_engine_has_is_refused_without_one(
    options: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "faces", "--repository", str(tmp_path), "--name", "faces", *options]) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_float32_means_float32_and_less_precision_keeps_nan() -> None:
    trt = tensorrt.load("rtx")
    wanted = {}
    for precision in ("fp32", "fp16"):
        config = trt.Builder(trt.Logger()).create_builder_config()
        set_flags(trt, config, precision)
        flags = ("TF32", "STRICT_NANS", "REQUIRE_USER_ALLOCATION")
        wanted[precision] = [config.get_flag(getattr(trt.BuilderFlag, name)) for name in flags]
    assert wanted == {"fp32": [False, False, True], "fp16": [True, True, True]}


def test_an_engine_may_be_read_by_a_server_that_runs_as_another_user(halver: Path) -> None:
    path, _ = built(halver, sizes(8, 16))
    assert path.stat().st_mode & 0o777 == 0o644
