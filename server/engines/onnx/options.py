"""What ONNX Runtime's GPU providers are given: batch sizes, options, TensorRT's profile and the key of its cache."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnxruntime as ort

from artifact.shapes import Profile, Sides, has_free_sizes, served_shapes
from artifact.spec import Spec, TensorSpec
from artifact.tensorrt import TensorRTMissing, load


@dataclass(frozen=True)
class BuiltFor:
    """What an engine of the TensorRT provider depends on: if one of these differs, it is another engine.

    `tensorrt`: the version that builds it. `compute_capability`: of the GPU, as "9.0".
    """

    model_sha256: str
    compute_capability: str
    tensorrt: str
    precision: str
    profile: Profile

    @property
    def key(self) -> str:
        """The name of the folder that keeps the engine."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{self.model_sha256[:12]}-sm{self.compute_capability.replace('.', '')}-{self.precision}-{digest[:16]}"


def batch_sizes(max_batch_size: int) -> tuple[int, ...]:
    """The batches that the CUDA provider runs: powers of two, and the largest. Others are filled up to the next.

    From ONNX Runtime 1.20 a convolution keeps cuDNN's plan for the last shape alone, and plans anew whenever a batch
    has another size than the one before (Conv::UpdateState, since microsoft/onnxruntime#19470). So each of these sizes
    has a session to itself, which plans once, at warm-up. Cost: one copy of the weights per batch size, and padding of
    up to almost half of a batch.
    """
    return tuple(sorted({1 << power for power in range(max_batch_size.bit_length())} | {max_batch_size} - {0}))


def conv_search(setting: str, inputs: Sequence[TensorSpec]) -> str:
    """ONNX Runtime's word for how cuDNN chooses a convolution; `auto` depends on the model's inputs.

    Up to ONNX Runtime 1.19 EXHAUSTIVE timed every algorithm, HEURISTIC queried cuDNN, DEFAULT pinned one. From 1.20
    none of them times anything: they are the modes B (better choices, slower to make), A and FALLBACK of cuDNN's
    frontend (microsoft/onnxruntime#22705). The slower choice is for models whose shapes are fixed: all of them are
    warmed. With timing, images differed by about 1e-6 from one start to the next (microsoft/onnxruntime#19822).
    """
    if setting != "auto":
        return setting.upper()
    return "HEURISTIC" if has_free_sizes(inputs) else "EXHAUSTIVE"


def cuda_options(index: int, search: str, precision: str | None, memory_bytes: int | None) -> dict[str, str]:
    """The CUDA provider's options.

    TF32 is off for float32 graphs: their images are those of the CPU, and fp16 is there for speed. It stays on for the
    others, because ONNX Runtime's switch takes every tensor core from a convolution, those of float16 too.

    Args:
        index: of the GPU.
        precision: of the graph, None if it is unknown.
        memory_bytes: limit on the session's memory, None for no limit.
    """
    limit = {} if memory_bytes is None else {"gpu_mem_limit": str(memory_bytes)}
    return {
        "device_id": str(index),
        "cudnn_conv_algo_search": search,
        "cudnn_conv_use_max_workspace": "1",
        # Not kNextPowerOfTwo: the arena never gives back what it has taken.
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0" if precision == "fp32" else "1",
        **limit,
    }


def tensorrt_profile(inputs: Sequence[TensorSpec], spec: Spec | None, max_batch_size: int) -> Profile | None:
    """Every batch of every tile that the server runs, tuned for full batches of whole tiles.

    None for a model of free sizes without tiles: its images have no bounds. `max_batch_size`: 0 without a batch axis.
    """
    sides = Sides.of(spec)
    if has_free_sizes(inputs) and sides.tile_px is None:
        return None
    return served_shapes(inputs, sides, max_batch_size)


def tensorrt_options(
    index: int, profile: Profile, precision: str, folder: Path, workspace_bytes: int | None
) -> dict[str, str]:
    """The TensorRT provider's options. With a profile for every input it builds its engines, or reads them from
    `folder`, when the session is opened, and never during a run."""
    workspace = {} if workspace_bytes is None else {"trt_max_workspace_size": str(workspace_bytes)}
    return {
        "device_id": str(index),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        "trt_fp16_enable": "1" if precision == "fp16" else "0",
        **{f"trt_profile_{end}_shapes": _shapes_text(profile, end) for end in ("min", "opt", "max")},
        **workspace,
    }


def tensorrt_version() -> str:
    """Of the TensorRT that the provider builds with: the installed one, or the one that ONNX Runtime was built for."""
    try:
        return str(load("classic").__version__)
    except TensorRTMissing:
        return f"of onnxruntime {ort.__version__}"


def _shapes_text(profile: Profile, end: str) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, getattr(shapes, end)))}" for name, shapes in profile.items())
