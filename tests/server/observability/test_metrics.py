"""What GET /metrics and ModelStatistics say, read back by prometheus_client's own parser."""

import asyncio
import platform
import re
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.grpc import service_pb2

from server.api.kserve_statistics import write_statistics
from server.observability.metrics import Metrics
from server.observability.model_statistics import ModelStatistics

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]

TRITON = {
    "nv_inference_request_success": "counter",
    "nv_inference_request_failure": "counter",
    "nv_inference_count": "counter",
    "nv_inference_exec_count": "counter",
    "nv_inference_request_duration_us": "counter",
    "nv_inference_queue_duration_us": "counter",
    "nv_inference_compute_input_duration_us": "counter",
    "nv_inference_compute_infer_duration_us": "counter",
    "nv_inference_compute_output_duration_us": "counter",
    "nv_inference_pending_request_count": "gauge",
    "nv_cache_num_hits_per_model": "counter",
    "nv_cache_num_misses_per_model": "counter",
    "nv_cache_hit_duration_per_model": "counter",
    "nv_cache_miss_duration_per_model": "counter",
    "nv_model_load_duration_secs": "gauge",
    "nv_cpu_utilization": "gauge",
    "nv_cpu_memory_total_bytes": "gauge",
    "nv_cpu_memory_used_bytes": "gauge",
}


def read(metrics: Metrics) -> Series:
    """Name and labels -> value, as written: the parser, which must take the page too, renames Triton's counters."""
    page = metrics.render().decode()
    assert list(text_string_to_metric_families(page))
    found: Series = {}
    for line in page.splitlines():
        if not line.startswith("#"):
            name, labels, number_text = re.fullmatch(r"(\w+)(?:{(.*)})? (\S+)", line).groups("")  # type: ignore[union-attr]
            key = (name, tuple(sorted(re.findall(r'(\w+)="([^"]*)"', labels))))
            assert key not in found, f"{key} is on the page twice"
            found[key] = float(number_text)
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return read(metrics)[name, tuple(sorted(labels.items()))]


def message(statistics: ModelStatistics) -> service_pb2.ModelStatistics:
    filled = service_pb2.ModelStatistics()
    write_statistics(statistics, filled)
    return filled


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def faces(metrics: Metrics) -> ModelStatistics:
    metrics.loaded("faces", 1, 1.25)
    return metrics.model("faces", 1)


def test_triton_names_have_tritons_types(metrics: Metrics, faces: ModelStatistics) -> None:
    page = metrics.render().decode()
    types = dict(re.findall(r"^# TYPE (nv_\S+) (\S+)$", page, re.MULTILINE))
    assert types == TRITON


def test_triton_counters_carry_no_total_and_no_gpu_is_claimed(metrics: Metrics, faces: ModelStatistics) -> None:
    page = metrics.render().decode()
    assert not re.search(r"^nv_\w+_total\b(?!_bytes)", page, re.MULTILINE)
    assert "nv_gpu" not in page


def test_every_line_ends_and_none_of_tritons_is_the_first(metrics: Metrics, faces: ModelStatistics) -> None:
    page = metrics.render()
    assert page.endswith(b"\n")
    assert b"\n\n" not in page
    assert not page.startswith(b"nv_")
    for name in TRITON:
        assert f"\n{name}".encode() in page


def test_no_number_of_ours_has_an_exponent(metrics: Metrics, faces: ModelStatistics) -> None:
    faces.succeeded(10**17, 1e9, 1e-9, 1e9, 1e9, 1e12)
    faces.executed(8, 1e-7, 1e-7, 1e-7)
    metrics.served("faces", 1, 10**20)
    for line in metrics.render().decode().splitlines():
        if line.startswith(("nv_", "ganserve_")):
            assert re.fullmatch(r"\d+(\.\d+)?", line.rpartition(" ")[2]), line


def test_durations_are_whole_microseconds(metrics: Metrics, faces: ModelStatistics) -> None:
    faces.succeeded(1, 0.25, 0.0, 0.5, 0.0, 1.5)
    page = metrics.render().decode()
    assert '\nnv_inference_request_duration_us{model="faces",version="1"} 1500000\n' in page
    assert '\nnv_inference_queue_duration_us{model="faces",version="1"} 250000\n' in page


