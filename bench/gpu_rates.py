"""Images per second of every engine by batch size, with the host's transfers and without."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bench.gpu_artifacts import Unavailable, Version
from bench.gpu_device import Device
from bench.gpu_engines import Feed, Runner, Way
from bench.gpu_report import OUT_OF_MEMORY, Rate, Results, Subject, first_line
from bench.tensors import Facts, random_inputs

QUEUED_S = 0.05  # so long may work queue on the device before it is waited for
DISTINCT_ROWS = 16


@dataclass(frozen=True)
class Plan:
    """Batch sizes, seconds for one figure, and when (`time.perf_counter`) to measure no more."""

    batches: Sequence[int]
    seconds: float
    end_s: float


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
        part = f"rates of {subjects[0].model}, {way.engine} {way.precision}"
        if time.perf_counter() > plan.end_s:
            results.skip(part, "the time was up")
            continue
        try:
            runner = way.open()
        except Exception as error:  # whatever an engine has against this machine is a result
            results.skip(part, str(error) if isinstance(error, Unavailable) else first_line(error))
            continue
        try:
            for subject in subjects:
                _sweep(results, subject, versions[way.precision], way, runner, plan)
        finally:
            runner.close()
            device.free()
        results.write()


def _sweep(results: Results, subject: Subject, version: Version, way: Way, runner: Runner, plan: Plan) -> None:
    for batch in plan.batches:
        if time.perf_counter() > plan.end_s:
            rate = Rate(str(subject), way.engine, way.precision, batch, missing="the time was up")
        else:
            rate = _rate(subject, version, way, runner, batch, plan.seconds)
        results.rates.append(rate)
        if rate.missing:
            results.skip(f"rate of {subject}, {way.engine} {way.precision}, batch {batch}", rate.missing)
        figures = ", ".join(
            f"{name} {value:.1f}" for name, value in (("hosted", rate.hosted), ("placed", rate.placed)) if value
        )
        print(f"{subject}, {way.engine} {way.precision}, batch {batch}: {figures or '-'} images/s", flush=True)


def _rate(subject: Subject, version: Version, way: Way, runner: Runner, batch: int, seconds: float) -> Rate:
    figures: dict[str, float] = {}
    missing: list[str] = []
    feed = feed_of(version, subject, batch)
    for name in ("hosted", "placed"):
        try:
            figures[name] = batch / _time(runner, name, feed, seconds)
        except Unavailable as error:
            missing.append(f"{name}: {error}")
        except Exception as error:  # out of memory, a shape the engine does not take, a driver's error
            missing.append(first_line(error))
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    reason = OUT_OF_MEMORY if OUT_OF_MEMORY in missing else "; ".join(dict.fromkeys(missing))
    return Rate(str(subject), way.engine, way.precision, batch, figures.get("hosted"), figures.get("placed"), reason)


def _time(runner: Runner, name: str, feed: Feed, seconds: float) -> float:
    if name == "hosted":
        return seconds_per_run(lambda: runner.hosted(feed), lambda: None, seconds)
    placed = runner.placed(feed)
    return seconds_per_run(placed.start, placed.finish, seconds)
