"""ONNX Runtime on the CPU."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from server.engines.base import Arrays
from server.engines.onnx.session import CPU_PROVIDER, bfloat16_names, open_session, run_session, specs
from server.engines.onnx.tuning import UNTUNED, Tuning, shrinking


def cores() -> int:
    """CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def max_threads(threads: int) -> int:
    """Of one run, whatever a model's config says: more would wait for each other. `threads`: the server's."""
    return max(threads, cores())


class OnnxCpuEngine:
    """A graph in ONNX Runtime on the CPU.

    It holds the graph twice: a session of one thread for each worker thread to run at once, and one over every thread
    for a request that has the CPU to itself. Both give the same bytes for the same items. If the model's config says
    how many threads a run has, there is one session, for both.
    """

    def __init__(self, path: Path, lanes: int, threads: int, batched: bool, tuning: Tuning = UNTUNED) -> None:
        """Opens the graph. Blocks for as long as ONNX Runtime optimises it.

        Args:
            lanes: runs at once.
            threads: of all runs together.
            tuning: what the model's config says of the sessions.

        Raises:
            StartError: ONNX Runtime cannot open the file.
        """
        tuning = tuning.within(max_threads(threads))
        own = tuning.intra_threads
        self._shared = open_session(path, [(CPU_PROVIDER, {})], own or max(1, threads // lanes), tuning=tuning)
        self._whole = self._shared
        if lanes > 1 and not own:
            self._whole = open_session(path, [(CPU_PROVIDER, {})], threads, tuning=tuning)
        self.inputs = specs(self._shared.get_inputs(), batched)
        self.outputs = specs(self._shared.get_outputs(), batched)
        self._tuning = tuning
        self._options = tuning.run_options()
        self._bfloat16 = bfloat16_names((*self.inputs, *self.outputs))
        # Shrinking after every run would cost a tenth of it.
        self._trimming = shrinking(ort.RunOptions())
        self._first: Arrays | None = None  # of the first run, which is warm-up's and the smallest

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Accepts every shape; what the graph cannot run fails in the run."""

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        """The outputs by name for one batch; see `Engine`."""
        session = self._whole if whole_device else self._shared
        outputs = run_session(session, self.outputs, arrays, self._options, self._bfloat16)
        if self._first is None:
            self._first = arrays
        return outputs

    def stop(self) -> None:
        """Ends the runs in progress at their next node or round of a loop; see `Stoppable`."""
        self._options.terminate = self._trimming.terminate = True

    def interrupt(self) -> None:
        """Ends the runs in progress likewise; see `Stoppable`."""
        options, self._options = self._options, self._tuning.run_options()
        options.terminate = True

    def trim(self) -> None:
        """Gives back what the sessions' arenas hold: ONNX Runtime does so at the end of a run; see `Trimmable`."""
        if self._first is not None and self._tuning.has_arena:
            for session in {id(each): each for each in (self._shared, self._whole)}.values():
                run_session(session, self.outputs, self._first, self._trimming, self._bfloat16)

    def close(self) -> None:
        """Frees both sessions."""
        del self._shared, self._whole