def test_one_call_of_eight_items_is_one_request_eight_inferences_one_execution(faces: ModelStatistics) -> None:
    faces.executed(8, 0.0, 0.5, 0.0)
    faces.succeeded(8, 0.0, 0.0, 0.5, 0.0, 0.5)
    filled = message(faces)
    assert (filled.inference_stats.success.count, filled.inference_count, filled.execution_count) == (1, 8, 1)


def test_two_calls_joined_are_two_requests_and_one_execution_each_with_the_whole_run(faces: ModelStatistics) -> None:
    faces.executed(2, 0.125, 0.5, 0.25)
    for _ in range(2):
        faces.succeeded(1, 0.0, 0.125, 0.5, 0.25, 1.0)
    filled = message(faces)
    assert (filled.inference_stats.success.count, filled.inference_count, filled.execution_count) == (2, 2, 1)
    assert filled.inference_stats.compute_infer.ns == 1_000_000_000
    batch = filled.batch_stats[0]
    assert (batch.batch_size, batch.compute_infer.count, batch.compute_infer.ns) == (2, 1, 500_000_000)
    assert (batch.compute_input.ns, batch.compute_output.ns) == (125_000_000, 250_000_000)


def test_the_message_has_what_perf_analyzer_reads(faces: ModelStatistics) -> None:
    before_ms = int(time.time() * 1000)
    faces.succeeded(1, 0.5, 0.25, 1.0, 0.125, 2.0)
    faces.failed("BACKEND", 0.75)
    filled = message(faces)
    assert (filled.name, filled.version) == ("faces", "1")
    assert before_ms <= filled.last_inference <= time.time() * 1000
    stats = filled.inference_stats
    for part, ns in ((stats.success, 2.0), (stats.queue, 0.5), (stats.compute_input, 0.25), (stats.fail, 0.75)):
        assert (part.count, part.ns) == (1, int(ns * 1e9))
    assert stats.compute_output.ns == 125_000_000
    assert (stats.cache_hit.count, stats.cache_miss.count) == (0, 0)


def test_failures_are_told_apart_by_reason_and_start_at_zero(metrics: Metrics, faces: ModelStatistics) -> None:
    faces.failed("REJECTED", 0.0)
    faces.failed("something else", 0.0)
    seen = {
        reason: value(metrics, "nv_inference_request_failure", model="faces", version="1", reason=reason)
        for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER")
    }
    assert seen == {"REJECTED": 1, "CANCELED": 0, "BACKEND": 0, "OTHER": 1}


def test_pending_goes_up_and_down(metrics: Metrics, faces: ModelStatistics) -> None:
    faces.pending_count = 3
    assert value(metrics, "nv_inference_pending_request_count", model="faces", version="1") == 3
    faces.pending_count = 1
    assert value(metrics, "nv_inference_pending_request_count", model="faces", version="1") == 1


def test_single_observations_land_in_our_histograms(metrics: Metrics, faces: ModelStatistics) -> None:
    faces.executed(4, 0.0, 0.002, 0.0)
    faces.succeeded(4, 0.5, 0.0, 0.002, 0.0, 0.6)
    metrics.decoded("faces", 0.003)
    metrics.encoded("faces", 0.004)
    metrics.served("faces", 4, 4 * 64 * 64)
    seen = read(metrics)
    model = ("model", "faces")
    assert seen["ganserve_queue_seconds_sum", (model,)] == 0.5
    assert seen["ganserve_compute_seconds_sum", (model,)] == 0.002
    assert seen["ganserve_decode_seconds_sum", (model,)] == 0.003
    assert seen["ganserve_encode_seconds_sum", (model,)] == 0.004
    assert seen["ganserve_batch_size_bucket", (("le", "2.0"), model)] == 0
    assert seen["ganserve_batch_size_bucket", (("le", "4.0"), model)] == 1
    assert seen["ganserve_images_total", (model,)] == 4
    assert seen["ganserve_pixels_total", (model,)] == 16384


