"""The text format's parts, and the host's figures."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse

from server.observability.host import Host
from server.observability.metrics import Metrics
from server.observability.prometheus_text import Histogram, label_text, number


@given(st.lists(st.floats(0, 100)))
def test_a_histogram_counts_each_value_once(values: list[float]) -> None:
    bounds = (0.5, 1.0, 10.0)
    histogram = Histogram(bounds)
    for seen in values:
        histogram.observe(seen)
    counts = [int(line.rpartition(" ")[2]) for line in list(histogram.lines("h", ""))[:4]]
    assert counts == [*(sum(v <= bound for v in values) for bound in bounds), len(values)]


@given(st.one_of(st.integers(0, 10**30), st.floats(0, 1e30)))
def test_numbers_keep_their_value_to_the_nanosecond_without_an_exponent(given_number: float) -> None:
    text = number(given_number)
    assert re.fullmatch(r"\d+(\.\d+)?", text)
    assert float(text) == pytest.approx(given_number, abs=1e-9)


def test_label_values_are_escaped() -> None:
    assert label_text({"model": 'a"b\\c\nd'}) == r'model="a\"b\\c\nd"'


def test_the_host_is_read_from_proc(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    (tmp_path / "meminfo").write_text("MemTotal:  1000 kB\nMemFree:  10 kB\nMemAvailable:  400 kB\n")
    host = Host(tmp_path)
    (tmp_path / "stat").write_text("cpu  150 0 125 725 100 0 0 0 60 0\n")
    assert host.cpu_utilization() == 0.75
    assert host.cpu_utilization() == 0.0
    assert host.memory_bytes() == (1_024_000, 614_400)


def test_a_host_without_proc_reads_as_zero(tmp_path: Path) -> None:
    host = Host(tmp_path / "none")
    assert (host.cpu_utilization(), host.memory_bytes()) == (0.0, (0, 0))


def test_as_openmetrics_calls_have_their_traces_and_tritons_counters_their_names() -> None:
    metrics = Metrics()
    metrics.model("faces", 1)
    for seconds, trace_id in ((0.003, "a" * 32), (0.7, ""), (500.0, "b" * 32)):
        metrics.rpc_started("Generate")
        metrics.rpc_finished("Generate", "faces", "OK", seconds, trace_id)
    page = metrics.render_openmetrics().decode()
    families = {family.name: family for family in parse(page)}  # type: ignore[no-untyped-call]
    assert families["ganserve_images"].type == "counter"
    assert families["nv_inference_count"].type == "unknown"
    assert [sample.name for sample in families["nv_inference_count"].samples] == ["nv_inference_count"]
    found = {
        sample.labels["le"]: (sample.exemplar.labels["trace_id"][0], sample.exemplar.value)
        for sample in families["ganserve_request_duration_seconds"].samples
        if sample.exemplar is not None
    }
    assert found == {"0.005": ("a", 0.003), "+Inf": ("b", 500.0)}
    assert "trace_id" not in metrics.render().decode()
