"""The server's engines side by side, on a small graph that each of them runs."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from artifact.repository import ONNX
from bench.__main__ import main
from bench.caller.payloads import RepositoryError
from bench.cpu.engines import Bench, distance, measure_under_caps, open_engines, times
from tests.server.repository.cpu.graphs import write_generator

ROOT = Path(__file__).parents[3]


@pytest.fixture
def version(tmp_path: Path) -> Path:
    folder = tmp_path / "R" / "m" / "1"
    write_generator(folder)
    (tmp_path / "R" / "m" / "config.pbtxt").write_text("max_batch_size: 16")
    return folder


def test_every_engine_is_measured_in_every_setup_and_round(version: Path) -> None:
    contestants, absent = open_engines(["onnx", "openvino"], version)
    assert absent == {}
    bench = Bench(contestants, version, None)
    rates = bench.sweep([1, 3], seconds=0.004, rounds=2)
    assert set(rates) == {"onnx", "openvino"}
    for by_setup in rates.values():
        assert {setup.batch for setup in by_setup} == {1, 3}
        assert len(by_setup) == 2 * len(bench.ways)
        assert all(len(found) == 2 and min(found) > 0 for found in by_setup.values())
    distances = bench.distances()
    assert (distances["onnx"].levels, distances["onnx"].same_in_batches) == (0, True)
    assert distances["openvino"].psnr_db > 45
    for each in contestants:
        each.engine.close()


def test_a_distance_is_in_levels_of_the_range() -> None:
    image = np.full((1, 4, 4, 3), 100, np.uint8)
    same = distance({"image": image}, {"image": image}, True)
    assert (same.psnr_db, same.levels, same.same_in_batches) == (math.inf, 0, True)
    other = distance({"image": image}, {"image": image + np.uint8(2)}, False)
    assert (round(other.psnr_db, 1), other.levels) == (42.1, 2)
    floats = np.linspace(-1, 1, 11, dtype=np.float32)
    assert round(distance({"y": floats}, {"y": floats + np.float32(2 / 255)}, True).levels, 3) == 1


def test_a_ratio_is_of_the_same_round() -> None:
    assert times([10.0, 40.0, 30.0], [5.0, 20.0, 60.0]) == 2.0


def test_what_an_engine_cannot_open_is_the_reason(version: Path) -> None:
    (version / ONNX).write_bytes(b"no graph")
    with pytest.raises(RepositoryError, match=r"onnx: .*cannot open it"):
        open_engines(["onnx"], version)


def test_an_engine_that_cannot_be_had_here_leaves_the_others(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    contestants, absent = open_engines(["onnx", "openvino-bf16"], version)
    assert [each.name for each in contestants] == ["onnx"]
    assert "this processor has no bf16 instructions" in absent["openvino-bf16"]
    contestants[0].engine.close()


@pytest.mark.slow
def test_the_command_measures_under_each_limit_of_instructions(version: Path, tmp_path: Path) -> None:
    given = ["m", "--repository", str(version.parents[1]), "--engines", "onnx,auto", "--batches", "1"]
    given += ["--seconds", "0.01", "--rounds", "1"]
    command = [sys.executable, "-m", "bench", "engine", *given, "--json", str(tmp_path / "result.json")]
    command += ["--instruction-sets", "all,AVX2"]
    subprocess.run(command, check=True, cwd=ROOT, timeout=120, capture_output=True)
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["machine"]["date"]
    assert [each["instruction_set_cap"] for each in found["results"]] == [None, "AVX2"]
    assert all(set(each["engines"]) == {"onnx", "auto"} for each in found["results"])
    with pytest.raises(RepositoryError, match="AVX2"):
        measure_under_caps(["nothing", "--repository", str(tmp_path)], ["AVX2"])


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--instruction-sets", "all,AVX9", "AVX9: must be of all, SSE41"),
        ("--batches", "1,0", "'0': must be a whole number from 1"),
        ("--engines", "onnx,nope", "nope: must be of onnx"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(
    option: str, value: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "engine", "m", "--repository", "R", option, value])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert text in capsys.readouterr().err
