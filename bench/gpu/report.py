"""What `python -m bench gpu` found: raw rows as JSON, tables as Markdown beside it, rewritten after every section."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.files import write_whole
from bench.gpu.summary import without_folders
from bench.report import number, write_json

CPU_NOTE = "Measured on a CPU, to prove the script: no figure here is a GPU's."
OUT_OF_MEMORY = "out of memory"
OURS = ("bench", "export", "models", "server")  # whose errors say all in their text
SERVED_ROWS = 64  # a server's largest batch on a GPU
SHARE_NOTE = (
    "Share of the engine: over the best that the engine alone does with transfers, whatever its batch up to "
    f"{SERVED_ROWS}. The caller is one Python thread on the same machine."
)
# How torch, CUDA and ONNX Runtime say it.
MEMORY_WORDS = ("out of memory", "cudaerrormemoryallocation", "failed to allocate", "available memory of")


@dataclass(frozen=True)
class Subject:
    """A model at one size: `side_px` of the square pictures that go in, 0 for a model that draws."""

    model: str
    side_px: int = 0

    def __str__(self) -> str:
        return f"{self.model} {self.side_px}x{self.side_px}" if self.side_px else self.model


@dataclass(frozen=True)
class Parity:
    """How far an engine's pixels lie from the reference's, in uint8 levels over all of `rows` pictures."""

    subject: str
    engine: str
    precision: str
    reference: str
    rows: int
    largest_levels: float
    mean_levels: float
    psnr_db: float


@dataclass(frozen=True)
class Rate:
    """Images per second of one engine at one batch size; a figure that is None has its reason in `missing`.

    `hosted`: from arrays in host memory to arrays in host memory. `placed`: inputs and outputs stay on the device.
    """

    subject: str
    engine: str
    precision: str
    batch: int
    hosted: float | None = None
    placed: float | None = None
    missing: str = ""

    @property
    def device_share(self) -> float | None:
        """Time of a run on the device over time of the same run with its transfers."""
        return self.hosted / self.placed if self.hosted and self.placed else None


@dataclass(frozen=True)
class Served:
    """One closed-loop phase through gRPC; `gpu_busy` is the mean of NVML's utilization, 0..1; cores are processor
    seconds in a second, of the server and of the caller, who is one thread."""

    subject: str
    precision: str
    platform: str
    callers: int
    images_per_call: int
    images_per_s: float
    p50_s: float
    p99_s: float
    mean_batch: float
    errors: int
    gpu_busy: float | None
    server_cores: float | None = None
    caller_cores: float | None = None


@dataclass(frozen=True)
class Choice:
    """ONNX Runtime with one option changed: milliseconds of a run by batch with its data on the device, seconds until
    it ran first at each batch, and how far a row's pixels in the largest batch lie from those of the same row alone."""

    subject: str
    precision: str
    change: str
    milliseconds: Mapping[int, float] = field(default_factory=dict)
    first_s: Mapping[int, float] = field(default_factory=dict)
    row_levels: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Mixed:
    """Batches that follow each other: milliseconds of a run from host to host, and the GPU's memory that was taken."""

    subject: str
    precision: str
    sessions: str
    milliseconds: float
    memory_bytes: int


@dataclass(frozen=True)
class Finding:
    """One thing of the server that was looked at, whether it was as it must be, and what was seen."""

    part: str
    right: bool
    seen: str


@dataclass
class Results:
    """All rows so far. `skipped` has (part, reason) for everything that was asked for and could not be measured."""

    path: Path
    device: dict[str, object]
    settings: dict[str, object]
    parity: list[Parity] = field(default_factory=list)
    rates: list[Rate] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    mixed: list[Mixed] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    finished: bool = False

    @property
    def on_cpu(self) -> bool:
        return self.device["kind"] == "cpu"

    def skip(self, part: str, reason: str) -> None:
        """Notes and prints that a part has no figures, and why."""
        reason = without_folders(reason)
        self.skipped.append((part, reason))
        print(f"skipped: {part}: {reason}", flush=True)

    def write(self) -> None:
        """Both files, as far as there is something to say."""
        write_json(
            self.path,
            {
                "note": CPU_NOTE if self.on_cpu else "",
                "finished": self.finished,
                "device": self.device,
                "settings": self.settings,
                "parity": [_finite(asdict(row)) for row in self.parity],
                "rates": [{**asdict(row), "device_share": row.device_share} for row in self.rates],
                "served": [asdict(row) for row in self.served],
                "choices": [asdict(row) for row in self.choices],
                "mixed": [asdict(row) for row in self.mixed],
                "findings": [asdict(row) for row in self.findings],
                "skipped": [{"part": part, "reason": reason} for part, reason in self.skipped],
            },
        )
        write_whole(self.path.with_suffix(".md"), markdown(self))


def _finite(row: dict[str, object]) -> dict[str, object]:
    """JSON has no infinity: the PSNR of equal pictures is written as text."""
    return {key: "inf" if value == math.inf else value for key, value in row.items()}


class Unavailable(Exception):
    """Something that cannot be had on this machine; the text is the reason in one line."""


def reason_of(error: Exception) -> str:
    """Why something has no figure."""
    return without_folders(str(error) if isinstance(error, Unavailable) else first_line(error))


def first_line(error: BaseException) -> str:
    """What went wrong, in one line; out of memory by one name, whichever library ran out."""
    text = str(error).strip()
    if isinstance(error, MemoryError) or any(words in text.lower() for words in MEMORY_WORDS):
        return OUT_OF_MEMORY
    if not text:
        return type(error).__name__
    ours = type(error).__module__.partition(".")[0] in OURS
    return text.splitlines()[0] if ours else f"{type(error).__name__}: {text.splitlines()[0]}"


