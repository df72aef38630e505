"""`python -m bench tables`: the figures of docs/benchmarks.md that are about one machine's CPU, in one run.

Two servers, the first with ONNX Runtime and the other with another engine, are measured in turns: what slows the
machine down slows both. The limit is ONNX Runtime's in this process, measured between them.
"""

import argparse
import io
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from bench.caller import exposition
from bench.caller.loops import Phase, call_once, closed_loop
from bench.caller.payloads import Facts, facts_of, newest_version
from bench.caller.server import Target, TargetError, model_inputs, rejection, started
from bench.caller.wire import OK
from bench.cpu.engine import Engine, Limit
from bench.cpu.load import Workload, prepare
from bench.machine import facts
from bench.percentiles import spread
from bench.report import markdown_table, milliseconds, number, write_json
from ganserve.v1 import images_pb2

CALLERS = (1, 4, 16, 64)
LIVE = "/inference.GRPCInferenceService/ServerLive"
UPSCALE = "/ganserve.v1.ImageService/Upscale"
TILE_PX, TILE_CALLERS = 64, 8
IMAGE_PX = 1000
FIRST = "--engine onnx"


@dataclass
class Cell:
    """All rounds of one number of callers at one server."""

    phases: list[Phase] = field(default_factory=list)
    batch_s: list[float] = field(default_factory=list)  # the engine's own time of a run

    @property
    def per_s(self) -> float:
        return spread([phase.per_s for phase in self.phases]).median

    @property
    def spread(self) -> str:
        return str(spread([phase.per_s for phase in self.phases]))

    @property
    def caller_s(self) -> float:
        return spread([phase.caller_s for phase in self.phases]).median

    @property
    def above_engine_s(self) -> float:
        """Of a call (p50), what is not the engine's; for one caller, whose batch is one image."""
        each = zip(self.phases, self.batch_s, strict=True)
        return spread([phase.latency_s(50) - batch_s for phase, batch_s in each]).median

    def latency_s(self, percent: float) -> float:
        return spread([phase.latency_s(percent) for phase in self.phases]).median


Cells = dict[tuple[int, int], Cell]
"""By server and number of callers."""


