"""The picture of what `tables` measured."""

from pathlib import Path
from typing import Any

import pytest

from bench.caller.payloads import RepositoryError
from bench.cpu.chart import draw, shares

FIGURES: dict[str, Any] = {
    "limit": {"images_per_s": 1000.0},
    "onnx, 1 callers": {"per_s": [400.0, 500.0, 900.0]},
    "openvino bf16, 1 callers": {"per_s": [900.0]},
    "openvino bf16, 64 callers": {"per_s": [1500.0]},
}


def test_shares_are_medians_over_the_limit_by_server_and_callers() -> None:
    assert shares(FIGURES) == {"onnx": {1: 0.5}, "openvino bf16": {1: 0.9, 64: 1.5}}
    assert shares({"seconds": [[1.0], [2.0]]}) == {}


def test_equal_results_give_equal_pictures(tmp_path: Path) -> None:
    machine = {"cores": 2, "processor": "a processor", "date": "2026-11-28"}
    results = {"machine": machine, "tables": {"`faces` by ModelInfer": FIGURES, "Upscale": {"seconds": []}}}
    for name in ("one.svg", "other.svg"):
        draw(results, tmp_path / name)
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "other.svg").read_text()
    assert text.count("<path") > 10


def test_results_without_a_limit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="no table with an engine limit"):
        draw({"tables": {"Upscale": {"seconds": []}}}, tmp_path / "none.svg")
    with pytest.raises(RepositoryError, match="no table with an engine limit"):
        draw({"machine": {}, "results": []}, tmp_path / "none.svg")
