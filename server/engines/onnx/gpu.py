"""ONNX Runtime on a GPU: the CUDA provider, or the TensorRT provider before it, with tensors bound to its memory."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from artifact.spec import ShapeRange, Spec, TensorSpec
from artifact.tensorrt import version
from server.engines.base import Arrays
from server.engines.onnx.binding import BoundSession
from server.engines.onnx.cpu import CPU, no_provider, open_session, specs
from server.errors import InvalidRequest, StartError

TENSORRT = "TensorrtExecutionProvider"

Provider: TypeAlias = tuple[str, Mapping[str, str]]
Profile: TypeAlias = Mapping[str, ShapeRange]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuiltFor:
    """What an engine of the TensorRT provider depends on: with another of these it is another engine.

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
    has a session to itself, which plans once, in warming. The price is the weights as often as there are sizes, and
    rows that nobody asked for: at worst almost half of a run.
    """
    return tuple(sorted({1 << power for power in range(max_batch_size.bit_length())} | {max_batch_size} - {0}))


def conv_search(asked: str, inputs: Sequence[TensorSpec]) -> str:
    """ONNX Runtime's word for how cuDNN chooses a convolution; for `auto` by what the model takes, batch axis aside.

    Up to ONNX Runtime 1.19 EXHAUSTIVE timed every algorithm, HEURISTIC asked cuDNN, DEFAULT pinned one. From 1.20 none
    of them times anything: they are the modes B (better choices, slower to make), A and FALLBACK of cuDNN's frontend
    (microsoft/onnxruntime#22705). The slower choice is for models whose shapes are fixed: all of them are warmed. Where
    timing decided, pictures differed by about 1e-6 from one start to the next (microsoft/onnxruntime#19822).
    """
    if asked != "auto":
        return asked.upper()
    return "HEURISTIC" if any(-1 in tensor.shape for tensor in inputs) else "EXHAUSTIVE"


def cuda_options(index: int, search: str, precision: str | None, memory_bytes: int | None) -> dict[str, str]:
    """The CUDA provider's options.

    `precision`: of the graph, None where it is not known. TF32 is off for float32 graphs: their pictures are those of
    the CPU, and whoever wants speed exports fp16. It stays on for the others, because ONNX Runtime's switch takes every
    tensor core from a convolution, those of float16 too.
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
    """Every batch that is warmed, of every tile that the server cuts, tuned for full batches of whole tiles.

    None for a model of free sizes without tiles: no bounds that this server could know fit its pictures.
    `max_batch_size`: 0 without a batch axis.
    """
    sizes = (0, 0)
    if any(-1 in tensor.shape for tensor in inputs):
        tile = None if spec is None else spec.tile
        if spec is None or tile is None:
            return None
        least = -(-max(1, spec.least_px) // tile.multiple_px) * tile.multiple_px
        sizes = (least, max(least, tile.size_px))

    def shape(tensor: TensorSpec, rows: int, free_px: int) -> tuple[int, ...]:
        return ((rows,) if max_batch_size else ()) + tuple(free_px if axis < 0 else axis for axis in tensor.shape)

    return {
        tensor.name: ShapeRange(
            shape(tensor, 1, sizes[0]), shape(tensor, max_batch_size, sizes[1]), shape(tensor, max_batch_size, sizes[1])
        )
        for tensor in inputs
    }


def tensorrt_options(
    index: int, profile: Profile, precision: str, folder: Path, workspace_bytes: int | None
) -> dict[str, str]:
    """The TensorRT provider's options. With a profile for every input it builds, or reads from `folder`, its engines
    when the session is opened, and never during a run."""
    workspace = {} if workspace_bytes is None else {"trt_max_workspace_size": str(workspace_bytes)}
    return {
        "device_id": str(index),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        "trt_fp16_enable": "1" if precision == "fp16" else "0",
        "trt_profile_min_shapes": _in_words(profile, "min"),
        "trt_profile_opt_shapes": _in_words(profile, "opt"),
        "trt_profile_max_shapes": _in_words(profile, "max"),
        **workspace,
    }


def require_provider(name: str, asked: str) -> None:
    """Returns where this ONNX Runtime has the provider.

    Raises:
        StartError: it does not; `asked` says who wants it.
    """
    if name not in ort.get_available_providers():
        raise StartError(f"{asked}: {no_provider(name)}")


def tensorrt_version() -> str:
    """Of the TensorRT that the provider builds with: the installed one, or the one that ONNX Runtime was built for."""
    try:
        return version("classic")
    except StartError:
        return f"of onnxruntime {ort.__version__}"


def read_inputs(path: Path, batched: bool) -> tuple[TensorSpec, ...]:
    """A graph's inputs, from the file alone: nothing is optimised and no GPU is touched.

    Raises:
        StartError: ONNX Runtime cannot read it.
    """
    return specs(open_session(path, [(CPU, {})], 1, optimised=False).get_inputs(), batched)


class BoundEngine:
    """A graph in memory of its device that is allocated once; see `BoundSession`."""

    def __init__(
        self,
        path: Path,
        device: str,
        providers: Sequence[Provider],
        batched: bool,
        max_batch_size: int,
        profile: Profile | None = None,
        sizes: Sequence[int] = (),
    ) -> None:
        """Opens the graph on the first of `providers`, which is on `device`: `cpu` or `cuda:N`.

        `profile`: the shapes that the provider was told, None where it takes any. `sizes`: batches with a session each,
        ascending, up to which others are filled; without, one session runs every batch as it is.

        Raises:
            StartError: ONNX Runtime cannot open the file with these providers.
        """
        self._profile = profile
        self._filled = bool(sizes)
        self._sessions: list[tuple[int, BoundSession]] = []
        for rows in sizes or (max_batch_size if batched else 0,):
            session = open_session(path, providers, 1)
            self.inputs = specs(session.get_inputs(), batched)
            self.outputs = specs(session.get_outputs(), batched)
            most_shapes = 1 if sizes else max(1, rows)
            bound = BoundSession(session, self.inputs, self.outputs, device, rows, most_shapes)
            self._sessions.append((rows, bound))
        if elsewhere := nodes_elsewhere(session, providers[0][0]):
            log.info("nodes on another provider", extra={"fields": {"graph": str(path), "nodes": elsewhere}})

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuses shapes for which the TensorRT provider would have to build an engine."""
        for name, taken in (self._profile or {}).items():
            if name in shapes and not taken.takes(shapes[name]):
                raise InvalidRequest(
                    f"input {name!r} has shape {list(shapes[name])}; the engine takes {list(taken.min)} to "
                    f"{list(taken.max)}"
                )

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        """The outputs by name for one batch; see `Engine`."""
        if not self._sessions:
            raise RuntimeError("the engine is closed")
        if not self._filled:
            return self._sessions[0][1].run(arrays)
        rows = min(len(array) for array in arrays.values())
        size, session = next((entry for entry in self._sessions if entry[0] >= rows), self._sessions[-1])
        outputs = session.run({name: _filled_up(array, size) for name, array in arrays.items()})
        return {name: array[:rows] for name, array in outputs.items()}

    def close(self) -> None:
        """Frees the sessions and their memory."""
        self._sessions = []


def _filled_up(array: NDArray[Any], size: int) -> NDArray[Any]:
    """`size` rows: the array's own, then its first again, which is a value that the graph takes."""
    if len(array) >= size:
        return array
    return np.concatenate([array, np.broadcast_to(array[:1], (size - len(array), *array.shape[1:]))])


def _in_words(profile: Profile, end: str) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, getattr(shapes, end)))}" for name, shapes in profile.items())


def nodes_elsewhere(session: ort.InferenceSession, wanted: str) -> str:
    """Which kinds of nodes run on another provider than `wanted`, "" for none or where it cannot be known.

    A few on the CPU are as they should be: those that compute shapes. That is why session.disable_cpu_ep_fallback,
    which takes none, is not set.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):  # before ONNX Runtime 1.24
        return ""
    try:
        parts = [part for part in session.get_provider_graph_assignment_info() if part.ep_name != wanted]
    except Exception as error:  # what it raises has no public base; knowing less stops nobody
        log.debug("nodes unknown", exc_info=error)
        return ""
    kinds = Counter(f"{node.op_type} ({part.ep_name})" for part in parts for node in part.get_nodes())
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
