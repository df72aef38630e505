"""The parts of the benchmark that are arithmetic."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from artifact.spec import TensorSpec
from bench.caller.arrivals import schedule
from bench.caller.exposition import Counts, counts
from bench.caller.hpack import HeaderError, Trailers, header_block, read_trailers
from bench.caller.loops import Flood, Phase
from bench.caller.payloads import Facts, RepositoryError, facts_of, newest_version, random_inputs
from bench.caller.server import INFER, Target
from bench.caller.wire import DEADLINE_EXCEEDED, OK, RESOURCE_EXHAUSTED, Answer
from bench.cpu.greedy import Greed
from bench.cpu.load import Workload
from bench.cpu.overload import Capacity, Case
from bench.percentiles import percentile, spread
from bench.report import write_json
from tests.server.graphs import write_translator

PAGE = """# HELP nv_inference_count Number of inferences performed
# TYPE nv_inference_count counter
nv_inference_count{model="faces",version="1"} 120
nv_inference_count{model="faces",version="2"} 8.0
nv_inference_count{model="digits",version="1"} 7
nv_inference_exec_count{model="faces",version="1"} 10
nv_inference_exec_count{model="faces",version="2"} 6 1700000000000
odd{text="a \\"quoted\\", comma",other="line\\nbreak"} 1.5e-3
# TYPE ganserve_compute_seconds histogram
ganserve_compute_seconds_bucket{model="faces",le="+Inf"} 16
ganserve_compute_seconds_sum{model="faces"} 0.75
ganserve_compute_seconds_count{model="faces"} 16
bare +Inf
"""


def test_a_percentile_is_the_nearest_rank() -> None:
    values = [15.0, 20.0, 35.0, 40.0, 50.0]
    assert [percentile(values, p) for p in (5, 30, 40, 50, 100)] == [15, 20, 20, 35, 50]


def test_a_percentile_does_not_need_sorted_values_and_leaves_them_alone() -> None:
    values = [3.0, 1.0, 2.0]
    assert percentile(values, 50) == 2
    assert values == [3, 1, 2]


def test_without_values_there_is_no_percentile_and_no_spread() -> None:
    assert math.isnan(percentile([], 99))
    assert all(math.isnan(value) for value in spread([]))


@pytest.mark.parametrize(("values", "median"), [([4.0], 4), ([1.0, 9.0], 5), ([9.0, 1.0, 2.0], 2)])
def test_a_spread_has_the_median_between_its_ends(values: list[float], median: float) -> None:
    assert spread(values) == (min(values), median, max(values))


def test_fixed_arrivals_have_equal_gaps() -> None:
    assert schedule(4, 1, "fixed") == [0, 0.25, 0.5, 0.75]


def test_poisson_arrivals_keep_the_rate_on_average_and_have_exponential_gaps() -> None:
    times = schedule(1000, 20, "poisson")
    gaps = np.diff(times)
    assert len(times) == pytest.approx(20_000, rel=0.03)
    assert (gaps > 0).all()
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    assert times[-1] < 20


def test_the_same_seed_gives_the_same_arrivals() -> None:
    assert schedule(50, 2, "poisson", seed=3) == schedule(50, 2, "poisson", seed=3)
    assert schedule(50, 2, "poisson", seed=3) != schedule(50, 2, "poisson", seed=4)


def test_no_rate_means_no_arrivals() -> None:
    assert schedule(0, 5, "fixed") == []
    assert schedule(5, 0, "poisson") == []


def test_counters_are_summed_over_a_models_versions() -> None:
    assert counts(PAGE, "faces") == Counts(128, 16, 0.75)


def test_a_model_that_the_page_does_not_name_has_no_counts() -> None:
    assert all(math.isnan(value) for value in counts(PAGE, "cats"))
    assert all(math.isnan(value) for value in counts("", "faces"))


def test_the_mean_batch_is_items_over_batches_since_before() -> None:
    assert Counts(128, 16).mean_batch_since(Counts(64, 12)) == 16
    assert Counts(128, 16, 0.75).batch_s_since(Counts(64, 12, 0.25)) == 0.125
    for since in (Counts(64, 12).mean_batch_since, Counts(64, 12).batch_s_since):
        assert math.isnan(since(Counts(64, 12)))


@pytest.mark.parametrize(
    ("block", "status"),
    [
        (b"\x00\x0bgrpc-status\x010", 0),
        (b"\x20\x88\x40\x0bgrpc-status\x018", 8),  # table size update, :status 200, incremental indexing
        (b"\x00\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f\x81\x07", 0),  # all Huffman
        (b"\x00\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f\x82\x08\x7f", 14 - 3),
        (b"\x88\x5f\x10application/grpc", None),
        (b"\x00\x0cgrpc-message\x04full\x10\x0bgrpc-status\x0214", 14),
    ],
)
def test_the_status_is_found_in_trailers(block: bytes, status: int | None) -> None:
    assert read_trailers(block).status == status


PUSHBACK_HUFFMAN = bytes.fromhex("9acac8b5854d9e96aed44f18c9d56a51")


@pytest.mark.parametrize(
    ("block", "pushback_s"),
    [
        (b"\x00\x16grpc-retry-pushback-ms\x03120", 0.12),
        (b"\x00\x90" + PUSHBACK_HUFFMAN + b"\x82\x08\x81", 0.12),
        (b"\x00\x16grpc-retry-pushback-ms\x02-1", None),
        (b"\x00\x07another\x03120", None),
    ],
)
def test_the_time_of_the_next_try_is_found_in_trailers(block: bytes, pushback_s: float | None) -> None:
    assert read_trailers(b"\x00\x0bgrpc-status\x018" + block) == Trailers(8, pushback_s)


def test_trailers_of_the_dynamic_table_are_an_error() -> None:
    with pytest.raises(HeaderError, match="dynamic table"):
        read_trailers(b"\xbe")


def test_the_deadline_goes_into_the_request_headers_in_at_most_eight_digits() -> None:
    assert b"\x0cgrpc-timeout\x07250000u" in header_block("localhost:1", "/a/B", 0.25)
    assert b"\x0cgrpc-timeout\x0960000000u" in header_block("localhost:1", "/a/B", 60)
    assert b"\x0cgrpc-timeout\x07600000m" in header_block("localhost:1", "/a/B", 600)
    assert b"grpc-timeout" not in header_block("localhost:1", "/a/B", None)


def test_inputs_follow_the_seeds_as_the_server_generates_them() -> None:
    specs = [TensorSpec("latent", "FP32", (5,)), TensorSpec("label", "INT64", ()), TensorSpec("psi", "FP32", ())]
    inputs = random_inputs(specs, 3, Facts(classes=2), seed=7)
    assert np.array_equal(inputs["latent"][1], np.random.RandomState(8).randn(5).astype(np.float32))
    assert inputs["label"].tolist() == [1, 0, 1]
    assert inputs["psi"].tolist() == [1, 1, 1]


def test_no_item_is_generated_from_w() -> None:
    inputs = random_inputs([TensorSpec("w", "FP32", (2, 3)), TensorSpec("w_given", "FP32", ())], 2, Facts(), seed=0)
    assert inputs["w"].shape == (2, 2, 3)
    assert not inputs["w"].any()
    assert inputs["w_given"].tolist() == [0, 0]


def test_an_image_for_a_translator_keeps_to_its_multiple(tmp_path: Path) -> None:
    write_translator(tmp_path, "translator")
    assert facts_of(tmp_path / "translator" / "1").side_px == 64
    write_translator(tmp_path, "deep", multiple_px=96)
    assert facts_of(tmp_path / "deep" / "1").side_px == 96


def test_a_free_side_of_an_image_is_the_tiles() -> None:
    image = random_inputs([TensorSpec("image", "UINT8", (-1, -1, 3))], 2, Facts(side_px=48), seed=0)["image"]
    assert image.shape == (2, 48, 48, 3)
    assert image.dtype == np.uint8


def test_the_newest_version_is_the_highest_number_with_a_graph(tmp_path: Path) -> None:
    for version in ("2", "10", "11", "notes"):
        (tmp_path / "faces" / version).mkdir(parents=True)
    for version in ("2", "10", "notes"):
        (tmp_path / "faces" / version / "model.onnx").touch()
    assert newest_version(tmp_path, "faces").name == "10"
    with pytest.raises(RepositoryError, match="cats"):
        newest_version(tmp_path, "cats")


def answer(status: int, latency_s: float, *, started_s: float = 0.0, pushback_s: float | None = None) -> Answer:
    return Answer(started_s, started_s + latency_s, status, 0, pushback_s=pushback_s)


def test_a_flood_counts_each_call_once() -> None:
    answers = [answer(OK, 0.1), answer(OK, 0.3), answer(DEADLINE_EXCEEDED, 0.25), answer(RESOURCE_EXHAUSTED, 0.001)]
    flood = Flood(0.0, 1.0, 0.25, answers, expired=2, planned=8, unsent=1)
    flood.answers.append(answer(14, 0.1))
    assert (len(flood.in_time), flood.late, len(flood.rejected), flood.other_errors) == (1, 4, 1, {14: 1})
    assert len(flood.in_time) + flood.late + len(flood.rejected) + flood.unsent + 1 == flood.planned


def test_what_is_answered_after_the_measurement_is_in_time_but_not_in_its_rate() -> None:
    answers = [answer(OK, 0.2, started_s=started_s) for started_s in (10.0, 10.5, 11.7, 11.9)]
    phase = Phase(10.0, 2.0, 0.25, answers)
    assert len(phase.in_time) == 4
    assert phase.per_s == 1.5


def case(**phase: object) -> Case:
    workload = Workload(Target("h", 1, "h:2"), "faces", INFER, [b""], images=8)
    return Case(workload, "2 x", True, Phase(0.0, 2.0, 0.25, **phase), Capacity(100.0, 0.2), 0.01)  # type: ignore[arg-type]


def test_goodput_is_images_in_time_as_a_share_of_the_capacity() -> None:
    late, rejected = answer(OK, 0.26), answer(RESOURCE_EXHAUSTED, 0.001)
    found = case(answers=[*[answer(OK, 0.2)] * 10, late, rejected], expired=3)
    assert found.images_per_s == 40
    assert found.kept == pytest.approx(0.4)
    assert found.phase.late == 4


def test_rejections_are_told_apart_by_whether_they_say_when_to_try_again() -> None:
    rejections = [answer(RESOURCE_EXHAUSTED, 0.001 * n, pushback_s=0.1 if n > 2 else None) for n in range(1, 5)]
    found = case(answers=[*rejections, answer(OK, 0.2)])
    assert found.pushbacks == 2
    assert (found.rejection_s(50), found.rejection_s(99)) == (0.002, 0.004)


def test_single_images_latencies_are_told_in_batches() -> None:
    singles = [answer(OK, 0.06), answer(OK, 0.08), answer(RESOURCE_EXHAUSTED, 0.001)]
    greed = Greed(8, 1000, 0.002, 0.04, 900.0, 0, singles)
    assert (greed.batches(50), greed.batches(100), greed.failed) == (1.5, 2.0, 1)


@pytest.mark.parametrize(("sending_s", "lag_s", "held"), [(1.0, 0.001, True), (1.2, 0.001, False), (1.0, 0.05, False)])
def test_a_generator_that_falls_behind_says_so(sending_s: float, lag_s: float, held: bool) -> None:
    assert Flood(0.0, 1.0, 0.25, lags_s=[lag_s], sending_s=sending_s).held is held


def test_figures_that_were_not_measured_are_null_in_json(tmp_path: Path) -> None:
    write_json(tmp_path / "out.json", {"share": math.nan, "rows": [{"p50_s": 0.5, "mean_batch": [math.nan]}]})
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["share"] is None
    assert written["rows"] == [{"p50_s": 0.5, "mean_batch": [None]}]
    assert written["machine"]["cores"] >= 1
