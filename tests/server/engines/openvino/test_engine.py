"""OpenVINO's engine on small graphs: what it gives, what it refuses, and what it leaves alone."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from artifact.spec import TensorSpec
from server.engines.base import Stoppable
from server.engines.onnx.cpu import OnnxCpuEngine
from server.engines.openvino import bf16_supported
from server.engines.openvino.engine import OpenVinoCpuEngine, Precision
from server.errors import StartError
from tests.server.conftest import write_tiny
from tests.server.engines.openvino.conftest import Node, WriteGraph
from tests.server.graphs import LAYERS, Z, write_styled, write_translator, write_upscaler

ROOT = Path(__file__).resolve().parents[4]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
# Lanes and threads: each is another way in which OpenVINO runs a graph.
# Enough to meet a run in its first moments.
INTERRUPTS = 12
WAYS = [(1, 1), (1, 2), (2, 2), (2, 4)]


def opened(path: Path, lanes: int = 2, threads: int = 2, precision: Precision = "fp32") -> OpenVinoCpuEngine:
    return OpenVinoCpuEngine(path, lanes, threads, True, precision)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    write_tiny(tmp_path, "tiny")
    return tmp_path / "tiny" / "1" / "model.onnx"


def latents(items: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"latent": np.random.RandomState(seed).randn(items, 4).astype(np.float32)}


def doubling(write_graph: WriteGraph, kind: int, axes: list[str | int]) -> Path:
    return write_graph([("Add", ["x", "x"], "y", {})], [("x", kind, axes)], [("y", kind, axes)], {})


@pytest.mark.parametrize(("lanes", "threads"), WAYS)
def test_it_generates_what_onnx_runtime_does(tiny: Path, lanes: int, threads: int) -> None:
    engine, reference = opened(tiny, lanes, threads), OnnxCpuEngine(tiny, 1, 1, batched=True)
    assert (engine.inputs, engine.outputs) == (reference.inputs, reference.outputs)
    for items in (1, 3, 8):
        for whole_device in (False, True):
            image = engine.run(latents(items), whole_device)["image"]
            np.testing.assert_array_equal(image, reference.run(latents(items), False)["image"])
    engine.close()


def random_inputs(kind: str, rng: np.random.RandomState) -> dict[str, np.ndarray]:
    if kind != "styled":
        return {"image": rng.randint(0, 256, (5, 12, 8, 3)).astype(np.uint8)}
    return {
        "latent": rng.randn(5, Z).astype(np.float32),
        "label": rng.randint(0, 3, 5).astype(np.int64),
        "noise": rng.randn(5, Z).astype(np.float32),
        "truncation_psi": rng.rand(5).astype(np.float32),
        "w": rng.randn(5, LAYERS, Z).astype(np.float32),
        "w_given": np.array([0, 1, 0, 1, 0], np.float32),
    }


@pytest.mark.parametrize("kind", ["styled", "translator", "upscaler"])
def test_graphs_of_every_task_give_onnx_runtimes_pixels(tmp_path: Path, kind: str) -> None:
    {"styled": write_styled, "translator": write_translator, "upscaler": write_upscaler}[kind](tmp_path, kind)
    path = tmp_path / kind / "1" / "model.onnx"
    engine, reference = opened(path), OnnxCpuEngine(path, 1, 1, batched=True)
    assert engine.inputs == reference.inputs
    arrays = random_inputs(kind, np.random.RandomState(0))
    for whole_device in (False, True):
        found, expected = engine.run(arrays, whole_device), reference.run(arrays, False)
        for name, array in expected.items():
            assert array.shape == found[name].shape
            assert np.abs(array.astype(int) - found[name].astype(int)).max() <= 1


@pytest.mark.parametrize(("lanes", "threads"), WAYS)
def test_outputs_stay_as_they_are_when_the_engine_runs_again(tiny: Path, lanes: int, threads: int) -> None:
    engine = opened(tiny, lanes, threads)
    for whole_device in (False, True):
        kept = [engine.run(latents(2, seed), whole_device)["image"] for seed in range(6)]
        assert all(image.flags.writeable for image in kept)
        for seed, image in enumerate(kept):
            np.testing.assert_array_equal(image, engine.run(latents(2, seed), whole_device)["image"])
            assert not any(np.shares_memory(image, other) for other in kept if other is not image)


def test_inputs_that_cannot_be_written_to_or_have_gaps_are_taken_too(tiny: Path) -> None:
    engine = opened(tiny)
    expected = engine.run(latents(3), False)["image"]
    fixed = np.frombuffer(latents(3)["latent"].tobytes(), np.float32).reshape(3, 4)
    gaps = np.repeat(latents(3)["latent"], 2, axis=1)[:, ::2]
    for array in (fixed, gaps):
        before = array.copy()
        np.testing.assert_array_equal(engine.run({"latent": array}, False)["image"], expected)
        np.testing.assert_array_equal(array, before)


def test_many_threads_at_once_get_each_its_own(tiny: Path) -> None:
    engine = opened(tiny)
    expected = [engine.run(latents(2, seed), False)["image"] for seed in range(4)]
    wrong: list[int] = []

    def work(seed: int) -> None:
        for _ in range(50):
            if not np.array_equal(engine.run(latents(2, seed), seed == 0)["image"], expected[seed]):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(("lanes", "threads"), WAYS)
def test_a_run_that_fails_says_so_and_does_not_give_the_outputs_of_another(
    write_graph: WriteGraph, lanes: int, threads: int
) -> None:
    path = write_graph(
        [("Add", ["x", "five"], "y", {})],
        [("x", FLOAT, ["N", "M"])],
        [("y", FLOAT, ["N", "M"])],
        {"five": np.ones(5, np.float32)},
    )
    engine = opened(path, lanes, threads)
    for whole_device in (False, True):
        for _ in range(2):
            np.testing.assert_array_equal(
                engine.run({"x": np.zeros((1, 5), np.float32)}, whole_device)["y"], np.ones((1, 5))
            )
            with pytest.raises(RuntimeError, match="mismatch"):
                engine.run({"x": np.full((1, 3), 9, np.float32)}, whole_device)


@pytest.mark.parametrize(("kind", "dtype"), [(INT64, np.int64), (TensorProto.UINT32, np.uint32)])
def test_integers_that_openvino_would_cut_off_fail(write_graph: WriteGraph, kind: int, dtype: Any) -> None:
    engine = opened(doubling(write_graph, kind, ["N"]))
    assert engine.run({"x": np.array([3, 1 << 20], dtype)}, False)["y"].tolist() == [6, 1 << 21]
    assert engine.run({"x": np.zeros(0, dtype)}, False)["y"].tolist() == []
    with pytest.raises(ValueError, match="input 'x' has values of more than 32 bits"):
        engine.run({"x": np.array([3, 1 << 31], dtype)}, False)


@pytest.mark.parametrize("kind", ["BOOL", "FLOAT16", "INT8", "INT16", "INT32", "UINT8", "UINT16"])
def test_other_types_come_back_as_they_went(write_graph: WriteGraph, kind: str) -> None:
    code = getattr(TensorProto, kind)
    path = write_graph([("Identity", ["x"], "y", {})], [("x", code, ["N"])], [("y", code, ["N"])], {})
    array = np.array([0, 1, 0], {"BOOL": "bool", "FLOAT16": "float16"}.get(kind, kind.lower()))
    found = opened(path).run({"x": array}, False)["y"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(("kind", "name"), [("DOUBLE", "f64"), ("STRING", "string")])
def test_types_that_it_does_not_compute_in_are_refused(write_graph: WriteGraph, kind: str, name: str) -> None:
    code = getattr(TensorProto, kind)
    path = write_graph([("Identity", ["x"], "y", {})], [("x", code, ["N"])], [("y", code, ["N"])], {})
    with pytest.raises(StartError, match=f"'x' is {name}, which OpenVINO does not run; --engine onnx does"):
        opened(path)


def test_what_openvino_would_not_check_of_a_request_is_refused(write_graph: WriteGraph) -> None:
    weights = np.ones((1 << 16, 2), np.float32)
    path = write_graph(
        [("MatMul", ["x", "w"], "y", {})], [("x", FLOAT, ["N", "M"])], [("y", FLOAT, ["N", 2])], {"w": weights}
    )
    with pytest.raises(StartError, match="'y' is a product with weights over a free axis, which OpenVINO does not che"):
        opened(path)
    path = write_graph(
        [("GatherND", ["w", "x"], "y", {})], [("x", INT64, ["N", 2])], [("y", FLOAT, ["N"])], {"w": weights}
    )
    with pytest.raises(StartError, match="'y' is GatherND with indices from anywhere, which OpenVINO does not check"):
        opened(path)
    path = write_graph(
        [("ScatterElements", ["w", "x", "u"], "y", {"axis": 0})],
        [("x", INT64, ["N", 2]), ("u", FLOAT, ["N", 2])],
        [("y", FLOAT, [1 << 16, 2])],
        {"w": weights},
    )
    with pytest.raises(StartError, match="'y' is ScatterElementsUpdate with indices from anywhere"):
        opened(path)
    both = [("x", FLOAT, ["N", 1, "M"]), ("z", FLOAT, ["N", "M", 1])]
    path = write_graph([("MatMul", ["x", "z"], "y", {})], both, [("y", FLOAT, ["N", 1, 1])], {})
    engine = opened(path)
    with pytest.raises(RuntimeError, match="incompatible"):
        engine.run({"x": np.ones((1, 1, 2), np.float32), "z": np.ones((1, 3, 1), np.float32)}, False)


@pytest.mark.parametrize(
    ("node", "kind", "axes", "what"),
    [
        (("Gather", ["w", "free"], {}), INT64, ["N"], "Gather with indices computed from the values of a req"),
        (("Gather", ["x", "five"], {"axis": 1}), FLOAT, ["N", "M"], "Gather with indices over a free axis"),
        (("Expand", ["w", "x"], {}), INT64, [2], "Broadcast with a shape from the values of a request"),
        (("Tile", ["w", "x"], {}), INT64, [2], "Tile with repeats from the values of a request"),
        (("Range", ["zero", "x", "one"], {}), INT64, [], "Range with ends from the values of a request"),
        (("Div", ["one", "x"], {}), INT64, [1], "divides by integers that may be 0"),
    ],
    ids=["computed", "constant", "broadcast", "tile", "range", "division"],
)
def test_what_openvino_makes_up_where_onnx_runtime_fails_is_refused(
    node: Any, kind: int, axes: Any, what: str, write_graph: WriteGraph
) -> None:
    operator, inputs, attributes = node
    constants = {"w": np.ones((4, 2), np.float32), "five": np.array([5]), "zero": np.array(0), "one": np.array(1)}
    nodes: list[Any] = [(operator, inputs, "y", attributes)]
    if "free" in inputs:
        nodes.insert(0, ("Add", ["x", "five"], "free", {}))
    result = INT64 if operator in ("Range", "Div") else FLOAT
    used = {name: value for name, value in constants.items() if any(name in each[1] for each in nodes)}
    path = write_graph(nodes, [("x", kind, axes)], [("y", result, None)], used)
    with pytest.raises(StartError, match=f"'y' (is )?{what}.*, which OpenVINO does not check; --engine onnx does"):
        OpenVinoCpuEngine(path, 1, 1, False, "fp32")


@pytest.mark.parametrize("through", [[], ["Cast"], ["Cast", "Squeeze", "Unsqueeze"]], ids=len)
def test_indices_that_are_an_input_are_checked_and_those_in_range_are_right(
    through: list[str], write_graph: WriteGraph
) -> None:
    weights = np.arange(8, dtype=np.float32).reshape(4, 2)
    nodes: list[Any] = []
    last = "x"
    for operator in through:
        inputs, attributes = ([last], {"to": INT64}) if operator == "Cast" else ([last, "axis"], {})
        nodes.append((operator, inputs, f"after{operator}", attributes))
        last = f"after{operator}"
    nodes.append(("Gather", ["w", last], "y", {}))
    constants = {"w": weights, **({"axis": np.array([1])} if "Squeeze" in through else {})}
    shape = ["N", 1] if "Squeeze" in through else ["N"]
    path = write_graph(nodes, [("x", FLOAT if through else INT64, shape)], [("y", FLOAT, None)], constants)
    engine = OpenVinoCpuEngine(path, 1, 1, True, "fp32") if not through else opened(path)

    def run(*indices: float) -> Any:
        array = np.array(indices, np.float32 if through else np.int64).reshape(-1, *shape[1:])
        return engine.run({"x": array}, False)["y"].reshape(-1, 2)

    np.testing.assert_array_equal(run(3, 0, -1, -4), weights[[3, 0, -1, -4]])
    for wrong in (4, -5, *([np.nan, np.inf] if through else [])):
        with pytest.raises(ValueError, match="input 'x' has indices out of range: -4 to 3 are there"):
            run(0, wrong)
    assert run().shape == (0, 2)


def test_a_run_that_fails_leaves_nothing_behind_and_the_next_one_is_right(write_graph: WriteGraph) -> None:
    both = [("x", FLOAT, ["N", 1, "M"]), ("z", FLOAT, ["N", "M", 1])]
    path = write_graph([("MatMul", ["x", "z"], "y", {})], both, [("y", FLOAT, ["N", 1, 1])], {})
    engine: Any = opened(path)
    stoppable: Stoppable = opened(path)  # mypy holds it, and at run time:
    assert isinstance(stoppable, Stoppable)
    good = {"x": np.ones((1, 1, 2), np.float32), "z": np.ones((1, 2, 1), np.float32)}
    for _ in range(3):
        with pytest.raises(RuntimeError):
            engine.run({**good, "z": np.ones((1, 3, 1), np.float32)}, False)
        assert engine.run(good, False)["y"].tolist() == [[[2.0]]]


def test_shapes_that_fail_are_compiled_for_once(write_graph: WriteGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(doubling(write_graph, FLOAT, ["N", "M"]))
    compiled: list[Any] = []
    given: Any = engine._compile

    def compile_again(model: Any) -> Any:
        compiled.append(model)
        return given(model)

    monkeypatch.setattr(engine, "_compile", compile_again)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            engine.run({"x": np.ones((1, 2, 3), np.float32)}, False)
    assert engine.run({"x": np.ones((1, 2), np.float32)}, False)["y"].shape == (1, 2)
    assert len(compiled) == 1


def test_a_failed_run_does_not_wait_for_the_graph_that_the_next_one_needs(
    write_graph: WriteGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(doubling(write_graph, FLOAT, ["N", "M"]))
    may_compile, given = threading.Event(), engine._compile

    def compile_later(model: Any) -> Any:
        assert may_compile.wait(30)
        return given(model)

    monkeypatch.setattr(engine, "_compile", compile_later)
    with pytest.raises(RuntimeError):
        engine.run({"x": np.ones((1, 2, 3), np.float32)}, False)  # on the loop, say
    may_compile.set()
    assert engine.run({"x": np.ones((1, 2), np.float32)}, False)["y"].shape == (1, 2)


def test_a_graph_that_could_not_be_compiled_anew_is_tried_again(
    write_graph: WriteGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(doubling(write_graph, FLOAT, ["N", "M"]))
    good = {"x": np.ones((1, 2), np.float32)}
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_compile", lambda _: 1 // 0)
        with pytest.raises(RuntimeError):
            engine.run({"x": np.ones((1, 2, 3), np.float32)}, False)
        engine._coming.exception()
    assert engine.run(good, False)["y"].shape == (1, 2)


def test_a_run_whose_neighbour_failed_unseen_is_run_again(write_graph: WriteGraph) -> None:
    engine = opened(doubling(write_graph, FLOAT, ["N", "M"]))
    before = engine._sound().result()
    neighbour = before.shared._compiled.create_infer_request()
    with pytest.raises(RuntimeError):
        neighbour.infer({0: np.ones((1, 2, 3), np.float32)})
    before.shared._untried.append(neighbour)  # as if its thread were still waiting for the interpreter
    assert engine.run({"x": np.ones((1, 2), np.float32)}, False)["y"].tolist() == [[2.0, 2.0]]
    assert engine._sound().result() is not before


def test_runs_that_go_on_in_a_graph_in_which_one_failed_can_be_ended(write_graph: WriteGraph) -> None:
    engine = opened(doubling(write_graph, FLOAT, ["N", "M"]))
    engine.run({"x": np.ones((1, 2), np.float32)}, False)
    before = engine._sound().result()
    before.shared._requests.append(before.shared._compiled.create_infer_request())  # of a run that hangs
    with pytest.raises(RuntimeError):
        engine.run({"x": np.ones((1, 2, 3), np.float32)}, False)
    assert engine._sound().result() is not before
    engine.interrupt()
    assert before.was_cancelled


def test_runs_beside_and_after_interrupted_ones_give_their_own_outputs(write_graph: WriteGraph) -> None:
    random = np.random.RandomState(0)
    nodes: list[Node] = [("Conv", [f"x{i}", "w"], f"x{i + 1}", {"pads": [1, 1, 1, 1]}) for i in range(8)]
    weights = random.standard_normal((16, 16, 3, 3)).astype(np.float32) / 12
    ends = [("x0", FLOAT, ["N", 16, 32, 32])], [("x8", FLOAT, ["N", 16, 32, 32])]
    engine = opened(write_graph(nodes, *ends, {"w": weights}), lanes=2, threads=2)
    items = random.standard_normal((8, 16, 32, 32)).astype(np.float32)
    expected = np.concatenate([engine.run({"x0": item[None]}, False)["x8"] for item in items])
    over, faults, ended = threading.Event(), list[str](), list[int]()

    def work(seed: int) -> None:
        order = np.random.RandomState(seed)
        while not over.is_set():
            first, last = sorted(order.choice(9, 2, replace=False))
            try:
                found = engine.run({"x0": items[first:last].copy()}, False)["x8"]
            except RuntimeError as error:
                if "cancel" not in str(error) and "interrupted" not in str(error):
                    faults.append(str(error))
                continue
            ended.append(first)
            if not np.array_equal(found, expected[first:last]):
                faults.append(f"{found.shape} for {last - first} items")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(INTERRUPTS):
        before, until = len(ended), time.monotonic() + 30
        while len(ended) == before and not faults and time.monotonic() < until:  # each is followed by a run that ends
            time.sleep(0.001)
        engine.interrupt()
    over.set()
    for thread in threads:
        thread.join()
    assert faults == []


def test_a_graph_without_a_batch_axis_keeps_its_axes(write_graph: WriteGraph) -> None:
    engine = OpenVinoCpuEngine(doubling(write_graph, FLOAT, []), 1, 1, False, "fp32")
    assert engine.inputs == (TensorSpec("x", "FP32", ()),)
    found = engine.run({"x": np.array(3, np.float32)}, True)["y"]
    assert (found.shape, float(found)) == ((), 6.0)


def test_a_damaged_graph_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(StartError, match=r"model.onnx: OpenVINO cannot read it: .*parsed$") as caught:
        opened(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(StartError, match=r"OpenVINO cannot read it: .*Could not open the file"):
        opened(tmp_path / "absent.onnx")


@pytest.mark.parametrize(("lanes", "threads"), WAYS)
def test_a_run_in_progress_can_be_ended_and_later_ones_fail(write_graph: WriteGraph, lanes: int, threads: int) -> None:
    side = 2048
    nodes: list[Node] = [("MatMul", [f"x{i}", "w"], f"x{i + 1}", {}) for i in range(100)]
    ends = [("x0", FLOAT, ["N", side])], [("x100", FLOAT, ["N", side])]
    engine = opened(write_graph(nodes, *ends, {"w": np.eye(side, dtype=np.float32)}), lanes, threads)
    arrays = {"x0": np.zeros((side, side), np.float32)}
    errors: list[Exception] = []

    def work() -> None:
        try:
            engine.run(arrays, False)
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():  # until it has begun, there is nothing to end
        engine.stop()
        thread.join(0.05)
    assert len(errors) == 1
    with pytest.raises(RuntimeError, match="stopped"):
        engine.run(arrays, True)


def test_bf16_is_less_precise_and_says_if_the_processor_has_none(
    write_graph: WriteGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = np.random.RandomState(0).randn(64, 64).astype(np.float32)
    path = write_graph(
        [("MatMul", ["x", "w"], "y", {})], [("x", FLOAT, ["N", 64])], [("y", FLOAT, ["N", 64])], {"w": weights}
    )
    if bf16_supported():
        x = np.random.RandomState(1).randn(4, 64).astype(np.float32)
        precise, rounded = (opened(path, precision=each).run({"x": x}, False)["y"] for each in ("fp32", "bf16"))
        np.testing.assert_allclose(precise, x @ weights, atol=1e-4)
        assert 1e-3 < np.abs(precise - rounded).max() < 0.5
    monkeypatch.setattr("server.engines.openvino.engine.bf16_supported", lambda: False)
    with pytest.raises(StartError, match="this processor has no bf16 instructions"):
        opened(path, precision="bf16")


ON_ONE_CORE = """
import os, sys
from pathlib import Path
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import numpy as np
from server.engines.openvino.engine import OpenVinoCpuEngine
lanes, threads = int(sys.argv[2]), int(sys.argv[3])
engine = OpenVinoCpuEngine(Path(sys.argv[1]), lanes, threads, True, "fp32")
for whole_device in (False, True):
    right = {"x": np.ones((1, 1, 2), np.float32), "z": np.ones((1, 2, 1), np.float32)}
    print(engine.run(right, whole_device)["y"].tolist())
    wrong = {"x": np.ones((1, 1, 2), np.float32), "z": np.ones((1, 3, 1), np.float32)}
    try:
        print(engine.run(wrong, whole_device)["y"].tolist())
    except RuntimeError as error:
        print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="has no sched_setaffinity")
