"""`python -m bench gpu`: the whole of it on the CPU, and the parts that only a GPU would reach as far as they go."""

import argparse
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artifact.repository import CONFIG, ONNX, PLAN, read_manifest, verify, write_version
from artifact.spec import Parity, Provenance, Spec, Task, TensorRTPlan, TensorSpec, Tile
from bench.caller.server import TargetError
from bench.gpu import behaviour, run, setups
from bench.gpu.artifacts import Artifacts, Version, subjects
from bench.gpu.cli import add_arguments
from bench.gpu.device import Device
from bench.gpu.engines import OrtOnDevice
from bench.gpu.figures import Rate, Served, Subject
from bench.gpu.not_ahead import form_none_ahead
from bench.gpu.parity import compare, parity_feed
from bench.gpu.plans import Built, Plans
from bench.gpu.rates import feed_of, seconds_per_run
from bench.gpu.report import CPU_NOTE, Results, Unavailable, first_line, markdown, reason_of
from bench.gpu.server import Load, add
from bench.gpu.serving import Model, Serving
from bench.gpu.tables import engine_share
from bench.gpu.torch_baseline import TorchRun, torch_model
from server.batching import batcher

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
UPSCALER = Spec(
    task=Task.SUPER_RESOLUTION, architecture="srvgg", hyperparameters={}, tensors="uint8", precision="fp16", opset=18,
    inputs=(TensorSpec("image", "UINT8", (-1, -1, 3)),), outputs=(TensorSpec("upscaled", "UINT8", (-1, -1, 3)),),
    image_shape=(0, 0, 3), provenance=Provenance("here", "none", ""), parity=Parity(1.0, 0.0, (1,), (0,)), scale=4,
    tile=Tile(192, 16, 1, 30, 0.0),
)  # fmt: skip


