"""TensorRT engines (`model.plan`), of either variant, on one GPU."""

import logging
import math
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from artifact.dtypes import NUMPY_OF
from artifact.shapes import Shapes
from artifact.spec import TensorRTPlan
from artifact.tensorrt import NAMES, TensorRTError, TensorRTMissing, load, refused
from server.engines.base import Arrays, DeviceId
from server.engines.tensorrt.compatibility import refusal
from server.engines.tensorrt.contexts import Contexts
from server.engines.tensorrt.cuda import Cuda, CudaError, Staging, find_gpu
from server.engines.tensorrt.launch import Launch, Port
from server.engines.tensorrt.plan import deserialize, read_tensors, variant_of
from server.engines.tensorrt.profiles import OptimizationProfile, narrowest, read_profiles
from server.errors import StartError

log = logging.getLogger(__name__)


class TensorRTEngine:
    """A serialized engine with its contexts, memory and stream.

    Memory for every input and output is allocated once, on the GPU and pinned on the host, at the largest size of the
    profiles: an engine that fits when it is opened does not run out of memory in a request. If a profile fixes all but
    the batch size, the first run at each batch size (warm-up's) also captures a CUDA graph, which later runs launch.
    One run at a time.
    """

    def __init__(
        self,
        path: Path,
        plan: TensorRTPlan | None,
        device: DeviceId,
        batched: bool,
        runtime_cache: Path | None = None,
        wanted_precision: str | None = None,
        *,
        library: Any = None,
        cuda: Any = None,
    ) -> None:
        """Opens the engine on a GPU, from any thread.

        Args:
            plan: from the manifest, None without one.
            runtime_cache: file in which TensorRT for RTX keeps what it compiles for this GPU.
            wanted_precision: what config.pbtxt requires of an engine that has a manifest, None for any.
            library: in place of the installed TensorRT.
            cuda: in place of cuda.bindings.runtime.

        Raises:
            StartError: no library, driver or GPU, an engine made for others, or too little memory.
        """
        data = path.read_bytes()
        self._variant = plan.variant if plan is not None else variant_of(data)
        self._library = _load(self._variant) if library is None else library
        self._cuda = Cuda(cuda)
        self._gpu = find_gpu(device, self._cuda.binding)
        reason = "" if plan is None else refusal(plan, self._gpu, self._library.__version__, wanted_precision)
        if reason:
            raise StartError(reason)
        self._turn = threading.Lock()
        self._held = ExitStack()
        self._contexts: dict[int, Any] = {}  # profile -> context
        self._launches: dict[tuple[tuple[int, ...], ...], Launch] = {}  # shapes of the inputs -> launch with a graph
        self._stream: Any = None
        try:
            self._open(data, batched, runtime_cache)
        except RuntimeError as error:  # CudaError, TensorRTError, and what the bindings make of C++ exceptions
            self._free()
            raise StartError(f"{path.name}: {' '.join(str(error).split())}{_advice(error)}") from error
        except BaseException:
            self._free()
            raise

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raises InvalidRequest if no profile has the shapes, batch axis included; from any thread."""
        narrowest(self._profiles, shapes)

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        """The outputs by name for one batch; see `Engine`. `whole_device` makes no difference.

        Raises:
            CudaError, TensorRTError: the run failed. After an error that CUDA cannot recover from, so do all others.
        """
        with self._turn:
            if self._stream is None:
                raise RuntimeError("the engine is closed")
            self._cuda.use(self._gpu.index)
            shapes = {tensor.name: arrays[tensor.name].shape for tensor in self.inputs}
            launch = self._launches.get(tuple(shapes.values()))
            if launch is not None:
                return self._finish(launch, arrays)
            profile = narrowest(self._profiles, shapes)
            if profile.index in self._graphed:
                return self._run_first(profile, shapes, arrays)
            return self._finish(self._launch(self._contexts[profile.index], shapes), arrays)

    def close(self) -> None:
        """Frees everything on the GPU and the host; a second time does nothing."""
        with self._turn:
            if self._stream is not None:
                self._cuda.attempt("cudaSetDevice", self._gpu.index)
                try:
                    self._maker.save()
                finally:
                    self._free()

    def _open(self, data: bytes, batched: bool, runtime_cache: Path | None) -> None:
        self._cuda.use(self._gpu.index)
        self._stream = self._cuda.stream(self._held)
        engine = deserialize(self._library, NAMES[self._variant], data, self._gpu)
        self.inputs, self.outputs = read_tensors(self._library, engine, batched)
        self._profiles = read_profiles(engine, [tensor.name for tensor in self.inputs], batched)
        self._graphed = {profile.index for profile in self._profiles if profile.fixed}
        self._maker = Contexts(self._library, self._cuda, engine, runtime_cache, self._held)
        # Freed from the last to the first: graphs, memory, contexts, engine, stream.
        self._held.callback(self._contexts.clear)
        self._held.callback(self._launches.clear)
        for profile in self._profiles:
            self._contexts[profile.index] = self._maker.make(profile.index, profile.fixed, self._stream)
        sizes = [self._max_bytes(profile) for profile in self._profiles]
        self._ports = {
            tensor.name: Port(
                tensor.name,
                NUMPY_OF[tensor.dtype],
                Staging(self._cuda, max(size[tensor.name] for size in sizes), self._held),
            )
            for tensor in (*self.inputs, *self.outputs)
        }
        self._cuda.call("cudaStreamSynchronize", self._stream)

    def _max_bytes(self, profile: OptimizationProfile) -> dict[str, int]:
        """Bytes of every input and output at the profile's largest shapes."""
        context = self._contexts[profile.index]
        sizes = {}
        for tensor in self.inputs:
            shape = profile.ranges[tensor.name].max
            if not context.set_input_shape(tensor.name, shape):
                raise refused(f"{tensor.name} cannot be {list(shape)}")
            sizes[tensor.name] = math.prod(shape) * NUMPY_OF[tensor.dtype].itemsize
        for tensor in self.outputs:
            sizes[tensor.name] = context.get_max_output_size(tensor.name)
            if sizes[tensor.name] < 0 or min(tuple(context.get_tensor_shape(tensor.name)), default=0) < 0:
                raise TensorRTError(f"the size of {tensor.name} depends on the data: not served")
        return sizes

    def _launch(self, context: Any, shapes: Shapes) -> Launch:
        inputs = {self._ports[name]: shape for name, shape in shapes.items()}
        outputs = [self._ports[tensor.name] for tensor in self.outputs]
        return Launch(self._cuda, self._stream, context, inputs, outputs)

    def _run_first(self, profile: OptimizationProfile, shapes: Shapes, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The first run at shapes that get a CUDA graph: plain, on a context of their own, then captured."""
        try:
            context = self._maker.make(profile.index, profile.fixed, self._stream)
        except TensorRTError as error:
            self._give_up_graphs(profile, str(error))
            return self._finish(self._launch(self._contexts[profile.index], shapes), arrays)
        launch = self._launch(context, shapes)
        outputs = self._finish(launch, arrays)
        try:
            if launch.capture(self._held):
                self._launches[tuple(shapes.values())] = launch
            else:
                self._give_up_graphs(profile, "TensorRT cannot capture the engine")
        except (CudaError, TensorRTError) as error:
            self._give_up_graphs(profile, str(error))
        return outputs

    def _give_up_graphs(self, profile: OptimizationProfile, reason: str) -> None:
        # Permanently: the same engine would fail again, perhaps in a request.
        self._graphed.discard(profile.index)
        log.info("no CUDA graphs, plain launches instead: %s", reason)

    def _finish(self, launch: Launch, arrays: Arrays) -> dict[str, NDArray[Any]]:
        try:
            return launch.run(arrays)
        except BaseException:
            # Nothing may stay queued that uses the context, which may be freed, or the memory, which the next run uses.
            self._cuda.attempt("cudaStreamSynchronize", self._stream)
            raise

    def _free(self) -> None:
        if self._stream is not None:
            self._cuda.attempt("cudaStreamSynchronize", self._stream)
        self._stream = None
        self._held.close()


def _load(variant: str) -> Any:
    try:
        return load(variant)
    except TensorRTMissing as error:
        raise StartError(str(error)) from error


def _advice(error: Exception) -> str:
    if isinstance(error, CudaError) and error.name == "cudaErrorMemoryAllocation":
        return "; an engine exported with a smaller --profile needs less"
    return ""
