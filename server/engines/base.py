"""What runs a graph, and where."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from numpy.typing import NDArray

from artifact.spec import TensorSpec

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class DeviceId:
    """What a graph runs on: the CPU, or the GPU of that index. As text `cpu` or `cuda:N`."""

    kind: Literal["cpu", "cuda"]
    index: int = 0

    @staticmethod
    def parse(text: str) -> "DeviceId":
        """`cpu`, `cuda` (the first GPU) or `cuda:N`.

        Raises:
            ValueError: anything else.
        """
        kind, colon, index = text.partition(":")
        if kind == "cuda" and (index.isdecimal() or not colon):
            return DeviceId("cuda", int(index or 0))
        if text == "cpu":
            return CPU
        raise ValueError(f"device {text!r}: must be cpu, cuda or cuda:N")

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index}"


CPU = DeviceId("cpu")


class Engine(Protocol):
    """A loaded graph on one device."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The graph's inputs, without the batch axis if it has one."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The graph's outputs, likewise."""

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuses a job whose arrays have shapes that no run supports. Called on the event loop before the job queues,
        so it must be cheap.

        Args:
            shapes: all axes of each input; of a graph with a batch axis the first is the job's own number of items.

        Raises:
            InvalidRequest: the text has the shapes that are supported.
        """

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        """The outputs by name for one batch (leading axis N). Blocks; safe to call from every worker thread at once.

        Equal items give equal bytes whatever `whole_device` is. BYTES are arrays of `str`.

        Args:
            whole_device: nothing else runs on this device, so the run may use all of it (on a CPU: every thread).
        """

    def close(self) -> None:
        """Frees what the engine holds. Called on a worker thread, with no run in progress."""


@runtime_checkable
class Stoppable(Protocol):
    """An engine whose runs can be ended."""

    def stop(self) -> None:
        """Makes the runs in progress, and every later one, end with an error. From any thread."""

    def interrupt(self) -> None:
        """Makes the runs in progress end with an error; later ones are as before. From any thread."""


@runtime_checkable
class Trimmable(Protocol):
    """An engine that keeps the memory of its largest run for the next one, and can give it back."""

    def trim(self) -> None:
        """Gives back what no run in progress uses. Called on a worker thread when the model has been idle for a while;
        takes no longer than a small run."""