def bench_gpu(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bench", "gpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the small run: `work` and `out`."""
    return tmp_path_factory.mktemp("bench-gpu")


@pytest.fixture(scope="module")
def proof(folder: Path) -> tuple[dict[str, Any], str]:
    """JSON and Markdown of a small run on the CPU: one shipped model, exported, compared, timed and served."""
    done = bench_gpu(
        "--device", "cpu", "--parts", "speed,rows", "--models", "digits", "--precisions", "fp32", "--batches", "1,2",
        "--callers", "2", "--images-per-call", "3", "--seconds", "600", "--work", str(folder / "work"),
        "--out", str(folder / "out"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (written,) = (folder / "out").glob("*.json")
    return json.loads(written.read_text()), written.with_suffix(".md").read_text()


def test_a_run_on_the_cpu_says_that_no_figure_is_a_gpus(proof: tuple[dict[str, Any], str]) -> None:
    found, page = proof
    assert found["device"]["kind"] == "cpu"
    assert found["note"] == CPU_NOTE
    assert f"**{CPU_NOTE}**" in page
    assert found["finished"]


def test_every_engine_that_is_there_was_compared_with_the_reference(proof: tuple[dict[str, Any], str]) -> None:
    found, page = proof
    rows = {row["engine"]: row for row in found["parity"]}
    assert set(rows) == {"torch", "ONNX Runtime"}
    assert all(row["largest_levels"] <= 1 and row["reference"].endswith("fp32, CPU") for row in rows.values())
    assert "| digits | ONNX Runtime | fp32 | 4 |" in page


def test_rates_are_above_nothing_and_claim_no_transfers(proof: tuple[dict[str, Any], str]) -> None:
    rates = proof[0]["rates"]
    assert [(row["engine"], row["batch"]) for row in rates] == [
        ("torch", 1), ("torch", 2), ("ONNX Runtime", 1), ("ONNX Runtime", 2),
    ]  # fmt: skip
    assert all(row["hosted"] > 0 and row["placed"] is None and row["device_share"] is None for row in rates)


def test_the_server_was_asked_for_several_pictures_a_call(proof: tuple[dict[str, Any], str]) -> None:
    (row,) = proof[0]["served"]
    assert (row["callers"], row["images_per_call"], row["errors"]) == (2, 3, 0)
    assert row["platform"] == "onnxruntime_onnx"
    assert row["images_per_s"] > 0
    assert row["gpu_busy"] is None


def test_rows_of_a_batch_have_the_bytes_that_they_have_alone(proof: tuple[dict[str, Any], str]) -> None:
    rows = {row["engine"]: row for row in proof[0]["rows"]}
    assert set(rows) == {"torch", "ONNX Runtime"}
    assert rows["ONNX Runtime"]["largest_levels"].keys() == {"3", "16", "64"}
    assert all(levels <= 1 for row in rows.values() for levels in row["largest_levels"].values())
    assert "| digits | ONNX Runtime | fp32 | " in proof[1]


def test_a_server_that_forms_none_ahead_is_loaded_by_a_process_of_its_own(
    folder: Path, proof: tuple[dict[str, Any], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = Artifacts(folder / "work", [], {}, None).version("digits", "fp32")
    model = Model({"fp32": version}, {}, [Subject("digits")], None, [])
    results = Results(folder / "setups.json", {"kind": "cpu", "name": "A CPU"}, {})
    monkeypatch.setattr(setups, "GROUPS", (setups.Group((setups.NOT_AHEAD,), {"one": (0,)}, ((2, 3),), rounds=2),))
    setups.compare(results, [model], "fp32", Device("cpu"), folder / "work", 0.3, math.inf)
    assert not results.skipped
    assert [(row.setup, row.platform, row.errors) for row in results.served] == [("one", "onnxruntime_onnx", 0)] * 2
    assert markdown(results).count("| digits | fp32 | one | 2 | 3 | ") == 2


def test_a_server_that_is_ended_under_load_answers_what_it_took_in_and_says_0(
    folder: Path, proof: tuple[dict[str, Any], str]
) -> None:
    version = Artifacts(folder / "work", [], {}, None).version("digits", "fp32")
    finding = behaviour._end_under_load(version, Subject("digits"), Device("cpu"), folder / "work")
    assert finding.right, finding.seen
    assert finding.seen.endswith("; exit code 0")


@pytest.mark.parametrize(
    ("before", "after", "code", "right"),
    [
        (["answered"], ["answered", "UNAVAILABLE"], 0, True), ([], ["UNAVAILABLE"], 0, False),
        (["answered", "UNAVAILABLE"], ["UNAVAILABLE"], 0, False), (["answered"], ["INTERNAL"], 0, False),
        (["answered"], ["UNAVAILABLE"], -9, False), (["answered"], ["UNAVAILABLE"], None, False),
    ],
)  # fmt: skip
def test_an_end_is_right_only_if_calls_were_answered_before_it_and_the_process_says_0(
    before: list[str], after: list[str], code: int | None, right: bool
) -> None:
    assert behaviour.ended(before, after, 0.5, code).right == right


@pytest.mark.parametrize(
    ("used_mib", "watts", "busy", "right"),
    [(3000, 300, 0.9, True), (0, 300, 0.9, False), (9000, 300, 0.9, False), (3000, 30, 0.9, False),
     (3000, 300, 0.1, False), (3000, None, None, True)],
)  # fmt: skip
def test_gpu_metrics_are_near_what_nvidia_smi_says(
    used_mib: float, watts: float | None, busy: float | None, right: bool
) -> None:
    page = {"nv_gpu_memory_used_bytes": used_mib * 2**20, "nv_gpu_memory_total_bytes": 143771.0 * 2**20}
    page |= {} if watts is None or busy is None else {"nv_gpu_power_usage": watts, "nv_gpu_utilization": busy}
    assert behaviour.compared(page, (3100, 143771, 320, 95, math.nan)).right == right


def test_a_caller_that_dies_is_named_with_its_last_words(tmp_path: Path) -> None:
    line = [sys.executable, "-c", "raise SystemExit('no more sockets')"]
    with (
        (tmp_path / "errors").open("w+") as errors,
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
        pytest.raises(TargetError, match="a caller ended with code 1: no more sockets"),
    ):
        setups.Caller(process, errors).line()


def test_a_part_that_measured_nothing_is_not_right(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = ["--device", "cpu", "--no-export", "--parts", "speed,behaviour", "--models", "digits", "--seconds", "5"]
    assert not run.run(parser.parse_args([*given, "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]))
    (written,) = (tmp_path / "out").glob("*.md")
    assert written.read_text().count("| NO | nothing was measured |") == 2


def test_phases_of_a_server_are_long_enough_to_answer_and_no_longer_than_their_share() -> None:
    assert run.phase_s(33.0, 18) == run.SHORTEST_PHASE_S
    assert run.phase_s(1000.0, 18) == run.LONGEST_PHASE_S
    assert 1.0 < run.phase_s(72.0, 18) < 3.0


def test_a_phase_in_which_nothing_was_answered_is_skipped(tmp_path: Path) -> None:
    results = Results(tmp_path / "some-gpu.json", {"kind": "cuda", "name": "Some GPU"}, {})
    row = Served("faces", "fp16", "onnxruntime_onnx", 256, 64, 0.0, math.nan, math.nan, 32.0, 16, 0.2)
    assert row.limited_by == "-"
    add(results, "server, faces", row)
    add(results, "server, faces", replace(row, images_per_s=5.0))
    assert len(results.served) == 1
    assert results.skipped == [("server, faces", "no call was answered within the phase, 16 ended with an error")]


def test_without_the_engines_rate_at_the_servers_batch_there_is_no_share() -> None:
    row = Served("faces", "fp16", "onnxruntime_onnx", 16, 64, 300.0, 0.1, 0.1, 32.0, 0, None)
    rates = [Rate("faces", "ONNX Runtime", "fp16", 4, 100.0), Rate("faces", "ONNX Runtime", "fp16", 64, None)]
    assert engine_share(row, rates) is None
    assert engine_share(row, [rates[0], replace(rates[1], hosted=600.0)]) == 0.5


def test_what_several_callers_saw_is_added_up() -> None:
    load = setups.together([Load(10.0, [0.1], 1, 0.5), Load(5.0, [0.2, 0.3], 0, 0.25)])
    assert load == Load(15.0, [0.1, 0.2, 0.3], 1, 0.75)


def test_no_batch_is_formed_ahead_once_that_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher._Slot, "fills_batch", batcher._Slot.fills_batch)
    form_none_ahead()
    assert vars(batcher._Slot)["fills_batch"] is False


def test_the_best_that_was_served_is_beside_its_goal_and_says_what_limits(tmp_path: Path) -> None:
    results = Results(tmp_path / "some-gpu.json", {"kind": "cuda", "name": "Some GPU"}, {})
    results.rates.append(Rate("faces", "ONNX Runtime", "fp16", 64, 1000.0))
    for images, rate, setup, lane, cores in (
        (64, 900.0, "", 0.95, 1.0), (64, 800.0, "", 0.5, 1.0), (64, 999.0, "2 processes", 0.5, 1.0),
        (1, 300.0, "", 0.2, 1.3), (1, 100.0, "", 0.2, 0.3), (16, 999.0, "", 0.2, 0.3),
    ):  # fmt: skip
        measured = (images, rate, 0.1, 0.2, 8.0, 0, 0.5, cores, 0.1, lane, setup)
        results.served.append(Served("faces", "fp16", "onnxruntime_onnx", 16, *measured))
    page = markdown(results)
    assert page.count("| faces | fp16 | onnxruntime_onnx | 64 | 16 | 0.90 | 0.90 | yes | - |") == 1
    assert (
        page.count("| faces | fp16 | onnxruntime_onnx | 1 | 16 | 0.30 | 0.50 | no | the server's threads together |")
        == 1
    )
    assert [row.limited_by for row in results.served[-2:]] == ["round trips", "round trips"]
    assert [replace(results.served[0], gpu_busy=busy).limited_by for busy in (None, 0.5, 0.95)] == [
        "the lane (GPU or interpreter)", "the lane (GPU or interpreter)", "the GPU",
    ]  # fmt: skip


def test_what_a_cpu_cannot_show_is_listed_with_its_reason(proof: tuple[dict[str, Any], str]) -> None:
    found, page = proof
    reasons = {entry["part"]: entry["reason"] for entry in found["skipped"]}
    assert reasons == {
        "rates without transfers": "a CPU has no transfers to leave out",
        "GPU busy share": "no GPU is measured",
        "parity of digits, TensorRT fp32": "TensorRT runs on GPUs only",
        "rates of digits, TensorRT fp32": "TensorRT runs on GPUs only",
        "rows of digits, TensorRT fp32": "TensorRT runs on GPUs only",
    }
    assert all(f"- {part}: {reason}" in page for part, reason in reasons.items())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_one_line_says_so(tmp_path: Path) -> None:
    done = bench_gpu("--out", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("bench: no GPU: torch ")
    assert done.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_differences_are_counted_in_levels_whatever_the_dtype_wraps() -> None:
    dark = np.zeros((1, 2, 2, 3), np.uint8)
    light = np.full_like(dark, 255)
    assert compare(dark, light) == (255.0, 255.0, 0.0)
    assert compare(light, light) == (0.0, 0.0, float("inf"))
    with pytest.raises(ValueError, match="the reference's are"):
        compare(dark, light[:, :1])


def test_running_out_of_memory_has_one_name_and_other_errors_one_line() -> None:
    assert first_line(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")) == "out of memory"
    assert (
        first_line(RuntimeError("[ONNXRuntimeError] Failed to allocate memory for requested buffer")) == "out of memory"
    )
    assert first_line(RuntimeError("first\nsecond")) == "RuntimeError: first"
    assert reason_of(Unavailable("not installed")) == "not installed"
    assert reason_of(OSError("/home/me/work/1/model.onnx: see https://host/a/b, cuda/lib")) == (
        "OSError: model.onnx: see https://host/a/b, cuda/lib"
    )


def test_the_tables_show_what_was_out_of_memory_and_that_a_run_was_cut_short(tmp_path: Path) -> None:
    results = Results(tmp_path / "some-gpu.json", {"kind": "cuda", "name": "Some GPU"}, {})
    results.rates += [
        Rate("faces", "torch", "fp16", 1, 100.0, 400.0),
        Rate("faces", "torch", "fp16", 256, missing="out of memory"),
    ]
    results.skip("server", "tritonclient is not installed")
    results.write()
    page = markdown(results)
    assert "not finished" in page
    assert CPU_NOTE not in page
    assert "| 1 | 100 |" in page
    assert "| 1 | 400 |" in page
    assert "| 1 | 0.25 |" in page
    assert page.count("| 256 | out of memory |") == 3
    assert "- server: tritonclient is not installed" in page
    assert json.loads(results.path.read_text())["rates"][1]["hosted"] is None


def test_a_run_is_timed_over_the_seconds_asked_after_two_that_do_not_count() -> None:
    runs: list[int] = []
    spent_s = seconds_per_run(lambda: runs.append(1), lambda: None, 0.02)
    assert len(runs) > 3
    assert 0 < spent_s < 0.02


def test_inputs_have_the_size_of_the_subject_and_repeat_beyond_sixteen_rows() -> None:
    version = Version(Path("nowhere"), UPSCALER)
    (_, large) = subjects("up", UPSCALER, [8, 24])
    feed = feed_of(version, large, 40)["image"]
    assert feed.shape == (40, 24, 24, 3)
    assert (feed[:16] == feed[16:32]).all()
    assert not (feed[0] == feed[1]).all()
    assert parity_feed(version, large)["image"].shape == (4, 24, 24, 3)


def test_runs_on_placed_data_end_on_the_device_they_began_on(tmp_path: Path) -> None:
    version = Artifacts(tmp_path, [], {}, tmp_path).version("digits", "fp32")
    cpu = Device("cpu")
    feed = feed_of(version, Subject("digits"), 2)
    for on_device in (OrtOnDevice(version, cpu), TorchRun(torch_model("digits", tmp_path).module, cpu, tf32=False)):
        placed = on_device.place(feed)
        assert seconds_per_run(placed.start, placed.finish, 0.01) > 0
        on_device.close()


def test_engines_are_built_for_each_size_measured_and_for_the_servers_tile() -> None:
    plans = Plans(Version(Path("nowhere"), UPSCALER), Path("nowhere"), "rtx", 256, [64, 256])
    shapes = [profile["image"] for profile in plans.profiles(256)]
    assert [shape.min for shape in shapes] == [(1, 64, 64, 3), (1, 192, 192, 3), (1, 256, 256, 3)]
    assert {(shape.opt[0], shape.max[0]) for shape in shapes} == {(64, 256)}
    drawn = replace(UPSCALER, inputs=(TensorSpec("latent", "FP32", (100,)),), tile=None)
    (profile,) = Plans(Version(Path("nowhere"), drawn), Path("nowhere"), "rtx", 8, [64]).profiles(8)
    assert profile["latent"].max == (8, 100)


def test_without_any_engine_tensorrt_is_refused_with_the_reason(tmp_path: Path) -> None:
    plans = Plans(Version(tmp_path, UPSCALER), tmp_path, None, 4, [64])
    with pytest.raises(Unavailable, match="no engine was asked for, and none lies beside the graph"):
        plans.open()


def test_a_served_copy_takes_large_batches_and_has_the_engine_that_was_measured(tmp_path: Path) -> None:
    source = write_graph(tmp_path)
    version = Version(source, UPSCALER)
    plans = Plans(version, tmp_path, None, 4, [64])
    model = Model({"fp16": version}, {"fp16": plans}, [Subject("up", 64)], None, [])
    results = Results(tmp_path / "gpu.json", {"kind": "cuda", "name": "Some GPU"}, {})
    assert not Serving("tensorrt", "fp16", tmp_path / "trt", 64).add(results, model)
    assert results.skipped == [("server, up, tensorrt fp16", "no TensorRT engine of it could be opened")]
    (tmp_path / "own.plan").write_bytes(b"an engine")
    plans.opened = Built(tmp_path / "own.plan", TensorRTPlan("rtx", "1.7.1.116", (), "fp16", "", ()))
    for engine, has_plan in (("onnx", False), ("tensorrt", True)):
        assert Serving(engine, "fp16", tmp_path / engine, 64).add(results, model) == model.subjects
        folder = tmp_path / engine / "up" / "1"
        spec = read_manifest(folder)
        assert spec is not None
        verify(folder, spec)
        assert (spec.plan is not None, (folder / PLAN).is_file()) == (has_plan, has_plan)
        assert "max_batch_size: 64\n" in (folder.parent / CONFIG).read_text()
    assert (source / "model.onnx").read_bytes() == b"a graph"
    assert (tmp_path / "own.plan").read_bytes() == b"an engine"


def write_graph(folder: Path) -> Path:
    """A version of `up` whose graph nobody opens, with a config of batches of 8."""
    (folder / "made.onnx").write_bytes(b"a graph")
    config = 'name: "up"\nmax_batch_size: 8\n'
    return write_version(folder / "source", "up", 1, UPSCALER, {ONNX: folder / "made.onnx"}, config)


def test_a_model_that_cannot_be_had_says_why(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path, [], {}, tmp_path)
    with pytest.raises(Unavailable, match="cannot be exported here: nobody: no such file"):
        artifacts.version("nobody", "fp32")
    with pytest.raises(Unavailable, match="no version of it was brought, and none is exported here"):
        replace(artifacts, may_export=False).version("digits", "fp32")
    assert str(Subject("faces")) == "faces"
