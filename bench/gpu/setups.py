"""Ways to serve side by side: several processes on one GPU, no batch formed ahead, one image a batch."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import IO

from bench.caller.server import Target, TargetError, started
from bench.cpu.load import Workload
from bench.gpu.device import Device
from bench.gpu.figures import SERVED_ROWS, Subject
from bench.gpu.rates import TIME_UP
from bench.gpu.report import Results, first_line
from bench.gpu.server import Load, add, measured, prepare, serve_arguments, served
from bench.gpu.serving import Model, Serving

LOADS = ((16, 64), (256, 1))  # callers, images a call
NOT_AHEAD = "bench.gpu.not_ahead"


@dataclass(frozen=True)
class Group:
    """Servers that run at once, each a module, "" for the command itself; what it is called when those of them are
    loaded, in turns, `rounds` times."""

    servers: Sequence[str]
    names: dict[str, Sequence[int]]
    loads: Sequence[tuple[int, int]] = LOADS
    most_rows: int = SERVED_ROWS
    rounds: int = 1


GROUPS = (
    Group(("", NOT_AHEAD), {"1 process of 2": (0,), "1 of 2, none formed ahead": (1,)}, LOADS[:1], rounds=2),
    Group(("",), {"1 process, batches of 1": (0,)}, LOADS[1:], most_rows=1),
    Group(("",) * 4, {"1 process of 4": (0,), "2 processes": (0, 1), "4 processes": (0, 1, 2, 3)}),
)


def compare(
    results: Results, models: Sequence[Model], precision: str, device: Device, work: Path, seconds: float, end_s: float
) -> None:
    """Adds a row for every way and load of each model's first subject; what cannot run is skipped with its reason.

    `seconds`: of one phase; `end_s`: when to begin no more.
    """
    for number, group in enumerate(GROUPS):
        # a share of what is left for each of them
        now_s = time.perf_counter()
        until_s = now_s + (end_s - now_s) / (len(GROUPS) - number)
        repository = Serving("onnx", precision, work / f"setups-{group.most_rows}", group.most_rows)
        subjects = [found[0] for model in models if (found := repository.add(results, model))]
        part = f"{precision}, {', '.join(group.names)}"
        if time.perf_counter() > end_s:
            results.skip(part, TIME_UP)
            continue
        try:
            with _servers(repository, group, device) as targets:
                ready = [subject for subject in subjects if _is_served(results, subject, group, targets[0])]
                for (callers, images), _, subject in product(group.loads, range(group.rounds), ready):
                    _loaded(results, repository, subject, group, targets, device, callers, images, seconds, until_s)
        except Exception as error:  # a server that does not start, a caller that ends: a result
            said = str(error).splitlines()[-1] if isinstance(error, TargetError) else first_line(error)
            results.skip(part, said)
        results.write()


@contextmanager
def _servers(repository: Serving, group: Group, device: Device) -> Iterator[list[Target]]:
    """As many as are loaded at most, started at once."""
    with ExitStack() as stack:

        def start(module: str) -> Target:
            return stack.enter_context(started(repository.folder, serve_arguments(repository, device), module))

        with ThreadPoolExecutor(len(group.servers)) as threads:
            targets = list(threads.map(start, group.servers))
        yield targets


def _is_served(results: Results, subject: Subject, group: Group, target: Target) -> bool:
    _, reason = served(target, subject.model)
    if reason:
        results.skip(f"{subject}, {next(iter(group.names))}", reason)
    return not reason


def _loaded(
    results: Results, repository: Serving, subject: Subject, group: Group, targets: Sequence[Target], device: Device,
    callers: int, images: int, seconds: float, end_s: float,
) -> None:  # fmt: skip
    """One load of one subject, in every way of the group."""
    platform, _ = served(targets[0], subject.model)
    version = repository.versions[subject.model]
    for name, numbers in group.names.items():
        part = f"{subject}, {name}, {images} images a call"
        if time.perf_counter() > end_s:
            results.skip(part, TIME_UP)
            continue
        loaded = [targets[number] for number in numbers]
        workloads = [prepare(target, subject, version, images)[0] for target in loaded]
        with _callers(workloads, callers // len(loaded), seconds, repository.folder) as processes:
            row = measured(
                loaded, workloads[0], version, subject, platform, callers, device,
                lambda processes=processes: _run(processes), name,  # type: ignore[misc]
            )  # fmt: skip
        add(results, part, row)


@dataclass(frozen=True)
class Caller:
    """A process that calls one server."""

    process: "subprocess.Popen[str]"
    errors: IO[str]

    def begin(self) -> None:
        """Has it call."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def line(self) -> str:
        """The next line that it says.

        Raises:
            TargetError: it ended before.
        """
        assert self.process.stdout is not None
        if said := self.process.stdout.readline():
            return said
        code = self.process.wait()
        self.errors.seek(0)
        raise TargetError(f"a caller ended with code {code}: {(self.errors.read().splitlines() or ['no reason'])[-1]}")


@contextmanager
def _callers(workloads: Sequence[Workload], callers: int, seconds: float, folder: Path) -> Iterator[list[Caller]]:
    """A process for each server, which begins when it gets a line."""
    files = folder.with_suffix(".messages")
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir(parents=True)
    names = []
    for number, message in enumerate(workloads[0].messages):
        (files / str(number)).write_bytes(message)
        names.append(str(files / str(number)))
    with ExitStack() as stack:
        processes = []
        for workload in workloads:
            host, port = workload.target.address
            line = [
                sys.executable, "-m", "bench.caller.calls", host, str(port), workload.path, str(callers), str(seconds),
                str(workload.connections), *names,
            ]  # fmt: skip
            errors = stack.enter_context(tempfile.TemporaryFile("w+"))
            process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            processes.append(Caller(process, errors))
        for caller in processes:
            caller.line()
        yield processes


def _run(callers: Sequence[Caller]) -> Load:
    """Has all of them call at once."""
    for caller in callers:
        caller.begin()
    return together([Load(**json.loads(caller.line())) for caller in callers])


def together(loads: Sequence[Load]) -> Load:
    """What several callers saw, as one."""
    return Load(
        sum(load.calls_per_s for load in loads),
        [latency_s for load in loads for latency_s in load.latencies_s],
        sum(load.errors for load in loads),
        sum(load.caller_cores for load in loads),
    )
