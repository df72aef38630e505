"""What ONNX Runtime's GPU providers are given."""

from pathlib import Path

import pytest

from artifact.spec import Parity, Provenance, ShapeRange, Spec, Task, TensorSpec, Tile
from server.engines.onnx.options import (
    BuiltFor,
    batch_sizes,
    conv_search,
    cuda_options,
    tensorrt_options,
    tensorrt_profile,
)

LATENT = TensorSpec("latent", "FP32", (4,))
LABEL = TensorSpec("label", "INT64", ())
IMAGE = TensorSpec("image", "UINT8", (-1, -1, 3))


def upscaler(tile: Tile | None, least_px: int = 1) -> Spec:
    return Spec(
        task=Task.SUPER_RESOLUTION, architecture="made up", hyperparameters={}, tensors="uint8", precision="fp32",
        opset=18, inputs=(IMAGE,), outputs=(TensorSpec("upscaled", "UINT8", (-1, -1, 3)),), image_shape=(0, 0, 3),
        provenance=Provenance("made up", "MIT", "0" * 64), parity=Parity(1.0, 0.0, (1,), (0,)), tile=tile,
        least_px=least_px,
    )  # fmt: skip


def test_the_sizes_of_batches_are_powers_of_two_and_the_largest() -> None:
    assert [batch_sizes(most) for most in (0, 1, 2, 6, 8)] == [(), (1,), (1, 2), (1, 2, 4, 6), (1, 2, 4, 8)]
    assert len(batch_sizes(256)) == 9


def test_the_slower_choice_of_convolutions_is_for_fixed_shapes() -> None:
    assert conv_search("auto", (LATENT, LABEL)) == "EXHAUSTIVE"
    assert conv_search("auto", (IMAGE,)) == "HEURISTIC"
    assert conv_search("default", (LATENT,)) == "DEFAULT"
    assert conv_search("exhaustive", (IMAGE,)) == "EXHAUSTIVE"


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
    assert tensorrt_profile((IMAGE,), upscaler(tile, least_px=5), 4) == {
        "image": ShapeRange((1, 8, 8, 3), (4, 64, 64, 3), (4, 64, 64, 3))
    }


def test_free_sizes_without_tiles_have_no_profile() -> None:
    assert tensorrt_profile((IMAGE,), upscaler(None), 4) is None
    assert tensorrt_profile((IMAGE,), None, 4) is None


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
