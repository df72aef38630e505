"""Images per second of every engine by batch size, with the host's transfers and without."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from bench.caller.payloads import Facts, random_inputs
from bench.gpu.artifacts import Version
from bench.gpu.device import Device
from bench.gpu.figures import Rate, Subject
from bench.gpu.report import Results, reason_of
from bench.gpu.runs import Feed, Hosted, OnDevice, Way
from bench.gpu.tables import OUT_OF_MEMORY

QUEUED_S = 0.05  # so long may work queue on the device before it is waited for
DISTINCT_ROWS = 16
TIME_UP = "the time was up"

Opened = TypeVar("Opened", Hosted, OnDevice)


@dataclass(frozen=True)
class Plan:
    """Batch sizes, seconds for one figure, and when (`time.perf_counter`) to measure no more."""

    batches: Sequence[int]
    seconds: float
    end_s: float


@dataclass(frozen=True)
class Cell:
    """A subject at a batch size."""

    subject: Subject
    batch: int


@dataclass
class Figures:
    """What was found of a cell, by name, and what was not, and why."""

    found: dict[str, float] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def fill(self, name: str, cell: Cell, seconds_of: Callable[[Feed], float], version: Version, plan: Plan) -> None:
        """Measures one figure, or notes why not."""
        if time.perf_counter() > plan.end_s:
            self.missing.append(TIME_UP)
            return
        try:
            self.found[name] = cell.batch / seconds_of(feed_of(version, cell.subject, cell.batch))
        except Exception as error:  # out of memory, a shape the engine does not take, a driver's error
            self.missing.append(reason_of(error))


def feed_of(version: Version, subject: Subject, rows: int) -> Feed:
    """Random inputs of that many rows; from the seventeenth on they repeat, which no engine can know."""
    facts = Facts(len(version.spec.labels), subject.side_px)
    drawn = random_inputs(version.spec.inputs, min(rows, DISTINCT_ROWS), facts, seed=0)
    return {name: np.ascontiguousarray(np.resize(array, (rows, *array.shape[1:]))) for name, array in drawn.items()}


def seconds_per_run(start: Callable[[], object], finish: Callable[[], None], seconds: float) -> float:
    """Mean time of a run, over `seconds` or one run, after two that do not count."""
    for _ in range(2):
        began_s = time.perf_counter()
        start()
        finish()
        once_s = time.perf_counter() - began_s
    chunk = max(1, int(min(QUEUED_S, seconds) / once_s))
    began_s, runs = time.perf_counter(), 0
    while (spent_s := time.perf_counter() - began_s) < seconds or runs == 0:
        for _ in range(chunk):
            start()
        finish()
        runs += chunk
    return spent_s / runs if runs else once_s


def measure(
    results: Results, subjects: Sequence[Subject], versions: Mapping[str, Version], ways: Sequence[Way],
    device: Device, plan: Plan,
) -> None:  # fmt: skip
    """Adds a row for every way, subject and batch size; what fails is a row with its reason."""
    for way in ways:
        found = {Cell(subject, batch): Figures() for subject in subjects for batch in plan.batches}
        refusal = ""
        if way.hosted is not None:
            refusal = _sweep(way.hosted, _hosted_s, "hosted", found, versions[way.precision], way, device, plan)
        if not refusal and device.kind == "cuda":
            refusal = _sweep(way.on_device, _placed_s, "placed", found, versions[way.precision], way, device, plan)
        if refusal:
            results.skip(f"rates of {subjects[0].model}, {way}", refusal)
        for cell, figures in found.items():
            if not figures.found and not figures.missing:
                continue  # the whole way was refused
            missing = OUT_OF_MEMORY if OUT_OF_MEMORY in figures.missing else "; ".join(dict.fromkeys(figures.missing))
            rate = Rate(
                str(cell.subject), way.engine, way.precision, cell.batch,
                figures.found.get("hosted"), figures.found.get("placed"), missing,
            )  # fmt: skip
            results.rates.append(rate)
            if missing:
                results.skip(f"rate of {cell.subject}, {way}, batch {cell.batch}", missing)
        results.write()


def _sweep(
    open_way: Callable[[], Opened], time_run: Callable[[Opened, Feed, float], float], name: str,
    found: Mapping["Cell", "Figures"], version: Version, way: Way, device: Device, plan: Plan,
) -> str:  # fmt: skip
    """Fills in one figure of every cell; why none could be measured, "" where they could."""
    if time.perf_counter() > plan.end_s:
        return TIME_UP
    try:
        opened = open_way()
    except Exception as error:  # whatever an engine has against this machine is a result
        return reason_of(error)
    try:
        for cell, figures in found.items():
            figures.fill(name, cell, lambda feed: time_run(opened, feed, plan.seconds), version, plan)
            value = figures.found.get(name)
            if value is None:
                device.free()  # what did not fit may have left much behind
            said = figures.missing[-1] if value is None else f"{value:.1f} images/s"
            print(f"{cell.subject}, {way}, batch {cell.batch}, {name}: {said}", flush=True)
    finally:
        opened.close()
        device.free()
    return ""


def _hosted_s(opened: Hosted, feed: Feed, seconds: float) -> float:
    return seconds_per_run(lambda: opened.run(feed), lambda: None, seconds)


def _placed_s(opened: OnDevice, feed: Feed, seconds: float) -> float:
    placed = opened.place(feed)
    return seconds_per_run(placed.start, placed.finish, seconds)
