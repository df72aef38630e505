"""What is measured of an engine: runs from host memory to host memory, and runs on data that lies on the device."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Feed: TypeAlias = Mapping[str, NDArray[np.generic]]
Pixels: TypeAlias = NDArray[np.uint8]


class Hosted(Protocol):
    """An engine with one model in one precision."""

    def run(self, feed: Feed) -> Pixels:
        """The pictures (N, H, W, C); blocks."""

    def close(self) -> None:
        """Frees what it holds."""


@dataclass(frozen=True)
class Placed:
    """Runs of one set of inputs that lie on the device: `start` queues one, `finish` waits for all."""

    start: Callable[[], object]
    finish: Callable[[], None]


class OnDevice(Protocol):
    """The same engine with its data on the device."""

    def place(self, feed: Feed) -> Placed:
        """The inputs copied there, ready to run."""

    def close(self) -> None:
        """Frees what it holds."""


@dataclass(frozen=True)
class Way:
    """An engine in a precision. Opened when its turn comes, one at a time, so that each has the device to itself.

    `hosted` is None for one that is measured with its data on the device only.
    """

    engine: str
    precision: str
    hosted: Callable[[], Hosted] | None
    on_device: Callable[[], OnDevice]

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"
