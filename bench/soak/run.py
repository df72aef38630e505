"""`python -m bench soak`: starts a server, soaks it, and says what grew and what went wrong."""

import argparse
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc

from bench.caller.payloads import Facts
from bench.caller.server import Target, TargetError, infer_requests, model_inputs, started
from bench.report import show, write_json
from bench.soak.callers import CALLERS as GRPC_CALLERS
from bench.soak.callers import Soak, attack_once, run
from bench.soak.http_callers import HTTP_CALLERS
from bench.soak.process import Held
from ganserve.v1 import images_pb2 as pb
from ganserve.v1.images_pb2_grpc import ImageServiceStub

# Before the server's rest is looked at: every kind of call has come several times.
WARM_S = 20.0
# After the callers have gone, until descriptors and memory are given back.
SETTLE_S = 20.0  # models give back what requests took 10 s after the last one
SAMPLES = 20
RSS_GROWTH = 1.5
# Pools start their threads when they are first needed and keep them.
POOL_THREADS = 8
# While it is busy, from the first half to the last quarter: figures vary with what happens to run.
BUSY_GROWTH = 1.25
# Statuses that blame the server, and what says so of its ports.
FAULTS = ("INTERNAL", "UNKNOWN", "DATA_LOSS", "HTTP 500", "RemoteDisconnected", "failed")
CALLERS = {**GRPC_CALLERS, **HTTP_CALLERS}
LOG_BYTES_PER_S = 100_000


@dataclass(frozen=True)
class Sample:
    """What the server held at a time, in seconds since the start of the soak."""

    at_s: float
    held: Held


@dataclass
class Result:
    """Everything seen. `rest` and `end`: without callers, before and after."""

    rest: Held
    end: Held
    samples: list[Sample]
    counts: Counter[tuple[str, str]]
    log: str
    failures: list[str]

    def problems(self) -> list[str]:
        """What is wrong; empty if nothing."""
        found = list(self.failures)
        if self.end.rss_bytes > RSS_GROWTH * self.rest.rss_bytes:
            found.append(f"RSS at rest grew from {mib(self.rest.rss_bytes)} to {mib(self.end.rss_bytes)} MiB")
        for name, more in (("descriptors", 0), ("threads", POOL_THREADS)):
            before, after = getattr(self.rest, name), getattr(self.end, name)
            if after > before + more:
                found.append(f"{name} at rest grew from {before} to {after}")
        if (growth := self.busy_growth()) > BUSY_GROWTH:
            found.append(f"RSS under load grew by {growth:.2f} from the first half to the last quarter")
        found += [
            f"{caller}: {count} x {status}" for (caller, status), count in self.counts.items() if status in FAULTS
        ]
        found += [f"{caller}: not one call succeeded" for caller in CALLERS if self._is_hopeless(caller)]
        if tracebacks := self.log.count("Traceback"):
            found.append(f"{tracebacks} tracebacks in the log")
        seconds = self.samples[-1].at_s if self.samples else 1.0
        if len(self.log) > LOG_BYTES_PER_S * seconds:
            found.append(f"{len(self.log)} B of log in {seconds:.0f} s")
        return found

    def busy_growth(self) -> float:
        """RSS under load, the last quarter over the first half; 1 if there are too few samples."""
        quarter = len(self.samples) // 4
        if quarter < 1:
            return 1.0
        early = (sample.held.rss_bytes for sample in self.samples[: 2 * quarter])
        return max(sample.held.rss_bytes for sample in self.samples[-quarter:]) / max(self.rest.rss_bytes, *early)

    def _is_hopeless(self, caller: str) -> bool:
        statuses = {status for name, status in self.counts if name == caller}
        return caller not in ("leave", "attack", "bytes") and bool(statuses) and "OK" not in statuses


def main(arguments: argparse.Namespace) -> int:
    """Runs it; 1 if something grew or broke."""
    try:
        with started(arguments.repository, f"--model-control explicit {arguments.serve_arguments}") as target:
            result = soak(target, arguments.minutes * 60)
    except TargetError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print_tables(result)
    if arguments.json is not None:
        write_json(arguments.json, as_json(result))
    problems = result.problems()
    for problem in problems:
        print(f"PROBLEM: {problem}")
    return 1 if problems else 0


