"""What a model has done, from a server's /metrics page."""

import math
import urllib.request
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families


class Counts(NamedTuple):
    """What a model has done since its server started: items inferred, batches run, and time of those batches.

    The time is in ganserve's histogram only: Triton's counter has a batch's time once for each of its requests.
    """

    inferences: float
    executions: float
    compute_s: float = math.nan

    def mean_batch_since(self, before: "Counts") -> float:
        """Items per batch since `before`; nan if no batch ran."""
        executions = self.executions - before.executions
        return (self.inferences - before.inferences) / executions if executions > 0 else math.nan

    def batch_s_since(self, before: "Counts") -> float:
        """Seconds per batch since `before`; nan if no batch ran."""
        executions = self.executions - before.executions
        return (self.compute_s - before.compute_s) / executions if executions > 0 else math.nan


def counts(page: str, model: str) -> Counts:
    """The counters of a model, over its versions; nan for those that the page does not have."""
    names = ("nv_inference_count", "nv_inference_exec_count", "ganserve_compute_seconds_sum")
    found: dict[str, list[float]] = {name: [] for name in names}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            name = sample.name.removesuffix("_total")  # the parser adds it to counters, Triton's names have none
            if name in found and sample.labels.get("model") == model:
                found[name].append(sample.value)
    return Counts(*(sum(values) if values else math.nan for values in found.values()))


def fetch(address: str, timeout_s: float = 5.0) -> str:
    """The page at HOST:PORT/metrics, empty if nothing answers there."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=timeout_s) as reply:
            return str(reply.read().decode())
    except OSError:
        return ""
