"""The engines behind one Protocol: torch as the yardstick, ONNX Runtime and TensorRT as the server runs them."""

import copy
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bench.gpu_artifacts import Torch, Unavailable, Version
from bench.gpu_device import Device

Feed = Mapping[str, NDArray[np.generic]]
CUDA = "CUDAExecutionProvider"
NO_TRANSFERS = "a CPU has no transfers to leave out"


@dataclass(frozen=True)
class Placed:
    """Runs on inputs that lie on the device: `start` queues one, `finish` waits for all."""

    start: Callable[[], object]
    finish: Callable[[], None]


class Runner(Protocol):
    """One engine with one model in one precision."""

    def hosted(self, feed: Feed) -> NDArray[np.uint8]:
        """The pictures, from arrays to an array in host memory; blocks."""

    def placed(self, feed: Feed) -> Placed:
        """The same run with its data on the device.

        Raises:
            Unavailable: this engine cannot.
        """

    def close(self) -> None:
        """Frees what it holds."""


@dataclass(frozen=True)
class Way:
    """An engine in a precision, opened when its turn comes."""

    engine: str
    precision: str
    open: Callable[[], Runner]


class TorchRunner:
    """Eager torch in its default memory format; host copies from and to pageable memory."""

    def __init__(self, module: nn.Module, device: Device, tf32: bool) -> None:
        self._device = device
        self._module = copy.deepcopy(module).to(device.torch)
        device.set_tf32(tf32)

    @torch.inference_mode()
    def hosted(self, feed: Feed) -> NDArray[np.uint8]:
        """See `Runner`."""
        output = self._module(*(torch.from_numpy(array).to(self._device.torch) for array in feed.values()))
        pixels: NDArray[np.uint8] = output.cpu().numpy()
        return pixels

    def placed(self, feed: Feed) -> Placed:
        """See `Runner`."""
        if self._device.kind == "cpu":
            raise Unavailable(NO_TRANSFERS)
        inputs = [torch.from_numpy(array).to(self._device.torch) for array in feed.values()]

        @torch.inference_mode()
        def start() -> None:
            self._module(*inputs)

        return Placed(start, self._device.finish)

    def close(self) -> None:
        """See `Runner`."""
        del self._module
        self._device.set_tf32(False)


class OrtRunner:
    """ONNX Runtime: `hosted` is the server's own engine, `placed` a session of the same options with IO binding."""

    def __init__(self, version: Version, device: Device) -> None:
        from server.engines.ort import OrtEngine

        self._path = version.folder / "model.onnx"
        self._output = version.spec.outputs[0].name
        self._device = device
        place = "cuda:0" if device.kind == "cuda" else "cpu"
        self._engine = OrtEngine(self._path, place, 1, 1 if device.kind == "cuda" else torch.get_num_threads(), True)
        self._session: Any = None

    def hosted(self, feed: Feed) -> NDArray[np.uint8]:
        """See `Runner`."""
        pixels: NDArray[np.uint8] = self._engine.run(dict(feed), True)[self._output]
        return pixels

    def placed(self, feed: Feed) -> Placed:
        """See `Runner`."""
        if self._device.kind == "cpu":
            raise Unavailable(NO_TRANSFERS)
        ort = importlib.import_module("onnxruntime")
        if self._session is None:
            options = ort.SessionOptions()
            options.log_severity_level = 3
            cuda = {"device_id": "0", "cudnn_conv_algo_search": "HEURISTIC"}
            self._session = ort.InferenceSession(self._path, options, providers=[(CUDA, cuda), "CPUExecutionProvider"])
        binding = self._session.io_binding()
        for name, array in feed.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), "cuda", 0))
        for output in self._session.get_outputs():
            binding.bind_output(output.name, "cuda", 0)
        return Placed(lambda: self._session.run_with_iobinding(binding), binding.synchronize_outputs)

    def close(self) -> None:
        """See `Runner`."""
        self._engine.close()
        self._session = None