def test_drops_are_counted_by_reason_and_start_at_zero(metrics: Metrics, faces: ModelStatistics) -> None:
    faces.dropped("deadline")
    assert value(metrics, "ganserve_drops_total", model="faces", reason="deadline") == 1
    assert value(metrics, "ganserve_drops_total", model="faces", reason="cancelled") == 0
    faces.dropped("a new word")
    assert value(metrics, "ganserve_drops_total", model="faces", reason="other") == 1


def test_items_computed_again_in_float32_are_counted_from_zero_whatever_the_models_precision(
    metrics: Metrics, faces: ModelStatistics
) -> None:
    assert value(metrics, "ganserve_precision_fallback_total", model="faces") == 0
    faces.fell_back(3)
    metrics.model("faces", 2).fell_back(1)
    assert value(metrics, "ganserve_precision_fallback_total", model="faces") == 4
    metrics.forget("faces", 1)
    metrics.forget("faces", 2)
    assert "ganserve_precision_fallback_total{" not in metrics.render().decode()


def test_a_request_is_in_flight_until_it_has_finished(metrics: Metrics, faces: ModelStatistics) -> None:
    metrics.rpc_started("Generate")
    assert value(metrics, "ganserve_requests_in_flight", rpc="Generate") == 1
    metrics.rpc_finished("Generate", "faces", "OK", 0.5)
    assert value(metrics, "ganserve_requests_in_flight", rpc="Generate") == 0
    name = "ganserve_request_duration_seconds_count"
    assert value(metrics, name, rpc="Generate", model="faces", code="OK") == 1


def test_names_that_callers_invent_make_no_series(metrics: Metrics, faces: ModelStatistics) -> None:
    for invented in range(100):
        metrics.rpc_started("ModelInfer")
        metrics.rpc_finished("ModelInfer", f"model {invented}", "NOT_FOUND", 0.001)
        metrics.decoded(f"model {invented}", 1.0)
        metrics.encoded(f"model {invented}", 1.0)
        metrics.served(f"model {invented}", 1, 1)
    assert "model 7" not in metrics.render().decode()
    name = "ganserve_request_duration_seconds_count"
    assert value(metrics, name, rpc="ModelInfer", model="", code="NOT_FOUND") == 100


def test_a_forgotten_version_leaves_the_page_and_the_other_stays(metrics: Metrics, faces: ModelStatistics) -> None:
    metrics.model("faces", 2)
    metrics.watch_queue("faces", lambda: 5, 1)
    metrics.watch_queue("faces", lambda: 7, 2)
    assert value(metrics, "ganserve_queue_depth", model="faces") == 12
    metrics.forget("faces", 1)
    page = metrics.render().decode()
    assert 'version="1"' not in page
    assert 'version="2"' in page
    assert value(metrics, "ganserve_queue_depth", model="faces") == 7


def test_with_its_last_version_all_of_a_model_leaves_the_page(metrics: Metrics, faces: ModelStatistics) -> None:
    metrics.watch_queue("faces", lambda: 5, 1)
    metrics.rpc_started("Generate")
    metrics.rpc_finished("Generate", "faces", "OK", 0.5)
    metrics.forget("faces", 1)
    metrics.forget("faces", 1)
    assert "faces" not in metrics.render().decode()
    faces.succeeded(1, 0.0, 0.0, 0.0, 0.0, 0.0)
    faces.dropped("cancelled")
    metrics.rpc_started("Generate")
    metrics.rpc_finished("Generate", "faces", "OK", 0.5)
    assert "faces" not in metrics.render().decode()


