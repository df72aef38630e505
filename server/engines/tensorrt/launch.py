"""One run of a TensorRT engine at one set of shapes: copies in, execution, copies out; plain or as a CUDA graph."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.tensorrt import TensorRTError, refused
from server.engines.base import Arrays
from server.engines.tensorrt.cuda import Cuda, CudaError, Staging

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Port:
    """An input or output and its memory, which is as large as its largest shape."""

    name: str
    dtype: np.dtype[Any]
    memory: Staging

    def view(self, shape: Shape) -> NDArray[Any]:
        """Its pinned memory as an array of `shape`."""
        return self.memory.view(shape, self.dtype)


class Launch:
    """A context at one set of input shapes. Of all launches that share ports, one runs at a time.

    A launch that has a graph needs its context for itself: the graph refers to the context's state, and TensorRT calls
    its replay undefined once the context has been given other shapes.
    """

    def __init__(self, cuda: Cuda, stream: Any, context: Any, inputs: dict[Port, Shape], outputs: list[Port]) -> None:
        """Gives the context its shapes and addresses.

        Raises:
            TensorRTError: the context does not take them.
        """
        self._cuda = cuda
        self._stream = stream
        self._context = context
        for port, shape in inputs.items():
            if not context.set_input_shape(port.name, shape):
                raise refused(f"{port.name} cannot be {list(shape)}")
        for port in (*inputs, *outputs):
            if not context.set_tensor_address(port.name, port.memory.device):
                raise refused(f"{port.name} cannot have an address")
        self._inputs = [(port, port.view(shape)) for port, shape in inputs.items()]
        self._outputs = [(port, port.view(tuple(context.get_tensor_shape(port.name)))) for port in outputs]
        self._graph: Any = None

    def run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The outputs by name, copied. Blocks until the GPU is done.

        Raises:
            CudaError, TensorRTError: the run failed; work may be left on the stream.
        """
        for port, pinned in self._inputs:
            np.copyto(pinned, arrays[port.name], casting="equiv")
        if self._graph is None:
            self._enqueue()
        else:
            self._cuda.call("cudaGraphLaunch", self._graph, self._stream)
        self._cuda.call("cudaStreamSynchronize", self._stream)
        return {port.name: pinned.copy() for port, pinned in self._outputs}

    def capture(self, held: ExitStack) -> bool:
        """Records the run as a CUDA graph, which later runs launch; False if TensorRT cannot be captured.

        Only after a plain run: the first run at new shapes does work of its own, which must not be in the graph.

        Raises:
            CudaError, TensorRTError: the capture failed; plain runs go on.
        """
        # Classic TensorRT has no such function; there the capture itself fails.
        capturable = getattr(self._context, "is_stream_capturable", None)
        if capturable is not None and not capturable(int(self._stream)):
            return False
        with ExitStack() as recorded:
            graph = self._record(recorded)
            ready = self._cuda.call("cudaGraphInstantiate", graph, 0)
            held.callback(self._cuda.attempt, "cudaGraphExecDestroy", ready)
            # Without this the first launch, which is a request's, would upload the graph.
            self._cuda.call("cudaGraphUpload", ready, self._stream)
        self._graph = ready
        return True

    def _record(self, recorded: ExitStack) -> Any:
        # Thread-local: other threads may allocate meanwhile, for a model that is being loaded.
        mode = self._cuda.binding.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._cuda.call("cudaStreamBeginCapture", self._stream, mode)
        failure: Exception | None = None
        try:
            self._enqueue()
        except (CudaError, TensorRTError) as error:
            failure = error
        # Whatever happened, the stream has to leave capture mode.
        try:
            graph = self._cuda.call("cudaStreamEndCapture", self._stream)
        except CudaError as error:
            raise failure or error from None
        recorded.callback(self._cuda.attempt, "cudaGraphDestroy", graph)
        if failure is not None:
            raise failure
        return graph

    def _enqueue(self) -> None:
        for port, pinned in self._inputs:
            port.memory.send(pinned.nbytes, self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise refused("the run was refused")
        for port, pinned in self._outputs:
            port.memory.fetch(pinned.nbytes, self._stream)
