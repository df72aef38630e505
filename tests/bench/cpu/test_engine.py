"""The engine limit on a graph of one node."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from bench.cpu.engine import BATCH_SIZES, Engine, Limit, sweep
from bench.machine import core_count


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A version's folder whose graph casts a latent (N, 8) to pixels."""
    node = helper.make_node("Cast", ["latent"], ["image"], to=TensorProto.UINT8)
    latent = helper.make_tensor_value_info("latent", TensorProto.FLOAT, ["batch", 8])
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 8])
    graph = helper.make_graph([node], "cast", [latent], [image])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "model.onnx"
    )
    return tmp_path


def test_the_limit_is_the_median_of_the_best_setup_over_its_rounds(version: Path) -> None:
    limit = Limit(Engine(version))
    limit.measure(0.05)
    limit.measure(0.05)
    assert all(len(rates) == 2 for rates in limit.rates.values())
    assert {setup.batch for setup in limit.rates} == {8, 16}
    assert all(setup.sessions * setup.threads == core_count() for setup in limit.rates)
    assert limit.images_per_s.median == max(sum(rates) / 2 for rates in limit.rates.values())
    assert 0 < limit.latency_s < 1


def test_a_sweep_measures_every_batch_size_in_every_round(version: Path) -> None:
    rates = sweep(Engine(version), seconds=0.004, rounds=2, batches=BATCH_SIZES)
    assert {setup.batch for setup in rates} == set(BATCH_SIZES)
    assert all(len(found) == 2 and min(found) > 0 for found in rates.values())
