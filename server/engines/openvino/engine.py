"""OpenVINO on the CPU."""

import functools
import threading
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino
from numpy.typing import NDArray

from artifact.spec import TensorSpec
from server.engines.base import Arrays
from server.engines.niceness import yield_to_loop
from server.engines.openvino import bf16_supported
from server.engines.openvino.graph import core, one_line, read_graph, specs
from server.engines.openvino.identity import find_ways, unrounded
from server.engines.openvino.unchecked import index_limits
from server.errors import StartError

Precision = Literal["fp32", "bf16"]
# Of an item of each input.
Shapes = tuple[tuple[int, ...], ...]

# Types whose values OpenVINO keeps in 32 bits with a sign.
_NARROWED = ("INT64", "UINT32", "UINT64")
_INT32 = np.iinfo(np.int32)
# A run is tried so often, if others fail beside it.
TRIES = 4
# Shapes that a run failed with are refused for so long.
REFUSED_S = 10.0
# Shapes that are remembered.
MOST_KNOWN = 1024


class Compiled:
    """A compiled graph and the requests that its runs take in turn: a request holds the memory of one run.

    `failures`: runs that failed or were cancelled. OpenVINO leaves the graph then with the shapes of two runs, and
    gives the next ones errors, or the outputs of the one before.
    """

    def __init__(self, model: openvino.Model, streams: int, threads: int, precision: Precision) -> None:
        """`streams`: runs at once. `threads`: of each."""
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            # One stream of one thread swallows what goes wrong in a run, and gives the outputs of the one before. No
            # stream is one thread too, the caller's, and raises.
            "NUM_STREAMS": 0 if streams * threads == 1 else streams,
            "INFERENCE_NUM_THREADS": streams * threads,
            "ENABLE_HYPER_THREADING": True,  # the number of threads is the caller's
            # Two models would pin their threads to the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        # Streams have threads of their own, which take their niceness from the thread that compiles.
        with ThreadPoolExecutor(1, "openvino", yield_to_loop if streams > 1 else None) as thread:
            compiled = thread.submit(core().compile_model, model, "CPU", options).result()
            # OpenVINO takes no more threads than the process has cores, so it may be one of one all the same.
            if options["NUM_STREAMS"] and streams * threads > 1 and _is_single(compiled):
                options["NUM_STREAMS"] = 0
                compiled = thread.submit(core().compile_model, model, "CPU", options).result()
        self._compiled = compiled
        self.failures = 0
        self.was_cancelled = False
        self._idle: list[openvino.InferRequest] = []
        self._requests: list[openvino.InferRequest] = []
        self._untried: list[openvino.InferRequest] = []  # that run what may fail

    def run(self, tensors: dict[int, openvino.Tensor], is_tried: bool) -> tuple[NDArray[Any], ...]:
        """The outputs in their order: arrays of their own. `is_tried`: such shapes have run before."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
            self._requests.append(request)
        if not is_tried:
            self._untried.append(request)
        # Copied, since the next run writes to the same memory.
        try:
            outputs = request.infer(tensors, share_inputs=True, share_outputs=False)
        except Exception:
            self.failures += 1
            self._requests.remove(request)
            raise
        finally:
            # What failed beside this one while its thread waits for the interpreter: this one may have run after it.
            self.failures += sum(_has_failed(each) for each in list(self._untried) if each is not request)
            if not is_tried:
                self._untried.remove(request)
        self._idle.append(request)
        return tuple(outputs.values())

    def trim(self) -> None:
        """Gives back the memory of the requests that are not running, and what they share."""
        while self._idle:
            try:
                self._requests.remove(self._idle.pop())
            except IndexError:  # a run took the last one meanwhile
                break
        self._compiled.release_memory()

    def cancel(self) -> None:
        """Ends the runs in progress."""
        for request in self._in_progress():
            self.was_cancelled = True  # first: what ends from now on must know
            self.failures += 1
            request.cancel()

    def _in_progress(self) -> list[openvino.InferRequest]:
        idle = {id(request) for request in list(self._idle)}
        return [each for each in list(self._requests) if id(each) not in idle]


class Graphs:
    """A graph compiled for a run of each worker thread at once (`shared`), and for one run over every thread (`whole`).
    The worker threads share the weights."""

    def __init__(self, model: openvino.Model, lanes: int, threads: int, precision: Precision) -> None:
        self.shared = Compiled(model, lanes, max(1, threads // lanes), precision)
        self.whole = Compiled(model, 1, threads, precision) if lanes > 1 else self.shared

    @property
    def failures(self) -> int:
        """Runs that failed or were cancelled."""
        return self.shared.failures + (self.whole.failures if self.whole is not self.shared else 0)

    @property
    def was_cancelled(self) -> bool:
        """Whether a run was."""
        return self.shared.was_cancelled or self.whole.was_cancelled


class OpenVinoCpuEngine:
    """A graph in OpenVINO on the CPU. Like ONNX Runtime's engine it holds the graph twice, compiled, and once as read:
    after a run that failed or was interrupted it is compiled anew, and the next run waits for that.
    """

    def __init__(self, path: Path, lanes: int, threads: int, batched: bool, precision: Precision) -> None:
        """Opens the graph. Blocks for as long as OpenVINO compiles it.

        Args:
            lanes: runs at once.
            threads: of all runs together.
            precision: fp32, or bf16 for convolutions and matrix products.

        Raises:
            StartError: OpenVINO cannot run the graph, or the processor cannot multiply in that precision.
        """
        if precision == "bf16" and not bf16_supported():
            raise StartError(f"{path}: this processor has no bf16 instructions (AVX512-BF16 or AMX)")
        self._model = model = read_graph(path)
        self._compile = functools.partial(Graphs, lanes=lanes, threads=threads, precision=precision)
        self.inputs: tuple[TensorSpec, ...] = specs(model.inputs, batched)
        self.outputs: tuple[TensorSpec, ...] = specs(model.outputs, batched)
        self._limits = index_limits(model)
        self._batched = batched
        self._stopped = False
        self._interrupts = 0
        self._ran: set[Shapes] = set()
        self._refused: dict[Shapes, tuple[str, float]] = {}
        # Of its own niceness, which what it compiles takes over: worker threads have another one.
        self._compiler = ThreadPoolExecutor(1, "openvino")
        self._renewing = threading.Lock()
        self._in_use: weakref.WeakSet[Graphs] = weakref.WeakSet()  # also those in which a run failed and others go on
        try:
            compared = self._compile(unrounded(model))
            lane, whole = (functools.partial(self._run, False, each) for each in (compared.shared, compared.whole))
            self._ways = find_ways(self.inputs, self._batched, lane, whole if lanes > 1 else None)
            self._coming = self._compiler.submit(self._compile, model)
            self._coming.result()
        except Exception as error:  # OpenVINO's exceptions share no public base
            raise StartError(f"{path}: OpenVINO cannot compile it: {one_line(error)}") from error

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Accepts every shape; what the graph cannot run fails in the run."""

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        """The outputs by name for one batch; see `Engine`. What ran beside a run that failed is run again."""
        interrupts = self._interrupts
        shapes = tuple(arrays[tensor.name].shape[1 if self._batched else 0 :] for tensor in self.inputs)
        for _ in range(TRIES):
            self._check_refused(shapes)
            graphs = self._sound().result()
            with self._renewing:
                self._in_use.add(graphs)
            try:
                outputs = self._run_on(graphs, arrays, whole_device, interrupts, shapes in self._ran)
            except Exception as error:
                if not graphs.failures:  # it did not get as far as OpenVINO
                    raise
                self._sound()
                if graphs.was_cancelled:
                    raise
                if graphs.failures == 1:
                    self._refuse(shapes, str(error))
                    raise
            else:
                if not graphs.failures:
                    if shapes not in self._ran and len(self._ran) < MOST_KNOWN:
                        self._ran.add(shapes)
                    return {tensor.name: array for tensor, array in zip(self.outputs, outputs, strict=True)}
                self._sound()
        raise RuntimeError(f"{TRIES} times a run failed beside this one")

    def _sound(self) -> "Future[Graphs]":
        """The compiled graphs; new ones, which are being compiled, if a run failed in those that there were."""
        with self._renewing:
            coming = self._coming
            if coming.done() and not self._stopped and (coming.exception() or coming.result().failures):
                self._coming = self._compiler.submit(self._compile, self._model)
            return self._coming

    def _used(self) -> "list[Graphs]":
        with self._renewing:  # a run may be about to add one
            return list(self._in_use)

    def _refuse(self, shapes: Shapes, reason: str) -> None:
        """Has no item of these shapes run for a while, unless one ever did: each would cost a compilation."""
        if shapes not in self._ran:
            self._refused = dict(list(self._refused.items())[-MOST_KNOWN:])
            self._refused[shapes] = reason, time.monotonic() + REFUSED_S

    def _check_refused(self, shapes: Shapes) -> None:
        reason, until = self._refused.get(shapes, ("", 0.0))
        if time.monotonic() < until:
            raise RuntimeError(f"a run of these shapes has just failed: {reason}")

    def _run_on(
        self, graphs: Graphs, arrays: Arrays, whole_device: bool, interrupts: int, is_tried: bool
    ) -> tuple[NDArray[Any], ...]:
        """The outputs of a batch, or of one run if there is no batch axis. `interrupts`: how many there were when the
        batch came; its pieces end with the next, which cancels the one that runs."""
        pieces = [(arrays, whole_device and bool(self._ways.whole))]
        if self._batched:
            pieces = [
                ({name: array[first:last] for name, array in arrays.items()}, is_whole)
                for first, last, is_whole in self._ways.pieces(len(arrays[self.inputs[0].name]), whole_device)
            ]
        runs = []
        for piece, is_whole in pieces:
            if self._interrupts != interrupts:
                raise RuntimeError("the run was interrupted")
            runs.append(self._run(is_tried, graphs.whole if is_whole else graphs.shared, piece))
        return runs[0] if len(runs) == 1 else tuple(np.concatenate(parts) for parts in zip(*runs, strict=True))

    def _run(self, is_tried: bool, compiled: Compiled, arrays: Arrays) -> tuple[NDArray[Any], ...]:
        if self._stopped:
            raise RuntimeError("the engine is stopped")
        for name, limit in self._limits.items():
            _check_indices(name, arrays[name], limit)
        tensors = {index: _tensor(tensor, arrays[tensor.name]) for index, tensor in enumerate(self.inputs)}
        return compiled.run(tensors, is_tried)

    def stop(self) -> None:
        """Ends the runs in progress at their next node; see `Stoppable`."""
        self._stopped = True
        self.interrupt()

    def interrupt(self) -> None:
        """Ends the runs in progress likewise; see `Stoppable`."""
        self._interrupts += 1  # also for a run that has not begun
        for graphs in self._used():
            graphs.shared.cancel()
            graphs.whole.cancel()

    def trim(self) -> None:
        """Gives back what the largest runs took; see `Trimmable`."""
        for graphs in self._used():
            graphs.shared.trim()
            graphs.whole.trim()

    def close(self) -> None:
        """Frees the graphs."""
        self._stopped = True
        with self._renewing:
            del self._coming, self._model
        self._compiler.shutdown(wait=False)