def soak(target: Target, seconds: float) -> Result:
    """Warms the server up, lets it rest, has all callers at it for `seconds`, and lets it rest again.

    Raises:
        TargetError: the server has nothing to generate images with, or ended.
    """
    models = _models_of(target)
    generators = [*models.get("unconditional", ()), *models.get("class-conditional", ())]
    if not generators:
        raise TargetError("the repository has no model that generates images")
    name = generators[0].name
    requests = infer_requests(name, model_inputs(target, name), Facts(len(generators[0].labels)))
    warm = Soak(target, models, requests)
    attack_once(warm)
    _run(warm, min(WARM_S, seconds), 0)
    rest = _rested(target)
    busy = Soak(target, models, requests)
    samples = _run(busy, seconds, SAMPLES)
    log = Path(f"/proc/{target.pid}/fd/2").read_text(errors="replace")
    return Result(rest, _rested(target), samples, busy.counts, log, busy.failures)


def _models_of(target: Target) -> dict[str, list[pb.Model]]:
    found: dict[str, list[pb.Model]] = {}
    with grpc.insecure_channel(f"{target.host}:{target.grpc_port}") as channel:
        for model in ImageServiceStub(channel).ListModels(pb.ListModelsRequest()).models:
            if model.state == "READY":
                found.setdefault(model.task, []).append(model)
    return found


def _run(shared: Soak, seconds: float, samples: int) -> list[Sample]:
    """All callers for so long; what the server held meanwhile."""
    threads = [
        threading.Thread(target=run, args=(shared, name, caller, seed), name=name)
        for seed, (name, caller) in enumerate(CALLERS.items())
    ]
    for thread in threads:
        thread.start()
    started_s, found = time.monotonic(), []
    try:
        for number in range(1, max(samples, 1) + 1):
            shared.stop.wait(max(0.0, started_s + seconds * number / max(samples, 1) - time.monotonic()))
            if samples:
                found.append(Sample(time.monotonic() - started_s, held_by(shared.target)))
                print(_line(found[-1], shared.counts), flush=True)
    finally:
        shared.stop.set()
        for thread in threads:
            thread.join()
    return found


def held_by(target: Target) -> Held:
    """What the server holds.

    Raises:
        TargetError: it has ended.
    """
    try:
        return Held.by(target.pid)
    except OSError:
        raise TargetError("the server has ended") from None


def _rested(target: Target) -> Held:
    time.sleep(SETTLE_S)
    return held_by(target)


def _line(sample: Sample, counts: Counter[tuple[str, str]]) -> str:
    held, total = sample.held, sum(counts.values())
    faults = sum(count for (_, status), count in counts.items() if status in FAULTS)
    return (
        f"{sample.at_s:7.0f} s  RSS {mib(held.rss_bytes):>5} MiB  descriptors {held.descriptors:>4}  "
        f"threads {held.threads:>3}  calls {total:>7}  faults {faults}"
    )


def mib(nbytes: int) -> str:
    """Bytes in MiB."""
    return f"{nbytes / (1 << 20):.0f}"


def print_tables(result: Result) -> None:
    """What each caller got, and what the server held at rest."""
    rows = [(caller, status, str(count)) for (caller, status), count in sorted(result.counts.items())]
    show("calls", ("caller", "status", "count"), rows)
    show(
        "at rest",
        ("", "RSS", "descriptors", "threads"),
        [
            (name, f"{mib(held.rss_bytes)} MiB", str(held.descriptors), str(held.threads))
            for name, held in (("before", result.rest), ("after", result.end))
        ],
    )


def as_json(result: Result) -> dict[str, object]:
    """Raw figures."""
    return {
        "rest": asdict(result.rest),
        "end": asdict(result.end),
        "samples": [asdict(sample) for sample in result.samples],
        "counts": {f"{caller}: {status}": count for (caller, status), count in result.counts.items()},
        "log_bytes": len(result.log),
        "problems": result.problems(),
    }
