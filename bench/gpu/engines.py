"""ONNX Runtime and TensorRT: the server's own engines, and beside them runs on data that lies on the GPU."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from artifact.spec import TensorRTPlan
from artifact.tensorrt import load
from bench.gpu.artifacts import Version
from bench.gpu.device import Device
from bench.gpu.plans import Plans
from bench.gpu.report import Unavailable
from bench.gpu.runs import Feed, Hosted, OnDevice, Pixels, Placed, Way
from bench.gpu.torch_baseline import Torch, TorchGraph, TorchRun
from server.engines.base import Engine


class ServedEngine:
    """An engine of the server, whose first output is the picture."""

    def __init__(self, engine: Engine, version: Version) -> None:
        self._engine = engine
        self._output = version.spec.outputs[0].name

    def run(self, feed: Feed) -> Pixels:
        """See `Hosted`."""
        pixels: Pixels = self._engine.run(feed, True)[self._output]
        return pixels

    def close(self) -> None:
        """See `Hosted`."""
        self._engine.close()


class OrtOnDevice:
    """ONNX Runtime with the server's options and IO binding; `changed` of the CUDA provider's options are others."""

    def __init__(self, version: Version, device: Device, changed: Mapping[str, str] | None = None) -> None:
        from server.engines.onnx.session import open_session

        self._kind = device.kind
        providers = ort_providers(version, device)
        if device.kind == "cuda" and changed:
            providers[0] = (providers[0][0], {**providers[0][1], **changed})
        self._session: Any = open_session(version.graph, providers, 1)
        self._binding: Any = None

    def place(self, feed: Feed, outputs: Mapping[str, NDArray[Any]] | None = None) -> Placed:
        """See `OnDevice`. `outputs`: arrays like them, for which memory is kept; else each run takes some."""
        ort = importlib.import_module("onnxruntime")
        self._binding = binding = self._session.io_binding()
        for name, array in feed.items():
            value = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self._kind, 0)
            binding.bind_ortvalue_input(name, value)
        for tensor in self._session.get_outputs():
            if outputs is None:
                binding.bind_output(tensor.name, self._kind, 0)
            else:
                kept = ort.OrtValue.ortvalue_from_numpy(outputs[tensor.name], self._kind, 0)
                binding.bind_ortvalue_output(tensor.name, kept)
        return Placed(lambda: self._session.run_with_iobinding(binding), binding.synchronize_outputs)

    def read(self) -> dict[str, NDArray[Any]]:
        """The outputs of the last run by name, the picture first."""
        names = [tensor.name for tensor in self._session.get_outputs()]
        return {name: value.numpy() for name, value in zip(names, self._binding.get_outputs(), strict=True)}

    def close(self) -> None:
        """See `OnDevice`."""
        self._session = self._binding = None


class OrtGraph:
    """The same as one CUDA graph for each set of shapes, which ONNX Runtime records at the first run."""

    def __init__(self, version: Version, device: Device) -> None:
        self._version, self._device = version, device
        self._run: OrtOnDevice | None = None

    def place(self, feed: Feed) -> Placed:
        """See `OnDevice`."""
        plain = OrtOnDevice(self._version, self._device)
        placed = plain.place(feed)
        placed.start()
        placed.finish()
        outputs = plain.read()
        plain.close()
        self._run = OrtOnDevice(self._version, self._device, {"enable_cuda_graph": "1"})
        return self._run.place(feed, outputs)

    def close(self) -> None:
        """See `OnDevice`."""
        self._run = None


class TensorRtOnDevice:
    """A TensorRT engine with one context at a time, in torch's memory and on a stream of torch's."""

    def __init__(self, data: bytes, plan: TensorRTPlan) -> None:
        self._plan = plan
        library = load(plan.variant)
        self._runtime = library.Runtime(library.Logger(library.Logger.ERROR))
        self._engine: Any = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise Unavailable("TensorRT does not take the engine on this GPU")
        self._context: Any = None
        self._stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # the default one makes TensorRT wait

    def place(self, feed: Feed) -> Placed:
        """See `OnDevice`."""
        fitting = [
            index
            for index, profile in enumerate(self._plan.profiles)
            if all(profile[name].contains(array.shape) for name, array in feed.items())
        ]
        if not fitting:
            raise Unavailable("the engine has no profile for this batch")
        self._context = None  # its memory, before the next one's is taken
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise Unavailable("TensorRT made no context, as it does where memory is short")
        tensors = self._bind(fitting[0], feed)
        queue = self._context.execute_async_v3

        def start(kept: object = tensors) -> None:
            if not queue(self._stream.cuda_stream):
                raise RuntimeError("TensorRT could not queue the run")

        return Placed(start, torch.cuda.synchronize)

    def _bind(self, profile: int, feed: Feed) -> list[torch.Tensor]:
        """The context's inputs and outputs, which it only points to."""
        self._context.set_optimization_profile_async(profile, self._stream.cuda_stream)
        tensors = []
        for name, array in feed.items():
            tensors.append(torch.from_numpy(array).cuda())
            self._context.set_input_shape(name, tuple(array.shape))
            self._context.set_tensor_address(name, tensors[-1].data_ptr())
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            if name not in feed:
                dtype = getattr(torch, self._engine.get_tensor_dtype(name).name.lower())
                tensors.append(torch.empty(tuple(self._context.get_tensor_shape(name)), dtype=dtype, device="cuda"))
                self._context.set_tensor_address(name, tensors[-1].data_ptr())
        torch.cuda.synchronize()
        return tensors

    def close(self) -> None:
        """See `OnDevice`."""
        self._context = self._engine = None


