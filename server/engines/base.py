"""What runs a graph. Engines know neither asyncio nor grpc."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from artifact.spec import TensorSpec

Arrays = Mapping[str, NDArray[Any]]

# KServe's words for element types, and numpy's.
NUMPY_OF: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}


class Engine(Protocol):
    """A loaded graph on one device."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The graph's inputs, without the batch axis where `batched`."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The graph's outputs, likewise."""

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuses a job whose arrays have shapes that no run takes. On the loop, before the job queues, so: cheap.

        `shapes`: of all axes by input, the job's own rows first where the graph has a batch axis.

        Raises:
            InvalidRequest: the text has the shapes that it takes.
        """

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        """The outputs by name for one batch (leading axis N). Blocks; safe to call from every lane at once.

        `whole_device`: nothing else runs on this device, so the run may use all of it (on a CPU: every thread).
        Equal rows give equal bytes either way.
        """

    def close(self) -> None:
        """Frees what the engine holds. Called on a lane's thread, with no run in progress."""