def markdown(results: Results) -> str:
    """The tables."""
    facts = ", ".join(f"{key} {value}" for key, value in results.device.items() if value is not None)
    parts = [f"# {results.device['name']}", facts]
    if results.on_cpu:
        parts.append(f"**{CPU_NOTE}**")
    if not results.finished:
        parts.append("**The run was not finished: what follows is what it had measured.**")
    parts += _parity_part(results.parity)
    parts += _rate_parts(results.rates, "With transfers: host memory to host memory, images/s", lambda row: row.hosted)
    parts += _rate_parts(results.rates, "Without transfers: data on the device, images/s", lambda row: row.placed)
    parts += _rate_parts(
        results.rates, "Device share: time without transfers over time with them", lambda row: row.device_share, 2
    )
    parts += _served_part(results.served, results.rates)
    parts += _choices_part(results.choices, results.mixed)
    if results.findings:
        rows = [[row.part, "yes" if row.right else "NO", row.seen] for row in results.findings]
        parts += ["## What the server does on it", _table(["looked at", "as it must be", "seen"], rows)]
    if results.skipped:
        parts.append("## Not measured")
        parts.append("\n".join(f"- {part}: {reason}" for part, reason in results.skipped))
    return "\n\n".join(parts) + "\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _parity_part(rows: Sequence[Parity]) -> list[str]:
    if not rows:
        return []
    columns = ("subject", "engine", "precision", "pictures", "largest, levels", "mean, levels", "PSNR dB", "reference")
    cells = [
        (
            row.subject, row.engine, row.precision, str(row.rows), number(row.largest_levels, 0),
            number(row.mean_levels, 4), number(row.psnr_db, 1), row.reference,
        )
        for row in rows
    ]  # fmt: skip
    return ["## Parity in uint8 levels", _table(columns, cells)]


def _rate_parts(
    rates: Sequence[Rate], title: str, figure: Callable[[Rate], float | None], digits: int = 0
) -> list[str]:
    """A table for each subject, batch sizes down and engines across; nothing where no row has the figure."""
    if not any(figure(row) is not None for row in rates):
        return []
    parts = [f"## {title}"]
    for subject in dict.fromkeys(row.subject for row in rates):
        found = {(row.batch, f"{row.engine} {row.precision}"): row for row in rates if row.subject == subject}
        batches = sorted({batch for batch, _ in found})
        engines = list(dict.fromkeys(engine for _, engine in found))
        cells = [
            [str(batch), *(_cell(found.get((batch, engine)), figure, digits) for engine in engines)]
            for batch in batches
        ]
        parts += [f"### {subject}", _table(["batch", *engines], cells)]
    return parts


def _cell(row: Rate | None, figure: Callable[[Rate], float | None], digits: int) -> str:
    if row is None:
        return "-"
    value = figure(row)
    if value is not None:
        return number(value, digits if value >= 10 or digits else 1)
    return OUT_OF_MEMORY if row.missing == OUT_OF_MEMORY else "-"


def _served_part(rows: Sequence[Served], rates: Sequence[Rate]) -> list[str]:
    if not rows:
        return []
    columns = (
        "subject", "precision", "platform", "callers", "images/call", "images/s", "share of the engine", "p50 ms",
        "p99 ms", "mean batch", "errors", "GPU busy", "server cores", "caller cores",
    )  # fmt: skip
    cells = [
        (
            row.subject, row.precision, row.platform, str(row.callers), str(row.images_per_call),
            number(row.images_per_s, 0), _or_dash(engine_share(row, rates)), number(row.p50_s * 1e3),
            number(row.p99_s * 1e3), number(row.mean_batch), str(row.errors), _or_dash(row.gpu_busy),
            _or_dash(row.server_cores), _or_dash(row.caller_cores),
        )
        for row in rows
    ]  # fmt: skip
    return ["## Through the gRPC server, ModelInfer", SHARE_NOTE, _table(columns, cells)]


def engine_share(row: Served, rates: Sequence[Rate]) -> float | None:
    """Served images/s over the best that the engine alone did from host memory to host memory, in batches as large as
    the server's at most; None where that was not measured."""
    engine = "TensorRT" if "tensorrt" in row.platform else "ONNX Runtime"
    alone = [
        rate.hosted
        for rate in rates
        if (rate.subject, rate.engine, rate.precision) == (row.subject, engine, row.precision)
        and rate.batch <= SERVED_ROWS
        and rate.hosted
    ]
    return row.images_per_s / max(alone) if alone else None


def _or_dash(value: float | None) -> str:
    return "-" if value is None else number(value)


def _choices_part(choices: Sequence[Choice], mixed: Sequence[Mixed]) -> list[str]:
    parts = []
    if choices:
        batches = sorted({batch for row in choices for batch in row.milliseconds})
        columns = [
            "subject",
            "precision",
            "option",
            *(f"ms, batch {batch}" for batch in batches),
            "first run s",
            "levels",
        ]
        rows = [
            [
                row.subject, row.precision, row.change,
                *(number(row.milliseconds[batch], 3) if batch in row.milliseconds else "-" for batch in batches),
                number(max(row.first_s.values())) if row.first_s else "-",
                row.reason or _or_dash(row.row_levels),
            ]
            for row in choices
        ]  # fmt: skip
        parts += ["## ONNX Runtime's options, data on the device", _table(columns, rows)]
    if mixed:
        rows = [
            [row.subject, row.precision, row.sessions, number(row.milliseconds, 3), str(row.memory_bytes >> 20)]
            for row in mixed
        ]
        title = "## Sessions, over batches that follow each other"
        parts += [title, _table(["subject", "precision", "sessions", "ms a run", "GPU MiB"], rows)]
    return parts
