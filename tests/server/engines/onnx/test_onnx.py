"""ONNX Runtime's engines: memory that is bound, what providers are told, and what is refused."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from artifact.spec import Parity, Provenance, ShapeRange, Spec, Task, TensorSpec, Tile
from server.engines.base import CPU, DeviceId
from server.engines.onnx.binding import BoundSession
from server.engines.onnx.cpu import OnnxCpuEngine
from server.engines.onnx.gpu import BoundEngine
from server.engines.onnx.options import (
    BuiltFor,
    batch_sizes,
    conv_search,
    cuda_options,
    tensorrt_options,
    tensorrt_profile,
)
from server.engines.onnx.session import (
    CPU_PROVIDER,
    CUDA_PROVIDER,
    TENSORRT_PROVIDER,
    nodes_elsewhere,
    open_session,
    read_inputs,
    require_provider,
    specs,
)
from server.errors import InvalidRequest, StartError
from tests.server.conftest import write_tiny
from tests.server.graphs import write_translator

LATENT = TensorSpec("latent", "FP32", (4,))
LABEL = TensorSpec("label", "INT64", ())
PICTURE = TensorSpec("image", "UINT8", (-1, -1, 3))


def upscaler(tile: Tile | None, least_px: int = 1) -> Spec:
    return Spec(
        task=Task.SUPER_RESOLUTION, architecture="made up", hyperparameters={}, tensors="uint8", precision="fp32",
        opset=18, inputs=(PICTURE,), outputs=(TensorSpec("upscaled", "UINT8", (-1, -1, 3)),), image_shape=(0, 0, 3),
        provenance=Provenance("made up", "MIT", "0" * 64), parity=Parity(1.0, 0.0, (1,), (0,)), tile=tile,
        least_px=least_px,
    )  # fmt: skip


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    write_tiny(tmp_path, "tiny")
    return tmp_path / "tiny" / "1" / "model.onnx"


@pytest.fixture
def translator(tmp_path: Path) -> Path:
    write_translator(tmp_path, "translator")
    return tmp_path / "translator" / "1" / "model.onnx"


def bound_session(path: Path, max_items: int, max_shapes: int) -> BoundSession:
    session = open_session(path, [(CPU_PROVIDER, {})], 1)
    inputs, outputs = specs(session.get_inputs(), True), specs(session.get_outputs(), True)
    return BoundSession(session, inputs, outputs, CPU, max_items, max_shapes)


def latents(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"latent": np.random.RandomState(seed).randn(rows, 4).astype(np.float32)}


def test_bound_runs_give_the_bytes_of_plain_ones(tiny: Path) -> None:
    plain, bound = open_session(tiny, [(CPU_PROVIDER, {})], 1), bound_session(tiny, 8, 8)
    for seed, rows in enumerate([8, 1, 3, 8, 2, 1, 3]):
        arrays = latents(rows, seed)
        np.testing.assert_array_equal(bound.run(arrays)["image"], plain.run(None, arrays)[0])
    assert list(bound.bound) == [((8, 4),), ((1, 4),), ((3, 4),), ((2, 4),)]


def test_pictures_of_free_size_are_bound_too(translator: Path) -> None:
    plain, bound = open_session(translator, [(CPU_PROVIDER, {})], 1), bound_session(translator, 2, 4)
    for rows, height, width in [(1, 8, 8), (2, 8, 8), (1, 16, 8), (1, 8, 8), (2, 8, 8), (1, 16, 8)]:
        arrays = {"image": np.random.RandomState(rows).randint(0, 256, (rows, height, width, 3), np.uint8)}
        np.testing.assert_array_equal(bound.run(arrays)["translated"], plain.run(None, arrays)[0])


def test_the_memory_of_a_shape_stays_where_it_is(tiny: Path) -> None:
    bound = bound_session(tiny, 8, 8)
    bound.run(latents(3))
    binding = bound.bound[((3, 4),)]
    before = [value.data_ptr() for value in (*binding.inputs.values(), *binding.outputs.values())]
    bound.run(latents(3, seed=1))
    assert bound.bound[((3, 4),)] is binding
    assert [value.data_ptr() for value in (*binding.inputs.values(), *binding.outputs.values())] == before


def test_every_batch_size_shares_the_memory_of_the_largest(tiny: Path) -> None:
    bound = bound_session(tiny, 8, 8)
    for rows in range(1, 9):
        bound.run(latents(rows))
    assert len({binding.inputs["latent"].data_ptr() for binding in bound.bound.values()}) == 1
    assert len({binding.outputs["image"].data_ptr() for binding in bound.bound.values()}) == 1


def test_a_result_is_not_written_to_by_later_runs(tiny: Path) -> None:
    bound = bound_session(tiny, 8, 8)
    bound.run(latents(2))
    first = bound.run(latents(2, seed=1))["image"]
    kept = first.copy()
    bound.run(latents(2, seed=2))
    bound.run(latents(8, seed=3))
    np.testing.assert_array_equal(first, kept)


def test_shapes_beyond_the_warmed_ones_run_unbound(tiny: Path) -> None:
    plain, bound = open_session(tiny, [(CPU_PROVIDER, {})], 1), bound_session(tiny, 8, 2)
    for rows in (1, 2, 3):
        arrays = latents(rows)
        np.testing.assert_array_equal(bound.run(arrays)["image"], plain.run(None, arrays)[0])
    assert set(bound.bound) == {((1, 4),), ((2, 4),)}


def test_an_array_that_is_not_contiguous_is_read_as_it_is(tiny: Path) -> None:
    bound = bound_session(tiny, 8, 8)
    wide = np.random.RandomState(0).randn(4, 8).astype(np.float32)
    arrays = {"latent": wide[::2, ::2]}
    straight = {"latent": np.ascontiguousarray(arrays["latent"])}
    np.testing.assert_array_equal(bound.run(arrays)["image"], bound.run(straight)["image"])


def test_an_engine_of_bound_memory_runs_and_closes(tiny: Path) -> None:
    engine = BoundEngine(tiny, CPU, [(CPU_PROVIDER, {})], max_batch_size=8)
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
    engine = BoundEngine(tiny, CPU, [(CPU_PROVIDER, {})], max_batch_size=8, profile=profile)
    engine.check({"latent": (8, 4)})
    with pytest.raises(
        InvalidRequest, match=r"input 'latent' has shape \[9, 4\]; the engine supports \[1, 4\] to \[8, 4"
    ):
        engine.check({"latent": (9, 4)})
    BoundEngine(tiny, CPU, [(CPU_PROVIDER, {})], max_batch_size=8).check({"latent": (9, 4)})


def test_a_provider_that_is_not_there_is_one_line(tiny: Path) -> None:
    providers = [(CUDA_PROVIDER, cuda_options(0, "HEURISTIC", "fp32", None)), (CPU_PROVIDER, {})]
    with pytest.raises(StartError) as caught:
        BoundEngine(tiny, DeviceId("cuda"), providers, max_batch_size=8)
    assert f"has AzureExecutionProvider, {CPU_PROVIDER} and no {CUDA_PROVIDER}" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(StartError, match=rf"--engine x: this onnxruntime .* and no {TENSORRT_PROVIDER}"):
        require_provider(TENSORRT_PROVIDER, "--engine x")


def test_nodes_that_run_elsewhere_are_counted_by_kind(tiny: Path) -> None:
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ort.InferenceSession(tiny, options, providers=[CPU_PROVIDER])
    assert nodes_elsewhere(session, CPU_PROVIDER) == ""
    assert nodes_elsewhere(session, CUDA_PROVIDER) == ", ".join(
        f"1 {kind} ({CPU_PROVIDER})" for kind in ("Cast", "Clip", "MatMul", "Reshape")
    )
    assert nodes_elsewhere(open_session(tiny, [(CPU_PROVIDER, {})], 1), CUDA_PROVIDER) == "", "nothing was recorded"


def test_a_damaged_graph_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    for opening in (lambda: OnnxCpuEngine(path, 1, 1, batched=True), lambda: read_inputs(path, batched=True)):
        with pytest.raises(StartError, match="ONNX Runtime cannot open it") as caught:
            opening()
        assert "\n" not in str(caught.value)


def test_a_graph_is_read_without_being_run(translator: Path) -> None:
    assert read_inputs(translator, batched=True) == (PICTURE,)
    assert read_inputs(translator, batched=False) == (TensorSpec("image", "UINT8", (-1, -1, -1, 3)),)


def test_batches_are_filled_up_to_sizes_that_have_a_session_each(tiny: Path) -> None:
    engine = BoundEngine(tiny, CPU, [(CPU_PROVIDER, {})], max_batch_size=6, sizes=batch_sizes(6))
    plain = open_session(tiny, [(CPU_PROVIDER, {})], 1)
    for seed, rows in enumerate([6, 1, 5, 3, 2, 4, 6, 7]):
        arrays = latents(rows, seed)
        pictures = engine.run(arrays, whole_device=False)["image"]
        np.testing.assert_array_equal(pictures, plain.run(None, arrays)[0], strict=True)
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.run(latents(1), whole_device=False)


def test_the_sizes_of_batches_are_powers_of_two_and_the_largest() -> None:
    assert [batch_sizes(most) for most in (0, 1, 2, 6, 8)] == [(), (1,), (1, 2), (1, 2, 4, 6), (1, 2, 4, 8)]
    assert len(batch_sizes(256)) == 9


def test_the_slower_choice_of_convolutions_is_for_fixed_shapes() -> None:
    assert conv_search("auto", (LATENT, LABEL)) == "EXHAUSTIVE"
    assert conv_search("auto", (PICTURE,)) == "HEURISTIC"
    assert conv_search("default", (LATENT,)) == "DEFAULT"
    assert conv_search("exhaustive", (PICTURE,)) == "EXHAUSTIVE"


def test_the_cuda_provider_is_told_its_limits() -> None:
    told = cuda_options(2, "HEURISTIC", "fp32", 1 << 30)
    assert told == {
        "device_id": "2",
        "cudnn_conv_algo_search": "HEURISTIC",
        "cudnn_conv_use_max_workspace": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
        "gpu_mem_limit": "1073741824",
    }
    assert "gpu_mem_limit" not in cuda_options(0, "HEURISTIC", "fp32", None)


@pytest.mark.parametrize("precision", ["fp16", None])
def test_tensor_cores_stay_on_for_graphs_that_are_not_float32(precision: str | None) -> None:
    assert cuda_options(0, "HEURISTIC", precision, None)["use_tf32"] == "1"


def test_a_profile_spans_the_warmed_batches() -> None:
    assert tensorrt_profile((LATENT, LABEL), None, 8) == {
        "latent": ShapeRange((1, 4), (8, 4), (8, 4)),
        "label": ShapeRange((1,), (8,), (8,)),
    }
    assert tensorrt_profile((TensorSpec("x", "FP32", (3, 4)),), None, 0) == {
        "x": ShapeRange((3, 4), (3, 4), (3, 4)),
    }


def test_a_profile_spans_the_tiles_that_the_server_cuts() -> None:
    tile = Tile(size_px=64, overlap_px=8, multiple_px=4, receptive_field_px=8, seam_levels=0.0)
    assert tensorrt_profile((PICTURE,), upscaler(tile, least_px=5), 4) == {
        "image": ShapeRange((1, 8, 8, 3), (4, 64, 64, 3), (4, 64, 64, 3))
    }


def test_free_sizes_without_tiles_have_no_profile() -> None:
    assert tensorrt_profile((PICTURE,), upscaler(None), 4) is None
    assert tensorrt_profile((PICTURE,), None, 4) is None


def test_the_tensorrt_provider_is_told_the_profile_and_where_engines_are_kept() -> None:
    profile = {"latent": ShapeRange((1, 4), (8, 4), (16, 4)), "label": ShapeRange((1,), (8,), (16,))}
    told = tensorrt_options(1, profile, "fp16", Path("/cache/key"), 1 << 20)
    assert told == {
        "device_id": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": "/cache/key",
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": "/cache/key",
        "trt_fp16_enable": "1",
        "trt_profile_min_shapes": "latent:1x4,label:1",
        "trt_profile_opt_shapes": "latent:8x4,label:8",
        "trt_profile_max_shapes": "latent:16x4,label:16",
        "trt_max_workspace_size": "1048576",
    }
    assert tensorrt_options(1, profile, "fp32", Path("/cache/key"), None)["trt_fp16_enable"] == "0"


def test_whatever_an_engine_depends_on_is_in_its_key() -> None:
    profile = {"latent": ShapeRange((1, 4), (8, 4), (8, 4))}
    wider = {"latent": ShapeRange((1, 4), (8, 4), (16, 4))}
    one = BuiltFor("ab" * 32, "9.0", "10.13.2", "fp32", profile)
    others = [
        BuiltFor("cd" * 32, "9.0", "10.13.2", "fp32", profile),
        BuiltFor("ab" * 32, "8.9", "10.13.2", "fp32", profile),
        BuiltFor("ab" * 32, "9.0", "10.14.0", "fp32", profile),
        BuiltFor("ab" * 32, "9.0", "10.13.2", "fp16", profile),
        BuiltFor("ab" * 32, "9.0", "10.13.2", "fp32", wider),
    ]
    assert one.key == BuiltFor("ab" * 32, "9.0", "10.13.2", "fp32", dict(profile)).key
    assert one.key.startswith("abababababab-sm90-fp32-")
    assert len({one.key, *(other.key for other in others)}) == 6