@dataclass(frozen=True)
class Table:
    """One table in Markdown, and its figures. `below`: what a reader must know of it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: Mapping[str, object]
    below: str = ""

    def markdown(self) -> str:
        """As docs/benchmarks.md has it."""
        table = markdown_table(self.columns, self.rows)
        return "\n".join([f"### {self.title}", "", *table, "", *([self.below, ""] if self.below else [])])


class Tables:
    """Everything that is measured, at servers that run."""

    def __init__(self, repository: Path, targets: Sequence[Target], rounds: int, seconds: float) -> None:
        """`targets`: the first is the one that the others are compared with."""
        self._repository = repository
        self._targets = targets
        self._rounds = rounds
        self._seconds = seconds

    def empty_calls(self) -> Table:
        """What a call costs that asks for nothing: the caller's, HTTP/2's and Python's part of every other."""
        rows = []
        figures: dict[str, object] = {}
        for callers in CALLERS:
            phases = [
                closed_loop(self._targets[0].address, LIVE, [b""], callers=callers, seconds=self._seconds / 2)
                for _ in range(self._rounds)
            ]
            cell = Cell(phases)
            latency = [milliseconds(cell.latency_s(percent)) for percent in (50, 99)]
            rows.append((str(callers), cell.spread, *latency, number(cell.caller_s * 1e6, 0)))
            figures[str(callers)] = phase_figures(phases)
        return Table("Calls of ServerLive", ("callers", "calls/s", "p50 ms", "p99 ms", "caller µs"), rows, figures)

    def load(self, model: str, rpc: str, callers: Sequence[int]) -> Table:
        """Closed loops at both servers over the limit."""
        version = newest_version(self._repository, model)
        facts = facts_of(version)
        workloads = [self._workload(target, model, rpc, facts) for target in self._targets]
        limit = Limit(Engine(version))
        cells = self._in_turns(workloads, callers, limit)
        name = "ModelInfer" if rpc == "infer" else "Generate, PNG"
        below = f"Engine limit {limit.images_per_s} images/s ({limit.best}); its batch 1 {_ms(limit.latency_s)}."
        if (0, 1) in cells:
            above = ", ".join(_ms(cells[index, 1].above_engine_s) for index in range(len(self._targets)))
            below += f" One caller's p50 above the engine's own time of the same calls: {above}."
        below += self._engines(model)
        return self._compared(f"`{model}` by {name}", cells, callers, limit, below)

    def tiles(self, model: str) -> Table:
        """Small images through ModelInfer."""
        version = newest_version(self._repository, model)
        facts = replace(facts_of(version), side_px=TILE_PX)
        workloads = [self._workload(target, model, "infer", facts) for target in self._targets]
        limit = Limit(Engine(version, facts))
        cells = self._in_turns(workloads, [TILE_CALLERS], limit)
        below = f"ONNX Runtime in process: {limit.images_per_s} images/s ({limit.best}).{self._engines(model)}"
        return self._compared(f"`{model}`, {TILE_PX}x{TILE_PX}, by ModelInfer", cells, [TILE_CALLERS], limit, below)

    def upscale(self, model: str) -> Table:
        """Whole images through Upscale, one after the other."""
        message = images_pb2.UpscaleRequest(model=model, image=picture(IMAGE_PX)).SerializeToString()
        seconds: list[list[float]] = [[] for _ in self._targets]
        for turn in range(self._rounds):
            for index in _order(len(self._targets), turn):
                answer = call_once(self._targets[index].address, UPSCALE, message)
                if answer.status != OK:
                    raise TargetError(f"{UPSCALE}: {rejection(self._targets[index], UPSCALE, message)}")
                seconds[index].append(answer.latency_s)
        medians = [spread(each).median for each in seconds]
        rows = [
            (target.frontend, number(medians[index]), number(medians[0] / medians[index]))
            for index, target in enumerate(self._targets)
        ]
        title = f"`{model}`, Upscale of {IMAGE_PX}x{IMAGE_PX} px, PNG"
        below = self._engines(model).lstrip()
        return Table(title, ("server", "s", "times the first"), rows, {"seconds": seconds}, below)

    def _engines(self, model: str) -> str:
        """What runs the model in each server: a sentence."""
        found = [engine_of(exposition.fetch(target.metrics), model) for target in self._targets]
        return f" Engines: {', '.join(found)}."

    def _workload(self, target: Target, model: str, rpc: str, facts: Facts) -> Workload:
        return prepare(target, model, rpc, model_inputs(target, model), facts)

    def _in_turns(self, workloads: Sequence[Workload], callers: Sequence[int], limit: Limit) -> Cells:
        cells: Cells = {(index, each): Cell() for index in range(len(workloads)) for each in callers}
        limit.measure(self._seconds)
        for turn in range(self._rounds):
            for each in callers:
                for index in _order(len(workloads), turn):
                    workload, cell = workloads[index], cells[index, each]
                    before = workload.target.counts(workload.model)
                    cell.phases.append(workload.closed_loop(each, self._seconds))
                    cell.batch_s.append(workload.target.counts(workload.model).batch_s_since(before))
                limit.measure(self._seconds / 2)
        return cells

    def _compared(self, title: str, cells: Cells, callers: Sequence[int], limit: Limit, below: str) -> Table:
        most = limit.images_per_s.median
        rows = []
        for each in callers:
            for index, target in enumerate(self._targets):
                cell = cells[index, each]
                latency = f"{milliseconds(cell.latency_s(50))} / {milliseconds(cell.latency_s(99))}"
                errors = sum(len(phase.answers) - len(phase.in_time) for phase in cell.phases)
                figures_of = (number(cell.per_s / most), number(cell.caller_s * 1e6, 0), str(errors))
                rows.append((str(each), target.frontend, cell.spread, latency, *figures_of))
        columns = ("callers", "server", "images/s", "p50 / p99 ms", "served / limit", "caller µs", "errors")
        figures: dict[str, object] = {"limit": limit.as_json()}
        for (index, each), cell in cells.items():
            figures[f"{self._targets[index].frontend}, {each} callers"] = {
                **phase_figures(cell.phases), "engine_s": cell.batch_s
            }  # fmt: skip
        return Table(title, columns, rows, figures, below)


