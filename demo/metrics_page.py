"""What a server's /metrics page says: batch sizes, latency and images served."""

import itertools
import math
import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Distribution:
    """A Prometheus histogram: `counts[i]` observations up to `bounds[i]`, above the bound before."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]

    @property
    def total(self) -> float:
        """Number of observations."""
        return sum(self.counts)

    def quantile(self, share: float) -> float:
        """The value below which `share` of the observations lie, linear within its bucket; NaN without any.

        In the last, open bucket it is that bucket's lower bound, as in PromQL's histogram_quantile.
        """
        rank, lower = share * self.total, 0.0
        if self.total == 0:
            return math.nan
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count and rank <= count:
                return lower if math.isinf(bound) else lower + (bound - lower) * rank / count
            rank, lower = rank - count, bound
        return lower

    def __sub__(self, before: "Distribution") -> "Distribution":
        """The observations made since `before`, an earlier page's."""
        return Distribution(self.bounds, tuple(b - a for b, a in zip(self.counts, before.counts, strict=True)))


class Page:
    """One reading of /metrics."""

    def __init__(self, text: str) -> None:
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def total(self, name: str, **labels: str) -> float:
        """The sum over the series that carry these labels; 0 if there is none."""
        return sum(value for _, value in self._matching(name, labels))

    def distribution(self, name: str, **labels: str) -> Distribution:
        """The histograms that carry these labels, added up; empty if there is none."""
        cumulative: dict[float, float] = {}
        for found, value in self._matching(f"{name}_bucket", labels):
            bound = float(found["le"])
            cumulative[bound] = cumulative.get(bound, 0.0) + value
        bounds = sorted(cumulative)
        below = [0.0, *(cumulative[bound] for bound in bounds)]
        return Distribution(tuple(bounds), tuple(b - a for a, b in itertools.pairwise(below)))

    def _matching(self, name: str, labels: dict[str, str]) -> list[tuple[dict[str, str], float]]:
        return [
            (found, value)
            for found, value in self._samples.get(name, [])
            if all(found.get(key) == wanted for key, wanted in labels.items())
        ]


def read_metrics(port: int, host: str = "127.0.0.1") -> Page:
    """The page of the server on this machine, not through a proxy.

    Raises:
        OSError: cannot connect.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{host}:{port}/metrics", timeout=10) as reply:
        return Page(reply.read().decode())


def describe_batches(sizes: Distribution) -> str:
    """Such as `1 (20x), 2 (3x), 9-16 (5x)`: batch sizes, and how often each."""
    parts, lower = [], 0.0
    for bound, count in zip(sizes.bounds, sizes.counts, strict=True):
        if math.isinf(bound):
            size = f"over {lower:.0f}"
        else:
            size = f"{bound:.0f}" if bound == lower + 1 else f"{lower + 1:.0f}-{bound:.0f}"
        if count:
            parts.append(f"{size} ({count:.0f}x)")
        lower = bound
    return ", ".join(parts) or "none"
