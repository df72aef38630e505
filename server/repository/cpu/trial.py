"""One graph on trial: ONNX Runtime's outputs for the fixed inputs, and the setups in which engines are compared."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from artifact.shapes import Sides, has_free_sizes
from artifact.spec import Spec
from server.engines.onnx.options import batch_sizes
from server.repository.cpu.parity import deviation, make_items, mixing
from server.repository.cpu.speed import MIN_ROUNDS, sizes_to_measure
from server.repository.cpu.subject import Items, RunFailed, Setup, Subject

# Batches beyond are neither compared nor measured, nor inputs of more bytes together.
MAX_ITEMS = 16
MAX_INPUT_BYTES = 64 << 20
# Batch sizes beside powers of two: kernels may have a path for what is left of a block.
ODD_SIZES = (3, 7)
# Heights and widths at which every batch size is compared (half as much of slow networks), and of small images. At the
# sizes that are measured an item is compared alone.
COMPARED_PX = 32
SMALL_PX = 64
# Of an engine at one size, on the lanes and alone: the rounds, one to warm, and what is compared.
RUNS = 2 * (MIN_ROUNDS + 2)
# Batches that would take longer are not compared.
COMPARED_S = 1.0


class Finding(NamedTuple):
    """What is wrong with an engine, "" if nothing: `far` from ONNX Runtime, or `mixes` an item with its batch."""

    far: str
    mixes: str


class Trial:
    """What the candidates for one graph are compared with."""

    def __init__(
        self,
        reference: Subject,
        spec: Spec | None,
        max_batch_size: int,
        lanes: int,
        budget_s: float,
        go_on: Callable[[], None],
    ) -> None:
        """Runs the reference on the fixed inputs.

        Args:
            reference: ONNX Runtime.
            max_batch_size: 0 without a batch axis.
            budget_s: how long one engine may be measured, if it is as fast as the reference.
            go_on: raises GivenUp when it is over.

        Raises:
            RunFailed: the reference cannot run them, or gives other values each time.
        """
        self._reference = reference
        self._spec = spec
        self._batched = max_batch_size > 0
        self._lanes = lanes
        self._go_on = go_on
        self._sides = Sides.of(spec)
        self._has_free_sizes = has_free_sizes(reference.engine.inputs)
        self._side_px = self._sides.fit(COMPARED_PX) if self._has_free_sizes else 0
        if self._has_free_sizes and self._seconds_of_a_run() * RUNS > budget_s:
            self._side_px = self._sides.fit(COMPARED_PX // 2)
        one = self._items(self._side_px, 1)
        item_bytes = sum(array.nbytes for array in one.values())
        self._largest = min(max_batch_size, MAX_ITEMS, max(1, MAX_INPUT_BYTES // max(1, item_bytes)))
        self._run_s = self._seconds_of_a_run()
        first, again = reference.run(one), reference.run(one)
        if any(array.tobytes() != again[name].tobytes() for name, array in first.items()):
            raise RunFailed("it gives other values when it is run again")
        self._compared = self._items(self._side_px, max(1, self._largest))
        self._expected = list(self._alone(reference))
        self._expected_at: dict[int, Items] = {}
        self.sides_px = self._sides_to_measure(budget_s)

    def compare(self, subject: Subject, precision: str) -> Finding:
        """What is wrong with the engine's outputs for the fixed inputs.

        Raises:
            RunFailed: it cannot run.
        """
        alone = list(self._alone(subject))
        far = deviation(self._expected, alone, precision)
        sizes = [0]
        if self._batched:
            wanted = {*batch_sizes(self._largest), *(size for size in ODD_SIZES if size < self._largest)}
            sizes = [size for size in sorted(wanted) if size <= 2 or size * self._run_s <= COMPARED_S]
        return Finding(far, "" if far else mixing(subject, self._compared, alone, sizes, self._go_on))

    def compare_at(self, subject: Subject, precision: str, side_px: int) -> Finding:
        """The same of one image of that size.

        Raises:
            RunFailed: the engine or the reference cannot run it.
        """
        self._go_on()
        if side_px == self._side_px:
            return Finding("", "")  # seen already
        items = self._items(side_px, 1)
        if side_px not in self._expected_at:
            self._expected_at[side_px] = self._reference.run(items)
        found = subject.run(items)
        far = deviation([self._expected_at[side_px]], [found], precision)
        return Finding(far, "" if far else mixing(subject, items, [found], [1 if self._batched else 0], self._go_on))

    def setups(self) -> Mapping[Setup, Items]:
        """The setups to measure, with their inputs: images of `sides_px`, alone on the whole device and on every lane,
        in batches as the server forms them."""
        found: dict[Setup, Items] = {}
        for side_px in self.sides_px:
            largest = self._largest if side_px == self.sides_px[-1] else min(self._largest, 1)
            sizes = sizes_to_measure(self._run_s_at(side_px), largest)
            wanted = [Setup(side_px, size, False) for size in sizes]
            if self._lanes > 1:
                wanted.append(Setup(side_px, sizes[0], True))
            found |= {setup: self._items(side_px, max(1, setup.items)) for setup in wanted}
        return found

    def _sides_to_measure(self, budget_s: float) -> list[int]:
        """Of images of free size: small ones, and the largest that a server runs that the time suffices for. [0]: the
        size is fixed."""
        if not self._has_free_sizes:
            return [0]
        sides_px = [self._sides.opt_px]
        while self._side_px <= (half_px := self._sides.fit(sides_px[-1] // 2)) < sides_px[-1]:
            sides_px.append(half_px)
        affordable = [px for px in sides_px if RUNS * self._run_s_at(px) <= budget_s] or sides_px[-1:]
        return sorted({min(self._sides.fit(SMALL_PX), affordable[0]), affordable[0]})

    def _seconds_of_a_run(self) -> float:
        """Of the reference for one item, its first run not counted."""
        one = self._items(self._side_px, 1)
        self._reference.run(one)
        started_s = time.perf_counter()
        self._reference.run(one)
        return time.perf_counter() - started_s

    def _run_s_at(self, side_px: int) -> float:
        """What an item takes the reference on one lane, as far as the compared size tells."""
        return self._run_s * ((side_px / self._side_px) ** 2 if side_px else 1.0)

    def _items(self, side_px: int, count: int) -> Items:
        """Fixed inputs; without a batch axis those of one item."""
        items = make_items(self._reference.engine.inputs, self._spec, side_px, count)
        return items if self._batched else {name: array[0] for name, array in items.items()}

    def _alone(self, subject: Subject) -> Iterator[Items]:
        """The outputs of each compared item alone."""
        for index in range(max(1, self._largest)):
            self._go_on()
            one = {name: array[index : index + 1] for name, array in self._compared.items()}
            yield subject.run(one if self._batched else self._compared)
