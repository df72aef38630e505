"""The server's CPU engines side by side in one process, in turns: images/s, nearness, and the same bytes in batches.

An engine here is what the server opens, with its lanes; `auto` is what it chooses. Only this part of bench and `gpu`
import the server.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artifact.repository import read_manifest
from bench.caller.payloads import Facts, RepositoryError, facts_of, random_inputs
from bench.cpu.engine import Feed, Setup
from bench.machine import core_count
from bench.percentiles import spread
from bench.report import number, show

BATCHES = (1, 4, 8, 16)
MOST_LANES = 4  # as the server has
COMPARED = 8  # items
CAP = "ONEDNN_MAX_CPU_ISA"
NO_CAP = "all"


@dataclass(frozen=True)
class Contestant:
    """An engine as the server opens it. `what`: for auto, what it chose; `opening_s`: how long that took."""

    name: str
    engine: Any
    what: str
    opening_s: float


def open_engines(names: Sequence[str], version: Path) -> tuple[list[Contestant], dict[str, str]]:
    """The engines of a version's graph, in the order of the names, and why the others cannot be had here.

    Raises:
        RepositoryError: the first cannot open it; the text is its reason.
    """
    from server.errors import GanserveError

    found: list[Contestant] = []
    absent: dict[str, str] = {}
    for name in names:
        started_s = time.perf_counter()
        try:
            engine, what = _open(name, version)
        except GanserveError as error:
            if not found:
                raise RepositoryError(f"{name}: {error}") from error
            absent[name] = str(error)
        else:
            found.append(Contestant(name, engine, what, time.perf_counter() - started_s))
    return found, absent


def _open(name: str, version: Path) -> tuple[Any, str]:
    from server.engines.base import CPU
    from server.environment import read_settings
    from server.repository.engine_choice import EngineFactory
    from server.repository.model_config import read_config
    from server.repository.model_version import ModelVersion

    engine, _, precision = name.partition("-")
    threads = core_count()
    precision = precision or ("auto" if engine == "auto" else "fp32")
    with tempfile.TemporaryDirectory() as cache:  # empty, so that auto measures
        settings = read_settings(
            repository=version.parents[1], engine=engine, cpu_precision=precision, engine_cache=cache, device="cpu"
        )
        described = ModelVersion(
            version.parent.name, int(version.name), version, read_config(version.parent), read_manifest(version)
        )
        opened = EngineFactory(settings, min(threads, MOST_LANES), threads).open(described, CPU, True)
    return opened.engine, str(opened.choice)


class Bench:
    """One model's engines and inputs."""

    def __init__(self, contestants: Sequence[Contestant], version: Path, side_px: int | None) -> None:
        """`side_px`: of images of free size; None: a whole tile."""
        facts = facts_of(version)
        self._contestants = contestants
        self._facts = facts if side_px is None else Facts(facts.classes, side_px)
        self.side_px = self._facts.side_px
        cores = core_count()
        lanes = min(cores, MOST_LANES)
        self.ways = [(1, cores)] + ([(lanes, max(1, cores // lanes))] if lanes > 1 else [])
        self._feeds: dict[int, Feed] = {}

    def feed(self, batch: int) -> Feed:
        """Inputs of that many items, made once."""
        if batch not in self._feeds:
            self._feeds[batch] = random_inputs(self._contestants[0].engine.inputs, batch, self._facts, seed=0)
        return self._feeds[batch]

    def images_per_s(self, engine: Any, setup: Setup, seconds: float) -> float:
        """Images per second over all of the setup's lanes, each in its own thread, for about that long."""
        feed = self.feed(setup.batch)
        rates = [0.0] * setup.sessions
        barrier = threading.Barrier(setup.sessions)

        def work(lane: int) -> None:
            barrier.wait()
            started_s, runs = time.perf_counter(), 0
            while (spent_s := time.perf_counter() - started_s) < seconds or runs == 0:
                engine.run(feed, setup.sessions == 1)
                runs += 1
            rates[lane] = runs * setup.batch / spent_s

        threads = [threading.Thread(target=work, args=(lane,)) for lane in range(setup.sessions)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(rates)

    def sweep(self, batches: Sequence[int], seconds: float, rounds: int) -> dict[str, dict[Setup, list[float]]]:
        """Images per second by engine and setup, `seconds` each over all rounds. In every round each setup is measured
        on every engine in turn, and another one begins; a first run of each is not counted."""
        setups = [Setup(lanes, threads, batch) for batch in batches for lanes, threads in self.ways]
        rates: dict[str, dict[Setup, list[float]]] = {
            each.name: {setup: [] for setup in setups} for each in self._contestants
        }
        for setup in setups:
            for each in self._contestants:
                self.images_per_s(each.engine, setup, 0.0)
        for turn in range(rounds):
            first = turn % len(self._contestants)
            for setup in setups:
                for each in (*self._contestants[first:], *self._contestants[:first]):
                    rates[each.name][setup].append(self.images_per_s(each.engine, setup, seconds / rounds))
        return rates

    def distances(self) -> dict[str, "Distance"]:
        """How far each engine's images are from the first one's."""
        feed = self.feed(COMPARED)
        outputs = {each.name: each.engine.run(feed, False) for each in self._contestants}
        expected = outputs[self._contestants[0].name]
        return {
            each.name: distance(expected, outputs[each.name], self._is_same_alone(each.engine, outputs[each.name]))
            for each in self._contestants
        }

    def _is_same_alone(self, engine: Any, together: Mapping[str, npt.NDArray[Any]]) -> bool:
        """Whether items have the same bytes alone, on one lane and on the whole device, as in a batch."""
        for index in range(COMPARED):
            one = {name: array[index : index + 1] for name, array in self.feed(COMPARED).items()}
            for whole_device in (False, True):
                outputs = engine.run(one, whole_device)
                if any(outputs[name].tobytes() != together[name][index].tobytes() for name in outputs):
                    return False
        return True


@dataclass(frozen=True)
class Distance:
    """Between two engines' outputs: PSNR and the largest difference, in 1/255 of the range (uint8 levels of images).

    `same_in_batches`: whether an item has the same bytes alone and in a batch.
    """

    psnr_db: float
    levels: float
    same_in_batches: bool


def distance(
    expected: Mapping[str, npt.NDArray[Any]], found: Mapping[str, npt.NDArray[Any]], same_in_batches: bool
) -> Distance:
    """Of the first output."""
    name = next(iter(expected))
    one, other = (np.asarray(outputs[name], np.float64) for outputs in (expected, found))
    peak = 255.0 if expected[name].dtype == np.uint8 else float(np.ptp(one)) or 1.0
    difference = np.abs(one - other) * (255.0 / peak)
    error = float(np.square(difference).mean())
    psnr_db = 20 * math.log10(255.0) - 10 * math.log10(error) if error else math.inf
    return Distance(psnr_db, float(difference.max()), same_in_batches)


def measure(
    version: Path, names: Sequence[str], batches: Sequence[int], seconds: float, rounds: int, side_px: int | None
) -> dict[str, object]:
    """Opens, compares and measures; prints the tables.

    Raises:
        RepositoryError: an engine cannot open the graph.
    """
    contestants, absent = open_engines(names, version)
    names = [each.name for each in contestants]
    for name, reason in absent.items():
        print(f"{name} is not measured: {reason}")
    bench = Bench(contestants, version, side_px)
    distances = bench.distances()
    rates = bench.sweep(batches, seconds, rounds)
    first = names[0]
    cap = os.environ.get(CAP)
    title = f"{version.parent.name}: images/s (min-max), times {first}" + (f"; {CAP}={cap}" if cap else "")
    rows = []
    for setup in rates[first]:
        cells = [_cell(rates[name][setup], rates[first][setup], name == first) for name in names]
        rows.append((str(setup.batch), f"{setup.sessions} x {setup.threads}", *cells))
    show(title, ("batch", "runs x threads", *names), rows)
    show(
        "compared with the first on 8 items",
        ("engine", "what", "PSNR dB", "largest, levels", "same bytes in batches", "open s"),
        [
            (
                each.name, each.what, number(distances[each.name].psnr_db, 1), number(distances[each.name].levels, 0),
                "yes" if distances[each.name].same_in_batches else "no", number(each.opening_s),
            )
            for each in contestants
        ],
    )  # fmt: skip
    for each in contestants:
        each.engine.close()
    return {
        "model": version.parent.name,
        "side_px": bench.side_px,
        "instruction_set_cap": cap,
        "absent": absent,
        "engines": {
            each.name: {
                "what": each.what,
                "opening_s": each.opening_s,
                **asdict(distances[each.name]),
                "images_per_s": {str(setup): found for setup, found in rates[each.name].items()},
            }
            for each in contestants
        },
    }


def _cell(rates: Sequence[float], first: Sequence[float], is_first: bool) -> str:
    """The median with its range, and how many times the first engine's: the median of the rounds' ratios."""
    low, median, high = spread(rates)
    digits = 0 if median >= 100 else 1 if median >= 10 else 2
    figures = f"{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"
    return figures if is_first else f"{figures}  {times(rates, first):.2f} x"


def times(rates: Sequence[float], first: Sequence[float]) -> float:
    """How many times as fast: the median of the rounds, each of which compares figures of one moment."""
    return spread([ours / theirs for ours, theirs in zip(rates, first, strict=True)]).median


def measure_under_caps(arguments: Sequence[str], caps: Sequence[str]) -> list[object]:
    """The same command under each of OpenVINO's limits of instructions, which are read once by a process; "all": none.

    ONNX Runtime does not know the limit: it keeps all instructions.

    Raises:
        RepositoryError: a command failed; its own line says why.
    """
    results = []
    for cap in caps:
        environment = {name: value for name, value in os.environ.items() if name != CAP}
        if cap != NO_CAP:
            environment[CAP] = cap
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "result.json"
            command = [sys.executable, "-m", "bench", "engine", *arguments, "--json", str(path)]
            if subprocess.run(command, env=environment).returncode:
                raise RepositoryError(f"the measurement with {CAP}={cap} failed")
            found = json.loads(path.read_text())
        results.append(found["results"])
    return results