def test_a_model_that_comes_back_starts_from_zero(metrics: Metrics, faces: ModelStatistics) -> None:
    faces.succeeded(1, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert metrics.model("faces", 1) is faces
    metrics.forget("faces", 1)
    assert metrics.model("faces", 1).success_count == 0


def test_load_time_is_a_gauge_under_both_names(metrics: Metrics, faces: ModelStatistics) -> None:
    assert value(metrics, "nv_model_load_duration_secs", model="faces", version="1") == 1.25
    assert value(metrics, "ganserve_model_load_seconds", model="faces", version="1") == 1.25


async def test_the_loops_lag_is_measured_until_cancelled(metrics: Metrics) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(metrics.watch_loop(interval_s=0.001), timeout=0.1)
    assert value(metrics, "ganserve_event_loop_lag_seconds_count") >= 1


def test_ten_busy_models_are_rendered_without_holding_up_the_loop(metrics: Metrics) -> None:
    for model in range(10):
        metrics.model(f"model-{model}", 1)
        for rpc in ("Generate", "GenerateStream", "Upscale", "ModelInfer"):
            for code in ("OK", "CANCELLED", "RESOURCE_EXHAUSTED"):
                metrics.rpc_started(rpc)
                metrics.rpc_finished(rpc, f"model-{model}", code, 0.01)
    spent_s = []
    for _ in range(10):
        started = time.process_time()
        metrics.render()
        spent_s.append(time.process_time() - started)
    assert min(spent_s) < 0.02  # 2 ms on a quiet machine; prometheus_client's own renderer takes 35


def test_what_runs_a_model_is_on_the_page_until_it_is_unloaded(metrics: Metrics) -> None:
    metrics.model("faces", 1)
    metrics.runs_in("faces", 1, {("openvino", "bf16"), ("tensorrt", "fp16")})
    metrics.runs_in("faces", 2, {("onnx", "fp32")})
    labels = {"model": "faces", "version": "1", "engine": "openvino", "precision": "bf16"}
    assert value(metrics, "ganserve_model_info", **labels) == 1
    metrics.runs_in("faces", 1, {("onnx", "fp32")})  # read again
    found = [dict(keys) for name, keys in read(metrics) if name == "ganserve_model_info"]
    assert [(each["version"], each["engine"]) for each in found] == [("1", "onnx"), ("2", "onnx")]
    metrics.forget("faces", 1)
    assert [keys for name, keys in read(metrics) if name == "ganserve_model_info"] == [
        (("engine", "onnx"), ("model", "faces"), ("precision", "fp32"), ("version", "2"))
    ]


def test_the_server_says_what_it_is_and_what_goes_through_its_ports(metrics: Metrics) -> None:
    metrics.server.built("1.2.3")
    received, sent = metrics.server.bytes_by("grpc")
    received.add(100)
    sent.add(5)
    metrics.server.watch_connections(lambda: {"grpc": 3, "http": 1})
    metrics.server.watch_kept(lambda: 4096)
    (built,) = [dict(keys) for name, keys in read(metrics) if name == "ganserve_build_info"]
    assert built == {"version": "1.2.3", "python": platform.python_version()}
    assert value(metrics, "ganserve_received_bytes_total", protocol="grpc") == 100
    assert value(metrics, "ganserve_sent_bytes_total", protocol="grpc") == 5
    assert value(metrics, "ganserve_connections", port="grpc") == 3
    assert value(metrics, "ganserve_kept_bytes") == 4096
    assert not [name for name, _ in read(metrics) if name == "ganserve_certificate_expiry_timestamp_seconds"]
    metrics.server.watch_certificate(lambda: 1_800_000_000.0)
    assert value(metrics, "ganserve_certificate_expiry_timestamp_seconds") == 1.8e9


def test_a_model_that_serves_otherwise_than_requested_is_degraded(metrics: Metrics, faces: ModelStatistics) -> None:
    metrics.runs_in("faces", 1, {("onnx", "fp16")}, "model.plan is not used: built for another GPU")
    assert value(metrics, "ganserve_model_degraded", model="faces", version="1") == 1
    metrics.runs_in("faces", 1, {("tensorrt", "fp16")})
    assert value(metrics, "ganserve_model_degraded", model="faces", version="1") == 0
    metrics.forget("faces", 1)
    assert not [name for name, _ in read(metrics) if name == "ganserve_model_degraded"]


def test_tiles_are_counted(metrics: Metrics, faces: ModelStatistics) -> None:
    metrics.cut("faces", 6)
    metrics.cut("faces", 1)
    metrics.cut("gone", 9)
    assert value(metrics, "ganserve_tiles_total", model="faces") == 7
