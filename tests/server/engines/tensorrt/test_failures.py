"""What the TensorRT engine does when CUDA or TensorRT fails: one line with the reason, and nothing left behind."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from artifact.tensorrt import TensorRTError, logger
from server.engines.base import DeviceId
from server.engines.tensorrt.cuda import CudaError, find_gpu
from server.engines.tensorrt.engine import TensorRTEngine
from server.errors import StartError
from tests.server.engines.conftest import DATA, GPU, PLAN, Open, drawn, generator, upscaler
from tests.server.engines.fake_cuda import FakeCuda, cudaError_t
from tests.server.engines.fake_tensorrt import (
    Arrays,
    DataType,
    FakeTensorRT,
    Format,
    Network,
    Place,
    Severity,
    Validity,
)


def latents(rows: int) -> NDArray[np.float32]:
    return np.linspace(-2, 2, rows * 4, dtype=np.float32).reshape(rows, 4)


def agrees(engine: TensorRTEngine, rows: int) -> bool:
    given = {"latent": latents(rows)}
    return bool((engine.run(given, False)["image"] == drawn(given)["image"]).all())


def calls_to_open(network: Network, path: Path) -> int:
    cuda = FakeCuda()
    path.write_bytes(DATA)
    TensorRTEngine(path, None, GPU, True, library=FakeTensorRT(cuda, {DATA: network}), cuda=cuda)
    return len(cuda.calls)


def test_an_engine_that_fails_to_open_names_the_call_and_frees_what_it_had(tmp_path: Path) -> None:
    path = tmp_path / "model.plan"
    calls = calls_to_open(generator(), path)
    assert calls > 10
    for number in range(1, calls + 1):
        cuda = FakeCuda()
        cuda.fail[number] = cudaError_t.cudaErrorInvalidValue
        with pytest.raises(StartError, match="failed: cudaErrorInvalidValue") as refused:
            TensorRTEngine(path, None, GPU, True, library=FakeTensorRT(cuda, {DATA: generator()}), cuda=cuda)
        assert cuda.calls[number - 1] in str(refused.value)
        assert "\n" not in str(refused.value)
        assert (cuda.leaks(), cuda.problems) == ([], []), cuda.calls[number - 1]


def test_too_little_memory_says_how_much_and_what_needs_less(open_engine: Open, cuda: FakeCuda) -> None:
    cuda.refuse = {"cudaMalloc": cudaError_t.cudaErrorMemoryAllocation}
    with pytest.raises(StartError) as refused:
        open_engine(generator())
    assert str(refused.value) == (
        "model.plan: cudaMalloc of 1000 bytes failed: cudaErrorMemoryAllocation; "
        "an engine exported with a smaller --profile needs less"
    )


def test_a_run_that_fails_says_which_call_and_the_next_one_is_right(open_engine: Open, cuda: FakeCuda) -> None:
    engine = open_engine(generator())
    engine.run({"latent": latents(2)}, False)  # has a graph now
    free = open_engine(upscaler())
    picture = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(1, 4, 4, 3)
    free.run({"image": picture}, False)
    for runs, given in ((engine, {"latent": latents(2)}), (free, {"image": picture})):
        wanted = runs.run(given, False)
        before = len(cuda.calls)
        runs.run(given, False)
        calls = len(cuda.calls) - before
        for number in range(1, calls + 1):
            cuda.fail = {len(cuda.calls) + number: cudaError_t.cudaErrorInvalidValue}
            with pytest.raises(CudaError) as failed:
                runs.run(given, False)
            assert not any(stream.queue for stream in cuda.streams.values())
            assert str(failed.value) == f"{cuda.calls[min(cuda.fail) - 1]} failed: cudaErrorInvalidValue"
            for name, array in runs.run(given, False).items():
                np.testing.assert_array_equal(array, wanted[name])


def fresh(path: Path) -> tuple[FakeCuda, TensorRTEngine]:
    path.write_bytes(DATA)
    cuda = FakeCuda()
    return cuda, TensorRTEngine(path, None, GPU, True, library=FakeTensorRT(cuda, {DATA: generator()}), cuda=cuda)


def test_a_first_run_fails_with_its_call_but_survives_any_failure_to_capture(tmp_path: Path) -> None:
    cuda, engine = fresh(tmp_path / "model.plan")
    start = len(cuda.calls)
    engine.run({"latent": latents(2)}, False)
    calls = cuda.calls[start:]
    assert calls.count("cudaStreamSynchronize") == 1
    capture = calls.index("cudaStreamSynchronize") + 1
    assert len(calls) - capture == 8
    for number in range(len(calls)):
        cuda, engine = fresh(tmp_path / "model.plan")
        cuda.fail = {start + number + 1: cudaError_t.cudaErrorInvalidValue}
        if number < capture:
            with pytest.raises(CudaError, match=calls[number]):
                engine.run({"latent": latents(2)}, False)
        assert [agrees(engine, rows) for rows in (2, 3, 2, 3)] == [True] * 4
        engine.close()
        lost = ["graph"] if calls[number] == "cudaGraphDestroy" else []
        assert (cuda.leaks(), cuda.problems) == (lost, []), calls[number]


def test_after_an_error_that_cuda_does_not_recover_from_every_run_fails_and_close_still_ends(
    open_engine: Open, cuda: FakeCuda
) -> None:
    engine = open_engine(generator())
    engine.run({"latent": latents(1)}, False)
    cuda.poison = cudaError_t.cudaErrorIllegalAddress
    for rows in (1, 2, 1):
        with pytest.raises(CudaError, match="cudaErrorIllegalAddress"):
            engine.run({"latent": latents(rows)}, False)
    engine.close()
    assert cuda.leaks() != []  # nothing can be freed any more
    with pytest.raises(RuntimeError, match="closed"):
        engine.run({"latent": latents(1)}, False)
    cuda.__init__()  # type: ignore[misc]  # another process


def test_a_run_that_tensorrt_refuses_carries_its_words(open_engine: Open) -> None:
    network = generator()
    engine = open_engine(network)
    network.refuse_runs = 1
    with pytest.raises(TensorRTError, match="the run was refused: no run today"):
        engine.run({"latent": latents(2)}, False)
    assert agrees(engine, 2)
    network.refuse_runs = 1
    with pytest.raises(TensorRTError):
        engine.run({"latent": latents(3)}, False)
    assert agrees(engine, 3)


def test_a_plan_that_cannot_be_read_carries_tensorrts_first_line(open_engine: Open, cuda: FakeCuda) -> None:
    path = open_engine.path
    path.write_bytes(b"something else")
    library = FakeTensorRT(cuda, {})
    logger(library).log(Severity.ERROR, "about another engine")
    library.diagnosis = Validity.VERSION_MISMATCH | Validity.UNSUPPORTED_CC
    with pytest.raises(StartError) as refused:
        TensorRTEngine(path, PLAN, GPU, True, library=library, cuda=cuda)
    assert str(refused.value) == (
        "model.plan: TensorRT for RTX 1.7.1.116 cannot read it on this GPU (Fake GPU, 8.9): it was built by another "
        "version, it was not built for this GPU; Serialization assertion failed"
    )
    classic = FakeTensorRT(cuda, {}, rtx=False)
    with pytest.raises(StartError) as refused:
        TensorRTEngine(path, None, GPU, True, library=classic, cuda=cuda)
    assert str(refused.value) == (
        "model.plan: TensorRT 10.13.0.35 cannot read it on this GPU (Fake GPU, 8.9): Serialization assertion failed"
    )


def test_an_engine_for_another_gpu_is_refused_before_it_is_read(open_engine: Open, cuda: FakeCuda) -> None:
    with pytest.raises(StartError) as refused:
        open_engine(generator(), plan=replace(PLAN, compute_capabilities=("8.6", "12.0")))
    assert str(refused.value) == "model.plan was built for 8.6, 12.0; this GPU (Fake GPU) is 8.9"
    assert cuda.count("cudaSetDevice") == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"inputs": {"latent": (DataType.BF16, (-1, 4))}}, "latent is BF16, which requests cannot carry"),
        ({"place": Place.HOST}, "latent is a shape"),
        ({"format": Format.CHW32}, r"latent is not row-major in memory \(format CHW32\)"),
        ({"data_dependent": True}, "the size of image depends on the data"),
        ({"most_contexts": 0}, "no execution context: one context too many"),
    ],
)
def test_an_engine_that_cannot_be_served_says_why(open_engine: Open, change: dict[str, object], reason: str) -> None:
    network = generator()
    for name, value in change.items():
        setattr(network, name, value)
    with pytest.raises(StartError, match=f"model.plan: .*{reason}"):
        open_engine(network)


@pytest.mark.parametrize(
    ("fault", "raised"), [(RuntimeError("of the\nbindings"), StartError), (KeyError("x"), KeyError)]
)
def test_any_exception_while_opening_frees_what_was_held(
    open_engine: Open, fault: Exception, raised: type[Exception]
) -> None:
    def faulty(arrays: Arrays) -> Arrays:
        raise fault

    network = generator()
    network.function = faulty
    with pytest.raises(raised) as failed:
        open_engine(network)
    assert "\n" not in str(failed.value)


def test_without_a_driver_or_gpu_one_line_says_so() -> None:
    for cuda, device, reason in [
        (
            FakeCuda(driver=0),
            GPU,
            "TensorRT needs an NVIDIA GPU: the CUDA driver was not found (cudaErrorInsufficientDriver)",
        ),
        (
            FakeCuda(driver=12040),
            GPU,
            "the CUDA driver is for CUDA 12.4, this runtime needs 13.5 (cudaErrorInsufficientDriver)",
        ),
        (
            FakeCuda(gpus=0),
            GPU,
            "TensorRT needs an NVIDIA GPU: cudaGetDeviceCount failed: cudaErrorNoDevice",
        ),
        (FakeCuda(gpus=1), DeviceId("cuda", 1), "device cuda:1: CUDA finds 1 GPU, numbered from 0"),
    ]:
        with pytest.raises(StartError) as refused:
            find_gpu(device, cuda)
        assert str(refused.value) == reason


def test_a_gpu_is_described_as_cuda_describes_it() -> None:
    gpu = find_gpu(DeviceId("cuda", 1), FakeCuda(gpus=2, capability=(12, 0)))
    assert (gpu.name, gpu.compute_capability, gpu.index, gpu.memory_bytes) == ("Fake GPU", "12.0", 1, 1 << 34)