def ways(
    device: Device, found: Torch | None, versions: Mapping[str, Version], plans: Mapping[str, Plans], most_rows: int
) -> list[Way]:
    """Every engine in every precision that there is something to open for."""
    listed: list[Way] = []
    for precision, version in versions.items():
        if found is not None:
            listed += _torch_ways(found, precision, device)
        listed.append(onnx_way(version, precision, device, most_rows))
        if device.kind == "cuda":
            listed.append(Way("ONNX Runtime graph", precision, None, lambda version=version: OrtGraph(version, device)))  # type: ignore[misc]
        listed.append(_tensorrt_way(version, precision, device, plans[precision]))
    return listed


def _torch_ways(found: Torch, precision: str, device: Device) -> list[Way]:
    def way(name: str, tf32: bool) -> Way:
        def opened() -> TorchRun:
            return TorchRun(found.half if precision == "fp16" else found.module, device, tf32)

        return Way(name, precision, opened, opened)

    def graphed() -> TorchGraph:
        return TorchGraph(found.half if precision == "fp16" else found.module, device, False)

    graph = [Way("torch graph", precision, None, graphed)] if device.kind == "cuda" else []
    has_tf32 = precision == "fp32" and device.kind == "cuda"
    return [way("torch", False)] + ([way("torch TF32", True)] if has_tf32 else []) + graph


def onnx_way(
    version: Version, precision: str, device: Device, most_rows: int, sizes: Sequence[int] = (), name: str = ""
) -> Way:
    """ONNX Runtime on that device, in batches of `most_rows` at most. `sizes`: of batches with a session each."""

    def hosted() -> Hosted:
        _require_ort(device)
        from server.engines.onnx.cpu import OnnxCpuEngine

        if device.kind == "cpu":
            return ServedEngine(OnnxCpuEngine(version.graph, 1, torch.get_num_threads(), True), version)
        from server.engines.onnx.gpu import OnnxGpuEngine

        providers = ort_providers(version, device)
        return ServedEngine(OnnxGpuEngine(version.graph, providers, most_rows, sizes=sizes), version)

    def on_device() -> OnDevice:
        _require_ort(device)
        return OrtOnDevice(version, device)

    return Way(name or "ONNX Runtime", precision, hosted, on_device)


def _require_ort(device: Device) -> None:
    try:
        ort = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise Unavailable(f"onnxruntime is not installed: {error}") from error
    providers = ort.get_available_providers()
    if device.kind == "cuda" and "CUDAExecutionProvider" not in providers:
        raise Unavailable(f"onnxruntime {ort.__version__} has {', '.join(providers)} and no CUDAExecutionProvider")


def ort_providers(version: Version, device: Device) -> list[tuple[str, Mapping[str, str]]]:
    """Those that a server without settings gives the model."""
    from server.engines.onnx.options import conv_search, cuda_options
    from server.engines.onnx.session import CPU_PROVIDER, CUDA_PROVIDER

    search = conv_search("auto", version.spec.inputs)
    cuda = [(CUDA_PROVIDER, cuda_options(0, search, version.spec.precision, None))] if device.kind == "cuda" else []
    return [*cuda, (CPU_PROVIDER, {})]


def _tensorrt_way(version: Version, precision: str, device: Device, plans: Plans) -> Way:
    def hosted() -> Hosted:
        if device.kind == "cpu":
            raise Unavailable("TensorRT runs on GPUs only")
        return ServedEngine(plans.open(), version)

    def on_device() -> OnDevice:
        if plans.opened is None:
            raise Unavailable("no engine could be opened")
        return TensorRtOnDevice(plans.opened.path.read_bytes(), plans.opened.plan)

    return Way("TensorRT", precision, hosted, on_device)
