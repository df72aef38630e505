"""ONNX Runtime's IO binding: tensors in memory of the device that is allocated once and used by every run.

Without it ONNX Runtime allocates memory for every tensor of every run, and copies each output twice on its way to
numpy. It works on any device, the CPU included; there it gains nothing, and the CPU's engine does not use it.
"""

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from artifact.dtypes import BF16, NUMPY_OF
from artifact.spec import TensorSpec
from server.engines.base import Arrays, DeviceId
from server.engines.onnx.session import bfloat16_names, run_session

# Text cannot be on a device, and ONNX Runtime copies only numbers into memory that is allocated already.
# bfloat16 is passed as bits.
_NEVER_BOUND = ("BYTES", "BOOL", BF16)

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Binding:
    """One set of shapes, bound. `kept`: what owns the memory that the values are views of."""

    binding: ort.IOBinding
    inputs: Mapping[str, ort.OrtValue]
    outputs: Mapping[str, ort.OrtValue]
    kept: tuple[object, ...]


class BoundSession:
    """A session whose inputs and outputs are in memory that is allocated once.

    The first `max_shapes` sets of shapes that it runs are bound. Warm-up comes before requests, so those are the warmed
    ones; any other, as of images of free size, runs as `InferenceSession.run` does. All bound shapes of a tensor share
    one block of memory, of `max_items` items: what is bound takes as much memory as the largest batch alone.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        device: DeviceId,
        max_items: int,
        max_shapes: int,
    ) -> None:
        """`device`: where the session runs. `max_items`: of a batch; 0 without a batch axis."""
        self._session = session
        self._dtypes = {tensor.name: NUMPY_OF[tensor.dtype] for tensor in outputs}
        self._names = [tensor.name for tensor in outputs]
        self._outputs = outputs
        self._bfloat16 = bfloat16_names((*inputs, *outputs))
        self._device = device
        self._max_items = max_items
        self._max_shapes = max_shapes if not any(tensor.dtype in _NEVER_BOUND for tensor in inputs) else 0
        if {"BYTES", BF16} & {tensor.dtype for tensor in outputs}:
            self._max_shapes = 0
        self._blocks: dict[str, tuple[ort.OrtValue, int]] = {}
        self._bound: dict[Shapes, Binding] = {}
        self._running = threading.Lock()

    @property
    def bound(self) -> Mapping[Shapes, Binding]:
        """What is bound, by the shapes of the inputs in the order in which they came."""
        return self._bound

    def run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The outputs by name; arrays of their own, that no later run writes to. One run at a time."""
        shapes = tuple(array.shape for array in arrays.values())
        with self._running:
            binding = self._bound.get(shapes)
            if binding is not None:
                return self._run_bound(binding, arrays)
            results = run_session(self._session, self._outputs, arrays, None, self._bfloat16)
            if len(self._bound) >= self._max_shapes or not all(math.prod(shape) for shape in shapes):
                return results
            binding = self._bound[shapes] = self._bind(arrays, results)
            return self._run_bound(binding, arrays)

    def _run_bound(self, binding: Binding, arrays: Arrays) -> dict[str, NDArray[Any]]:
        for name, value in binding.inputs.items():
            value.update_inplace(np.ascontiguousarray(arrays[name]))
        binding.binding.synchronize_inputs()
        self._session.run_with_iobinding(binding.binding)
        binding.binding.synchronize_outputs()
        read = {name: binding.outputs[name].numpy() for name in self._names}
        # On a CPU numpy() is the memory itself, which the next run writes to.
        return {name: array.copy() for name, array in read.items()} if self._device.kind == "cpu" else read

    def _bind(self, arrays: Arrays, results: Arrays) -> Binding:
        binding = self._session.io_binding()
        inputs: dict[str, ort.OrtValue] = {}
        outputs: dict[str, ort.OrtValue] = {}
        kept: list[object] = []
        for values, found in ((inputs, arrays), (outputs, results)):
            for name, array in found.items():
                dtype = self._dtypes[name] if values is outputs else array.dtype
                values[name], owners = self._view(f"{name}{values is outputs}", array, dtype)
                kept += owners
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        return Binding(binding, inputs, outputs, tuple(kept))

    def _view(self, key: str, array: NDArray[Any], dtype: np.dtype[Any]) -> tuple[ort.OrtValue, tuple[object, ...]]:
        """An OrtValue of the array's shape at the beginning of the tensor's block, and what must live as long."""
        block = self._block(key, array)
        # ONNX Runtime makes a value over memory that is there already only for an output that is bound by its address.
        maker = self._session.io_binding()
        kind, index = self._device.kind, self._device.index
        maker.bind_output(self._names[0], kind, index, dtype.type, list(array.shape), block.data_ptr())
        return maker.get_outputs()[0], (block, maker)

    def _block(self, key: str, array: NDArray[Any]) -> ort.OrtValue:
        """Memory for the tensor at the largest batch; a larger image than before gets a larger block."""
        found = self._blocks.get(key)
        if found is not None and found[1] >= array.nbytes:
            return found[0]
        items = array.shape[0] if self._max_items and array.ndim else 1
        nbytes = array.nbytes // items * max(items, self._max_items, 1)
        block = ort.OrtValue.ortvalue_from_shape_and_type([nbytes], np.uint8, self._device.kind, self._device.index)
        self._blocks[key] = (block, nbytes)
        return block