def _is_single(compiled: Any) -> bool:
    """Whether it has one stream of one thread."""
    return [compiled.get_property(name) for name in ("NUM_STREAMS", "INFERENCE_NUM_THREADS")] == [1, 1]


def _has_failed(request: openvino.InferRequest) -> bool:
    """Whether its run has ended with an error, by what OpenVINO says, which knows before the run's thread does."""
    try:
        request.wait_for(0)
    except RuntimeError:
        return True
    return False


def _check_indices(name: str, array: NDArray[Any], limit: int) -> None:
    """Raises:
    ValueError: a value of an input that has indices is out of range.
    """
    if array.size and not -limit <= array.min() <= array.max() < limit:
        raise ValueError(f"input {name!r} has indices out of range: {-limit} to {limit - 1} are there")


def _tensor(spec: TensorSpec, array: NDArray[Any]) -> openvino.Tensor:
    """The array as OpenVINO takes it: its memory, if it is writable and in C order, else a copy.

    Raises:
        ValueError: a value of more than 32 bits.
    """
    if spec.dtype in _NARROWED and array.size and not _INT32.min <= array.min() <= array.max() <= _INT32.max:
        raise ValueError(f"input {spec.name!r} has values of more than 32 bits, which OpenVINO does not compute with")
    kept = np.require(array, requirements=("C", "W"))
    return openvino.Tensor(kept, shared_memory=True)
