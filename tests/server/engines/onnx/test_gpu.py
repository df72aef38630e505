"""The engine for GPUs, on the CPU provider."""

from pathlib import Path

import numpy as np
import pytest

from artifact.spec import ShapeRange, TensorSpec
from server.engines.onnx.cpu import OnnxCpuEngine
from server.engines.onnx.gpu import OnnxGpuEngine
from server.engines.onnx.options import (
    batch_sizes,
    cuda_options,
)
from server.engines.onnx.session import (
    CPU_PROVIDER,
    CUDA_PROVIDER,
    TENSORRT_PROVIDER,
    open_session,
    require_provider,
)
from server.errors import InvalidRequest, StartError
from tests.server.engines.onnx.conftest import latents

LATENT = TensorSpec("latent", "FP32", (4,))


def test_an_engine_for_a_gpu_runs_and_closes(tiny: Path) -> None:
    engine = OnnxGpuEngine(tiny, [(CPU_PROVIDER, {})], max_batch_size=8)
    assert (engine.inputs, engine.outputs) == (
        (LATENT,),
        (TensorSpec("image", "UINT8", (2, 2, 3)),),
    )
    plain = OnnxCpuEngine(tiny, 1, 1, batched=True)
    arrays = latents(5)
    np.testing.assert_array_equal(
        engine.run(arrays, whole_device=False)["image"], plain.run(arrays, whole_device=True)["image"]
    )
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.run(arrays, whole_device=False)


def test_shapes_outside_the_profile_are_refused_with_its_ranges(tiny: Path) -> None:
    profile = {"latent": ShapeRange((1, 4), (8, 4), (8, 4))}
    engine = OnnxGpuEngine(tiny, [(CPU_PROVIDER, {})], max_batch_size=8, profile=profile)
    engine.check({"latent": (8, 4)})
    with pytest.raises(
        InvalidRequest, match=r"input 'latent' has shape \[9, 4\]; the engine supports \[1, 4\] to \[8, 4"
    ):
        engine.check({"latent": (9, 4)})
    OnnxGpuEngine(tiny, [(CPU_PROVIDER, {})], max_batch_size=8).check({"latent": (9, 4)})


def test_a_provider_that_is_not_there_is_one_line(tiny: Path) -> None:
    providers = [(CUDA_PROVIDER, cuda_options(0, "HEURISTIC", "fp32", None)), (CPU_PROVIDER, {})]
    with pytest.raises(StartError) as caught:
        OnnxGpuEngine(tiny, providers, max_batch_size=8)
    assert f"has AzureExecutionProvider, {CPU_PROVIDER} and no {CUDA_PROVIDER}" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(StartError, match=rf"--engine x: this onnxruntime .* and no {TENSORRT_PROVIDER}"):
        require_provider(TENSORRT_PROVIDER, "--engine x")


def test_batches_are_filled_up_to_sizes_that_have_a_session_each(tiny: Path) -> None:
    engine = OnnxGpuEngine(tiny, [(CPU_PROVIDER, {})], max_batch_size=6, sizes=batch_sizes(6))
    plain = open_session(tiny, [(CPU_PROVIDER, {})], 1)
    for seed, rows in enumerate([6, 1, 5, 3, 2, 4, 6, 7]):
        arrays = latents(rows, seed)
        images = engine.run(arrays, whole_device=False)["image"]
        np.testing.assert_array_equal(images, plain.run(None, arrays)[0], strict=True)
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.run(latents(1), whole_device=False)
