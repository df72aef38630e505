"""TensorRT as it is installed, and an engine that the real library built where there is no GPU to run it."""

import subprocess
import sys
import textwrap
import threading
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from artifact.tensorrt import TensorRTMissing, first_error, load, logger, message
from server.engines.base import DeviceId
from server.engines.tensorrt.cuda import find_gpu
from server.engines.tensorrt.engine import TensorRTEngine
from server.engines.tensorrt.plan import variant_of
from server.errors import StartError
from tests.server.conftest import write_tiny
from tests.server.engines.conftest import PLAN
from tests.server.engines.fake_cuda import FakeCuda

ROOT = Path(__file__).resolve().parents[2]


def loaded_with(stand_ins: Path, variant: str) -> str:
    """What a process says that finds `stand_ins` before the installed packages."""
    code = f"""
        import sys
        sys.path.insert(0, {str(stand_ins)!r})
        from artifact.tensorrt import TensorRTMissing, load
        try:
            print(load({variant!r}).__name__, load({variant!r}).__version__)
        except TensorRTMissing as error:
            print(error)
    """
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return answer.stdout.strip()


def stand_in(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(text)


def test_a_library_that_is_missing_names_the_extra_that_brings_it(tmp_path: Path) -> None:
    missing = "raise ModuleNotFoundError('gone', name=__name__)"
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_libs"):
        stand_in(tmp_path, name, missing)
    assert loaded_with(tmp_path, "rtx") == (
        "TensorRT for RTX is not installed (no module tensorrt_rtx): install 'ganserve[tensorrt-rtx]'"
    )
    assert loaded_with(tmp_path, "classic") == (
        "TensorRT is not installed (no module tensorrt): install 'ganserve[tensorrt]' "
        "(its libraries come from https://pypi.nvidia.com, not from PyPI)"
    )


def test_a_library_that_cannot_be_loaded_says_why_in_one_line(tmp_path: Path) -> None:
    stand_in(tmp_path, "tensorrt", "raise ImportError('libnvinfer.so.10: cannot open shared object file\\nmore')")
    stand_in(tmp_path, "tensorrt_rtx_libs", "")
    (tmp_path / "tensorrt_rtx_libs" / "libtensorrt_rtx.so.1").write_bytes(b"not a library")
    assert loaded_with(tmp_path, "classic").startswith(
        "TensorRT cannot be loaded (libnvinfer.so.10: cannot open shared object file): install 'ganserve[tensorrt]'"
    )
    assert "libtensorrt_rtx.so.1: file too short" in loaded_with(tmp_path, "rtx")


def test_nvidias_own_archive_is_taken_where_the_wheels_are_not_there(tmp_path: Path) -> None:
    stand_in(tmp_path, "tensorrt_rtx_libs", "raise ModuleNotFoundError('gone', name=__name__)")
    stand_in(tmp_path, "tensorrt_rtx", "__version__ = '1.9.0.1'")
    assert loaded_with(tmp_path, "rtx") == "tensorrt_rtx 1.9.0.1"


def test_a_variant_that_is_none_is_refused() -> None:
    with pytest.raises(TensorRTMissing, match="TensorRT has the variants rtx and classic, not 'lean'"):
        load("lean")


@pytest.fixture(scope="module")
def trt() -> Any:
    pytest.importorskip("tensorrt_rtx_bindings")
    return load("rtx")


@pytest.fixture(scope="module")
def plan(trt: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real engine for 8.9, built without a GPU."""
    folder = tmp_path_factory.mktemp("real")
    write_tiny(folder, "tiny")
    heard = logger(trt)
    builder = trt.Builder(heard)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, heard).parse((folder / "tiny" / "1" / "model.onnx").read_bytes())
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("latent", (1, 4), (4, 4), (8, 4))
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    path = folder / "model.plan"
    path.write_bytes(bytes(builder.build_serialized_network(network, config)))
    return path


def test_threads_that_load_at_once_get_one_library(trt: Any) -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(load("rtx"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(each is trt for each in found)


def test_the_variant_of_an_engine_shows_in_its_first_bytes(plan: Path) -> None:
    assert variant_of(plan.read_bytes()) == "rtx"
    assert variant_of(b"ftrt\0\0") == "classic"


def without_gpu() -> bool:
    try:
        find_gpu(DeviceId("cuda"))
    except StartError:
        return True
    return False


@pytest.mark.skipif("not without_gpu()", reason="there is a GPU")
def test_a_real_engine_without_a_gpu_is_one_line_and_the_process_lives_on(plan: Path) -> None:
    for manifest in (None, PLAN):
        with pytest.raises(StartError, match=r"TensorRT needs an NVIDIA GPU: .*cuda") as refused:
            TensorRTEngine(plan, manifest, DeviceId("cuda"), True)
        assert "\n" not in str(refused.value)


@pytest.mark.skipif("not without_gpu()", reason="there is a GPU")
def test_the_real_library_says_itself_why_it_cannot_read_an_engine(trt: Any, plan: Path) -> None:
    first_error()
    assert trt.Runtime(logger(trt)).deserialize_cuda_engine(plan.read_bytes()) is None
    assert "cudaError 35" in first_error()
    assert first_error() == ""


def test_the_real_library_says_what_is_damaged_without_places_in_its_source(trt: Any, plan: Path) -> None:
    first_error()
    assert trt.Runtime(logger(trt)).deserialize_cuda_engine(plan.read_bytes()[:-1]) is None
    told = first_error()
    assert told.startswith("Serialization (")
    assert "/_src" not in told


def test_a_message_is_without_the_places_in_tensorrts_own_source() -> None:
    seen_on_an_h200 = (
        "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine cannot run on this GPU, which has "
        "compute capability 9.0. Supported compute capabilities: 8.0 8.6 8.9 12.0 12.1 >12.0. TensorRT-RTX does not "
        "support this compute capability,\n so the engine cannot be rebuilt for it. In throwUnlessComputeCapSupported "
        "at /_src/runtime/runtime.cpp:84)"
    )
    assert message(seen_on_an_h200) == (
        "API Usage Error (The engine cannot run on this GPU, which has compute capability 9.0. Supported compute "
        "capabilities: 8.0 8.6 8.9 12.0 12.1 >12.0. TensorRT-RTX does not support this compute capability, so the "
        "engine cannot be rebuilt for it.)"
    )


def test_what_the_engine_uses_of_the_real_cuda_binding_is_there() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    fake = [name for name in vars(FakeCuda) if name.startswith("cuda")]
    assert len(fake) > 20
    for name in fake:
        found = getattr(FakeCuda, name)
        if isinstance(found, int):
            assert getattr(runtime, name) == found
        elif isinstance(found, type) and issubclass(found, IntEnum):
            for member in found:
                assert getattr(runtime, name).__members__[member.name].value == member.value
        else:
            assert callable(getattr(runtime, name))
    assert {"name", "major", "minor", "totalGlobalMem"} <= set(dir(runtime.cudaDeviceProp))
