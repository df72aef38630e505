"""The `nv_*` series: Triton's names and types, so that its dashboards, autoscalers and perf_analyzer work unchanged."""

from collections.abc import Callable, Iterator, Mapping

from server.observability.host import Host
from server.observability.model_statistics import FAIL_REASONS, ModelStatistics
from server.observability.nvml import Gpus
from server.observability.prometheus_text import Histogram, family_lines, header, label_text

FIRST_RESPONSE = "nv_inference_first_response_histogram_ms"

# name, type, help, how to read it
_TRITON: tuple[tuple[str, str, str, Callable[[ModelStatistics], float]], ...] = (
    ("nv_inference_request_success", "counter", "Requests answered", lambda m: m.success_count),
    ("nv_inference_count", "counter", "Items computed for requests answered", lambda m: m.inference_count),
    ("nv_inference_exec_count", "counter", "Runs of the engine", lambda m: m.execution_count),
    ("nv_inference_request_duration_us", "counter", "Time of requests answered", lambda m: _us(m.success_s)),
    ("nv_inference_queue_duration_us", "counter", "Time in the queue", lambda m: _us(m.queue_s)),
    ("nv_inference_compute_input_duration_us", "counter", "Time to join inputs", lambda m: _us(m.input_s)),
    ("nv_inference_compute_infer_duration_us", "counter", "Time in the engine", lambda m: _us(m.infer_s)),
    ("nv_inference_compute_output_duration_us", "counter", "Time to split outputs", lambda m: _us(m.output_s)),
    ("nv_cache_num_hits_per_model", "counter", "Requests answered from the response cache", lambda m: m.cache_hits),
    ("nv_cache_num_misses_per_model", "counter", "Requests not found in it", lambda m: m.cache_misses),
    ("nv_cache_hit_duration_per_model", "counter", "Time of requests answered from it", lambda m: _us(m.cache_hit_s)),
    ("nv_cache_miss_duration_per_model", "counter", "Time to look up others", lambda m: _us(m.cache_miss_s)),
    ("nv_inference_pending_request_count", "gauge", "Requests that wait for the engine", lambda m: m.pending_count),
)


class TritonSeries:
    """Those of one server. Loop thread only."""

    def __init__(self, gpus: Gpus | None) -> None:
        self._gpus = gpus
        self._host = Host()
        self._tags: dict[tuple[str, int], Mapping[str, str]] = {}
        self._responses_ms: dict[tuple[str, int], Histogram] = {}

    def configure(
        self, statistics: ModelStatistics, tags: Mapping[str, str], buckets_ms: tuple[float, ...] | None
    ) -> None:
        """What a model's config says: labels of its series, and bounds of FIRST_RESPONSE, None for none."""
        key = (statistics.name, statistics.version)
        known = self._responses_ms.pop(key, None)
        self._tags[key] = tags
        if buckets_ms is not None:
            is_same = known is not None and known.bounds == buckets_ms
            self._responses_ms[key] = known if known is not None and is_same else Histogram(buckets_ms)
        found = self._responses_ms.get(key)
        statistics.observe_response_ms = None if found is None else found.observe

    def forget(self, name: str, version: int) -> None:
        """The version was unloaded."""
        self._tags.pop((name, version), None)
        self._responses_ms.pop((name, version), None)

    def lines(
        self, models: Mapping[tuple[str, int], ModelStatistics], load_s: Mapping[tuple[str, int], float]
    ) -> Iterator[str]:
        """Of the models that are loaded, and how long each took to load; of the machine and its GPUs."""
        labelled = [(self._labels(key), statistics) for key, statistics in models.items()]
        for name, kind, text, read in _TRITON:
            yield from family_lines(kind, name, text, [(labels, read(statistics)) for labels, statistics in labelled])
        failures = (
            (f'{labels},reason="{reason}"', statistics.failures[reason])
            for labels, statistics in labelled
            for reason in FAIL_REASONS
        )
        yield from family_lines("counter", "nv_inference_request_failure", "Requests without an answer", failures)
        if self._responses_ms:
            yield from header("histogram", FIRST_RESPONSE, "Time of requests answered")
        for key, histogram in self._responses_ms.items():
            yield from histogram.lines(FIRST_RESPONSE, self._labels(key))
        loads = [(self._labels(key), round(seconds, 6)) for key, seconds in load_s.items()]
        yield from family_lines("gauge", "nv_model_load_duration_secs", "Read, open and warm", loads)
        yield from self._machine_lines()

    def _machine_lines(self) -> Iterator[str]:
        total, used = self._host.memory_bytes()
        share = self._host.cpu_utilization()
        yield from family_lines("gauge", "nv_cpu_utilization", "Share of all cores, 0 to 1", [("", share)])
        yield from family_lines("gauge", "nv_cpu_memory_total_bytes", "Memory of the machine", [("", total)])
        yield from family_lines("gauge", "nv_cpu_memory_used_bytes", "Memory in use", [("", used)])
        for kind, name, text, samples in self._gpus.families() if self._gpus is not None else ():
            by_gpu = [(label_text({"gpu_uuid": uuid}), value) for uuid, value in samples]
            yield from family_lines(kind, name, text, by_gpu)

    def _labels(self, key: tuple[str, int]) -> str:
        labels = version_labels(key)
        tags = self._tags.get(key)
        return f"{labels},{label_text(dict(tags))}" if tags else labels


def version_labels(key: tuple[str, int]) -> str:
    """The labels of a model's version."""
    return label_text({"model": key[0], "version": str(key[1])})


def _us(seconds: float) -> int:
    return int(seconds * 1e6)
