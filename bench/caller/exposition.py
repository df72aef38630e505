"""Prometheus' text format, as much of it as counters need."""

import re
import urllib.request
from typing import NamedTuple

_LINE = re.compile(r"(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+-?\d+)?\s*")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")


class Sample(NamedTuple):
    """One line of the page."""

    name: str
    labels: dict[str, str]
    value: float


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: "\n" if match[1] == "n" else match[1], text)


def parse(page: str) -> list[Sample]:
    """All samples of a page in its order; comments and lines that are none are left out."""
    samples = []
    for line in page.splitlines():
        if line.startswith("#") or (match := _LINE.fullmatch(line)) is None:
            continue
        labels = {name: _unescape(value) for name, value in _LABEL.findall(match["labels"] or "")}
        samples.append(Sample(match["name"], labels, float(match["value"])))
    return samples


class Counts(NamedTuple):
    """What a model has done since its server started: rows inferred and batches run."""

    inferences: float
    executions: float

    def mean_batch_since(self, before: "Counts") -> float:
        """Rows per batch since `before`; nan where no batch ran."""
        executions = self.executions - before.executions
        return (self.inferences - before.inferences) / executions if executions > 0 else float("nan")


def counts(page: str, model: str) -> Counts:
    """The two counters of a model, over its versions; nan where the page has none."""
    found: dict[str, list[float]] = {"nv_inference_count": [], "nv_inference_exec_count": []}
    for sample in parse(page):
        if sample.name in found and sample.labels.get("model") == model:
            found[sample.name].append(sample.value)
    totals = [sum(values) if values else float("nan") for values in found.values()]
    return Counts(*totals)


def fetch(address: str, timeout_s: float = 5.0) -> str:
    """The page at HOST:PORT/metrics, empty where nobody answers there."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=timeout_s) as reply:
            return str(reply.read().decode())
    except OSError:
        return ""
