"""What ONNX Runtime gives in this process, with nothing around it: the limit that a server is measured against."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from artifact.dtypes import KSERVE_OF_ONNX
from artifact.repository import ONNX
from artifact.spec import TensorSpec
from bench.caller.payloads import Facts, facts_of, random_inputs
from bench.machine import core_count
from bench.percentiles import Spread, percentile, spread

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
LIMIT_BATCH_SIZES = (8, 16)

Feed = dict[str, npt.NDArray[np.generic]]


class Setup(NamedTuple):
    """One way to use the cores."""

    sessions: int
    threads: int
    batch: int

    def __str__(self) -> str:
        return f"{self.sessions} x {self.threads} threads, batch {self.batch}"


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def graph_inputs(session: ort.InferenceSession) -> list[TensorSpec]:
    """The graph's own inputs without their batch axis; a free axis is -1."""
    return [
        TensorSpec(
            entry.name,
            KSERVE_OF_ONNX[entry.type],
            tuple(axis if isinstance(axis, int) else -1 for axis in entry.shape[1:]),
        )
        for entry in session.get_inputs()
    ]


class Engine:
    """One session over all cores, and as many one-threaded sessions as cores, of the same graph."""

    def __init__(self, version: Path, facts: Facts | None = None) -> None:
        """`facts`: of the inputs, if they are to differ from what the manifest says."""
        cores = core_count()
        path = version / ONNX
        self._sessions = {threads: [_session(path, threads)] for threads in {1, cores}}
        self._sessions[1] += [_session(path, 1) for _ in range(cores - 1)]
        self.ways = [(1, cores)] + ([(cores, 1)] if cores > 1 else [])  # (sessions, threads)
        self.specs = graph_inputs(self._sessions[1][0])
        self._facts: Facts = facts or facts_of(version)
        self._feeds: dict[int, Feed] = {}
        self._warm: set[Setup] = set()

    def feed(self, batch: int) -> Feed:
        """Inputs of that many rows, made once."""
        if batch not in self._feeds:
            self._feeds[batch] = random_inputs(self.specs, batch, self._facts, seed=0)
        return self._feeds[batch]

    def outputs(self, batch: int) -> list[npt.NDArray[np.generic]]:
        """What the graph makes of `feed`."""
        return list(self._sessions[1][0].run(None, self.feed(batch)))

    def images_per_s(self, setup: Setup, seconds: float) -> float:
        """Images per second over all of the setup's sessions, each in its own thread, for about that long."""
        sessions = self._sessions[setup.threads][: setup.sessions]
        feed = self.feed(setup.batch)
        if setup not in self._warm:
            for session in sessions:
                session.run(None, feed)
            self._warm.add(setup)
        rates = [0.0] * len(sessions)
        barrier = threading.Barrier(len(sessions))

        def work(lane: int, session: ort.InferenceSession) -> None:
            barrier.wait()
            started_s, runs = time.perf_counter(), 0
            while (spent_s := time.perf_counter() - started_s) < seconds or runs == 0:
                session.run(None, feed)
                runs += 1
            rates[lane] = runs * setup.batch / spent_s

        threads = [threading.Thread(target=work, args=pair) for pair in enumerate(sessions)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(rates)

    def latencies_s(self, seconds: float) -> list[float]:
        """Durations of single-image runs, one after the other, with all threads."""
        session = self._sessions[core_count()][0]
        feed = self.feed(1)
        latencies: list[float] = []
        session.run(None, feed)
        end_s = time.perf_counter() + seconds
        while (started_s := time.perf_counter()) < end_s or not latencies:
            session.run(None, feed)
            latencies.append(time.perf_counter() - started_s)
        return latencies


class Limit:
    """The engine limit as it is gathered: measured in rounds, so that the rounds can lie between other phases."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.rates: dict[Setup, list[float]] = {
            Setup(sessions, threads, batch): [] for sessions, threads in engine.ways for batch in LIMIT_BATCH_SIZES
        }
        self.latencies_s: list[float] = []

    def measure(self, seconds: float) -> None:
        """One round: every setup and the batch-1 latency, sharing that time equally."""
        share_s = seconds / (len(self.rates) + 1)
        for setup, rates in self.rates.items():
            rates.append(self._engine.images_per_s(setup, share_s))
        self.latencies_s += self._engine.latencies_s(share_s)

    @property
    def best(self) -> Setup:
        """The setup with the highest median."""
        return max(self.rates, key=lambda setup: spread(self.rates[setup]).median)

    @property
    def images_per_s(self) -> Spread:
        """What the best setup gave."""
        return spread(self.rates[self.best])

    @property
    def latency_s(self) -> float:
        """Median batch-1 latency with all threads."""
        return percentile(self.latencies_s, 50)

    def as_json(self) -> dict[str, object]:
        """All rounds."""
        return {
            "images_per_s": self.images_per_s.median,
            "best": str(self.best),
            "batch_1_p50_s": self.latency_s,
            "rounds": {str(setup): rates for setup, rates in self.rates.items()},
        }


def sweep(engine: Engine, seconds: float, rounds: int, batches: Sequence[int]) -> dict[Setup, list[float]]:
    """Images per second of every way and batch size, `seconds` each over all rounds; rounds are interleaved."""
    rates: dict[Setup, list[float]] = {
        Setup(sessions, threads, batch): [] for batch in batches for sessions, threads in engine.ways
    }
    for _ in range(rounds):
        for setup, found in rates.items():
            found.append(engine.images_per_s(setup, seconds / rounds))
    return rates
