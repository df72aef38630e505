"""Ways to serve side by side: several processes on one GPU, no batch formed ahead, one image a batch."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.caller.server import Target, TargetError, started
from bench.cpu.load import Workload
from bench.gpu.device import Device
from bench.gpu.figures import SERVED_ROWS, Subject
from bench.gpu.rates import TIME_UP
from bench.gpu.report import Results, first_line
from bench.gpu.server import Load, measured, prepare, serve_arguments, served
from bench.gpu.serving import Model, Serving

LOADS = ((16, 64), (256, 1))  # callers, images a call
NOT_AHEAD = "bench.gpu.not_ahead"


@dataclass(frozen=True)
class Group:
    """Servers that run at once, all alike; what they are called when so many of them are loaded."""

    names: dict[int, str]
    loads: Sequence[tuple[int, int]] = LOADS
    module: str = ""
    most_rows: int = SERVED_ROWS


GROUPS = (
    Group({1: "1 process of 4", 2: "2 processes", 4: "4 processes"}),
    Group({1: "1 process, none formed ahead"}, module=NOT_AHEAD),
    Group({1: "1 process, batches of 1"}, LOADS[1:], most_rows=1),
)


def compare(
    results: Results, models: Sequence[Model], precision: str, device: Device, work: Path, seconds: float, end_s: float
) -> None:
    """Adds a row for every way and load of each model's first subject; what cannot run is skipped with its reason.

    `seconds`: of one phase; `end_s`: when to begin no more.
    """
    for group in GROUPS:
        repository = Serving("onnx", precision, work / f"setups-{group.most_rows}", group.most_rows)
        subjects = [found[0] for model in models if (found := repository.add(results, model))]
        part = f"{precision}, {', '.join(group.names.values())}"
        if time.perf_counter() > end_s:
            results.skip(part, TIME_UP)
            continue
        try:
            with _servers(repository, group, device) as targets:
                for subject in subjects:
                    _loaded(results, repository, subject, group, targets, device, seconds, end_s)
        except Exception as error:  # a server that does not start, a caller that ends: a result
            said = str(error).splitlines()[-1] if isinstance(error, TargetError) else first_line(error)
            results.skip(part, said)
        results.write()


@contextmanager
def _servers(repository: Serving, group: Group, device: Device) -> Iterator[list[Target]]:
    """As many as are loaded at most, started at once."""
    with ExitStack() as stack:

        def start(_: int) -> Target:
            return stack.enter_context(started(repository.folder, serve_arguments(repository, device), group.module))

        with ThreadPoolExecutor(max(group.names)) as threads:
            targets = list(threads.map(start, range(max(group.names))))
        yield targets


def _loaded(
    results: Results, repository: Serving, subject: Subject, group: Group, targets: Sequence[Target], device: Device,
    seconds: float, end_s: float,
) -> None:  # fmt: skip
    platform, reason = served(targets[0], subject.model)
    if reason:
        results.skip(f"{subject}, {next(iter(group.names.values()))}", reason)
        return
    version = repository.versions[subject.model]
    for callers, images in group.loads:
        workloads = [prepare(target, subject, version, images)[0] for target in targets]
        for count, name in group.names.items():
            if time.perf_counter() > end_s:
                results.skip(f"{subject}, {name}, {images} images a call", TIME_UP)
                continue
            loaded = workloads[:count]
            with _callers(loaded, callers // count, seconds, repository.folder) as processes:
                row = measured(
                    targets[:count], loaded[0], version, subject, platform, callers, device,
                    lambda processes=processes: _run(processes), name,  # type: ignore[misc]
                )  # fmt: skip
            results.served.append(row)
            results.write()
            print(f"{subject}, {name}, {images} images a call: {row.images_per_s:.1f} images/s", flush=True)


@contextmanager
def _callers(
    workloads: Sequence[Workload], callers: int, seconds: float, folder: Path
) -> Iterator[list["subprocess.Popen[str]"]]:
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
            process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield processes


def _run(processes: Sequence["subprocess.Popen[str]"]) -> Load:
    """Has all of them call at once."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = []
    for process in processes:
        assert process.stdout is not None
        answers.append(Load(**json.loads(process.stdout.readline())))
    return together(answers)


def together(loads: Sequence[Load]) -> Load:
    """What several callers saw, as one."""
    return Load(
        sum(load.calls_per_s for load in loads),
        [latency_s for load in loads for latency_s in load.latencies_s],
        sum(load.errors for load in loads),
        sum(load.caller_cores for load in loads),
    )