@pytest.mark.parametrize(("lanes", "threads"), [(1, 2), (2, 2), (2, 4)])
def test_on_one_core_a_run_that_fails_says_so_whatever_threads_were_requested(
    lanes: int, threads: int, write_graph: WriteGraph
) -> None:
    """OpenVINO then takes one thread, with which a stream gives the outputs of the run before."""
    both = [("x", FLOAT, ["N", 1, "M"]), ("z", FLOAT, ["N", "M", 1])]
    path = write_graph([("MatMul", ["x", "z"], "y", {})], both, [("y", FLOAT, ["N", 1, 1])], {})
    command = [sys.executable, "-c", ON_ONE_CORE, str(path), str(lanes), str(threads)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.splitlines() == ["[[[2.0]]]", "refused"] * 2


WATCHED = """
import sys
sys.addaudithook(lambda event, given: event.startswith(("socket.", "urllib", "http")) and print(event, given))
from server.engines.openvino.engine import OpenVinoCpuEngine
from pathlib import Path
OpenVinoCpuEngine(Path(sys.argv[1]), 1, 1, True, "fp32")
print(*[name for name, found in sys.modules.items() if found and ("telemetry" in name or "ovc" in name)])
"""


def test_openvino_sends_nothing_and_writes_nothing(tiny: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-c", WATCHED, str(tiny)]
    given = {**os.environ, "HOME": str(home)}
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=given, cwd=ROOT)
    assert answer.stdout.strip() == ""
    assert list(home.rglob("*")) == [], "its model converter writes an id, and sends usage data"