class TensorRtRunner:
    """TensorRT: `hosted` is the server's own engine, `placed` a context of its own on torch's memory and stream."""

    def __init__(self, version: Version) -> None:
        from server.engines.trt import TrtEngine

        assert version.plan is not None
        assert version.spec.plan is not None
        self._version, self._plan = version, version.spec.plan
        self._path = version.plan
        self._engine = TrtEngine(version.plan, self._plan, "cuda:0", True)
        self._own: Any = None
        self._stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # on the default stream TensorRT waits more than it must

    def hosted(self, feed: Feed) -> NDArray[np.uint8]:
        """See `Runner`."""
        pixels: NDArray[np.uint8] = self._engine.run(dict(feed), True)[self._version.spec.outputs[0].name]
        return pixels

    def placed(self, feed: Feed) -> Placed:
        """See `Runner`."""
        shapes = {name: array.shape for name, array in feed.items()}
        fitting = [
            index for index, profile in enumerate(self._plan.profiles)
            if all(profile[name].takes(shape) for name, shape in shapes.items())
        ]  # fmt: skip
        if not fitting:
            raise Unavailable(f"no profile of the engine takes {shapes}")
        context, tensors = self._context(fitting[0], feed)
        stream = self._stream.cuda_stream

        def start(kept: object = tensors) -> None:
            if not context.execute_async_v3(stream):
                raise RuntimeError("TensorRT could not queue the run")

        return Placed(start, torch.cuda.synchronize)

    def _context(self, profile: int, feed: Feed) -> tuple[Any, list[torch.Tensor]]:
        """An execution context whose inputs and outputs are the tensors, which must live as long."""
        library = importlib.import_module("server.engines.tensorrt_library").load(self._plan.flavour)
        if self._own is None:
            runtime = library.Runtime(library.Logger(library.Logger.ERROR))
            self._own = runtime.deserialize_cuda_engine(self._path.read_bytes())
        context = self._own.create_execution_context()
        context.set_optimization_profile_async(profile, self._stream.cuda_stream)
        tensors = []
        for name, array in feed.items():
            tensors.append(torch.from_numpy(array).cuda())
            context.set_input_shape(name, tuple(array.shape))
            context.set_tensor_address(name, tensors[-1].data_ptr())
        for index in range(self._own.num_io_tensors):
            name = self._own.get_tensor_name(index)
            if name not in feed:
                dtype = getattr(torch, str(self._own.get_tensor_dtype(name)).rpartition(".")[2].lower())
                tensors.append(torch.empty(tuple(context.get_tensor_shape(name)), dtype=dtype, device="cuda"))
                context.set_tensor_address(name, tensors[-1].data_ptr())
        torch.cuda.synchronize()
        return context, tensors

    def close(self) -> None:
        """See `Runner`."""
        self._engine.close()
        self._own = None


def ways(device: Device, found: Torch | None, versions: Mapping[str, Version]) -> list[Way]:
    """Every engine in every precision that there is something to open for."""
    listed: list[Way] = []
    if found is not None and "fp32" in versions:
        listed.append(Way("torch", "fp32", lambda: TorchRunner(found.module, device, False)))
        if device.kind == "cuda":
            listed.append(Way("torch TF32", "fp32", lambda: TorchRunner(found.module, device, True)))
    if found is not None and "fp16" in versions:
        listed.append(Way("torch", "fp16", lambda: TorchRunner(found.half, device, False)))
    for precision, version in versions.items():
        listed.append(Way("ONNX Runtime", precision, lambda version=version: _ort(version, device)))  # type: ignore[misc]
        listed.append(Way("TensorRT", precision, lambda version=version: _tensorrt(version, device)))  # type: ignore[misc]
    return listed


def _ort(version: Version, device: Device) -> Runner:
    try:
        ort = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise Unavailable(f"onnxruntime is not installed: {error}") from error
    if device.kind == "cuda" and CUDA not in ort.get_available_providers():
        raise Unavailable(
            f"onnxruntime {ort.__version__} has no {CUDA}, only {', '.join(ort.get_available_providers())}"
        )
    return OrtRunner(version, device)


def _tensorrt(version: Version, device: Device) -> Runner:
    if device.kind == "cpu":
        raise Unavailable("TensorRT runs on GPUs only")
    if version.plan is None:
        raise Unavailable("no model.plan beside the graph, and none could be built here")
    return TensorRtRunner(version)
