"""ONNX Runtime on a GPU, through the CUDA or the TensorRT provider.

Tensors go in and out as numpy arrays: binding them to memory of the GPU that is kept gained nothing (ADR 19).
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from artifact.shapes import Profile
from server.engines.base import Arrays
from server.engines.onnx.session import Provider, bfloat16_names, nodes_elsewhere, open_session, run_session, specs
from server.errors import InvalidRequest

log = logging.getLogger(__name__)


class OnnxGpuEngine:
    """A graph on one GPU."""

    def __init__(
        self,
        path: Path,
        providers: Sequence[Provider],
        max_batch_size: int,
        profile: Profile | None = None,
        sizes: Sequence[int] = (),
    ) -> None:
        """Opens the graph on the first of `providers`, which runs on `device`.

        Args:
            max_batch_size: 0 for a graph without a batch axis.
            profile: the shapes that the provider was given, None if it runs any.
            sizes: batches with a session each, ascending, up to which others are filled; none: one session runs every
                batch as it is.

        Raises:
            StartError: ONNX Runtime cannot open the file with these providers.
        """
        self._profile = profile
        self._filled = bool(sizes)
        self._sessions: list[tuple[int, ort.InferenceSession]] = []
        for size in sizes or (max_batch_size,):
            session = open_session(path, providers, 1)
            self.inputs = specs(session.get_inputs(), max_batch_size > 0)
            self.outputs = specs(session.get_outputs(), max_batch_size > 0)
            self._sessions.append((size, session))
        self._bfloat16 = bfloat16_names((*self.inputs, *self.outputs))
        if elsewhere := nodes_elsewhere(session, providers[0][0]):
            log.info("nodes on another provider", extra={"fields": {"graph": str(path), "nodes": elsewhere}})

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuses shapes for which the TensorRT provider would have to build an engine."""
        for name, supported in (self._profile or {}).items():
            if name in shapes and not supported.contains(shapes[name]):
                raise InvalidRequest(
                    f"input {name!r} has shape {list(shapes[name])}; the engine supports {list(supported.min)} to "
                    f"{list(supported.max)}"
                )

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        """The outputs by name for one batch; see `Engine`."""
        if not self._sessions:
            raise RuntimeError("the engine is closed")
        if not self._filled:
            return self._run(self._sessions[0][1], arrays)
        items = min(len(array) for array in arrays.values())
        size, session = next((entry for entry in self._sessions if entry[0] >= items), self._sessions[-1])
        outputs = self._run(session, {name: _filled_up(array, size) for name, array in arrays.items()})
        return {name: array[:items] for name, array in outputs.items()}

    def _run(self, session: ort.InferenceSession, arrays: Arrays) -> dict[str, NDArray[Any]]:
        return run_session(session, self.outputs, arrays, None, self._bfloat16)

    def close(self) -> None:
        """Frees the sessions and their memory."""
        self._sessions = []


def _filled_up(array: NDArray[Any], size: int) -> NDArray[Any]:
    """`size` items: the array's own, then copies of its first, which is a value that the graph supports."""
    if len(array) >= size:
        return array
    return np.concatenate([array, np.broadcast_to(array[:1], (size - len(array), *array.shape[1:]))])