def _order(count: int, turn: int) -> Iterator[int]:
    """Everyone once, another one first in each turn."""
    return ((index + turn) % count for index in range(count))


def phase_figures(phases: Sequence[Phase]) -> dict[str, object]:
    """Of each round, for JSON."""
    return {
        "per_s": [phase.per_s for phase in phases],
        "p50_s": [phase.latency_s(50) for phase in phases],
        "p99_s": [phase.latency_s(99) for phase in phases],
        "caller_s": [phase.caller_s for phase in phases],
    }


def _ms(seconds: float) -> str:
    return f"{milliseconds(seconds)} ms"


def engine_of(page: str, model: str) -> str:
    """The engine and precision that a server's /metrics page has for a model."""
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == "ganserve_model_info" and sample.labels["model"] == model:
                return f"{sample.labels['engine']} {sample.labels['precision']}"
    return "unknown"


def picture(side_px: int) -> bytes:
    """A JPEG with shapes and texture of all sizes, always the same: what a photograph is to an encoder."""
    random = np.random.RandomState(0)
    canvas = np.zeros((side_px, side_px, 3), np.float32)
    for octave in range(2, int(math.log2(side_px))):
        noise = Image.fromarray(random.randint(0, 256, (2**octave, 2**octave, 3)).astype(np.uint8))
        canvas += np.asarray(noise.resize((side_px, side_px), Image.Resampling.BICUBIC), np.float32) / 2**octave
    canvas *= 255.0 / canvas.max()
    data = io.BytesIO()
    Image.fromarray(canvas.astype(np.uint8)).save(data, "JPEG", quality=92)
    return data.getvalue()


@contextmanager
def _servers(repository: Path, lines: Sequence[str]) -> Iterator[list[Target]]:
    """A server for each line of arguments; its name in tables is what these say of its engine. Engines are chosen
    anew: a choice that was kept may be of a busy moment."""
    with ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory())
        yield [
            replace(
                stack.enter_context(started(repository, f"{line} --queue-target-s 0 --engine-cache {cache}")),
                frontend=_name(line),
            )
            for line in lines
        ]


def _name(line: str) -> str:
    words = [word for word in line.split() if not word.startswith("--")]
    return " ".join(words) or "default"


def run(arguments: argparse.Namespace) -> dict[str, object]:
    """Measures everything, prints the tables as they come, and returns the figures."""
    began_s = time.monotonic()
    tables: list[Table] = []
    for name in _models(arguments):
        newest_version(arguments.repository, name)  # before servers wait for it
    with _servers(arguments.repository, [FIRST, arguments.other]) as targets:
        measuring = Tables(arguments.repository, targets, arguments.rounds, arguments.seconds)
        parts: list[Callable[[], Table]] = [
            lambda: measuring.load(arguments.generator, "infer", CALLERS),
            measuring.empty_calls,
            lambda: measuring.load(arguments.generator, "generate", (1, 16, 64)),
        ]
        if arguments.upscaler:
            parts += [lambda: measuring.tiles(arguments.upscaler), lambda: measuring.upscale(arguments.upscaler)]
        for target, model in ((each, name) for each in targets for name in _models(arguments)):
            model_inputs(target, model)  # waits until it is ready
        for part in parts:
            tables.append(part())
            print(tables[-1].markdown(), flush=True)
    machine = facts()
    results: dict[str, Any] = {
        "seconds": time.monotonic() - began_s, "tables": {table.title: dict(table.figures) for table in tables}
    }  # fmt: skip
    if arguments.out is not None:
        stem = f"cpu-{machine['cores']}core-{machine['date']}-tables"
        head = f"{machine['cores']} cores of {machine['processor']}, {machine['date']}, versions {machine['versions']}."
        text = "\n".join([head, "", *(table.markdown() for table in tables)])
        (arguments.out / f"{stem}.md").write_text(text)
        write_json(arguments.out / f"{stem}.json", results)
    return results


def _models(arguments: argparse.Namespace) -> list[str]:
    return [name for name in (arguments.generator, arguments.upscaler) if name]
