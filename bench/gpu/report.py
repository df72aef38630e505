"""What `python -m bench gpu` found: raw rows as JSON, tables as Markdown beside it, rewritten after every section."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.files import write_whole
from bench.gpu.figures import Choice, Finding, Mixed, Parity, Rate, Rows, Served
from bench.gpu.summary import without_folders
from bench.gpu.tables import (
    OUT_OF_MEMORY,
    choices_part,
    goals_part,
    parity_part,
    rate_parts,
    rows_part,
    served_part,
    table,
)
from bench.report import write_json

CPU_NOTE = "Measured on a CPU, to prove the script: no figure here is a GPU's."
OURS = ("bench", "export", "models", "server")  # whose errors say all in their text
# How torch, CUDA and ONNX Runtime say it.
MEMORY_WORDS = ("out of memory", "cudaerrormemoryallocation", "failed to allocate", "available memory of")


@dataclass
class Results:
    """All rows so far. `skipped` has (part, reason) for everything that was asked for and could not be measured."""

    path: Path
    device: dict[str, object]
    settings: dict[str, object]
    parity: list[Parity] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)
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
                "rows": [asdict(row) for row in self.rows],
                "rates": [{**asdict(row), "device_share": row.device_share} for row in self.rates],
                "served": [{**asdict(row), "limited_by": row.limited_by} for row in self.served],
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
    parts += parity_part(results.parity)
    parts += rows_part(results.rows)
    parts += rate_parts(results.rates, "With transfers: host memory to host memory, images/s", lambda row: row.hosted)
    parts += rate_parts(results.rates, "Without transfers: data on the device, images/s", lambda row: row.placed)
    parts += rate_parts(
        results.rates, "Device share: time without transfers over time with them", lambda row: row.device_share, 2
    )
    parts += served_part(results.served, results.rates)
    parts += goals_part(results.served, results.rates)
    parts += choices_part(results.choices, results.mixed)
    if results.findings:
        rows = [[row.part, "yes" if row.right else "NO", row.seen] for row in results.findings]
        parts += ["## What the server does on it", table(["looked at", "as it must be", "seen"], rows)]
    if results.skipped:
        parts.append("## Not measured")
        parts.append("\n".join(f"- {part}: {reason}" for part, reason in results.skipped))
    return "\n\n".join(parts) + "\n"
