"""`model_warmup` of config.pbtxt: what a model has to answer before it is ready."""

import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tritonclient.grpc import aio as triton

from server.engines.onnx.cpu import OnnxCpuEngine
from tests.server.api.test_kserve import latent_input
from tests.server.conftest import Start
from tests.server.graphs import write_styled

LATENT = "data_type: TYPE_FP32 dims: 4"
FRONTENDS = pytest.mark.parametrize("frontend", ["native"])  # what is loaded is the same for both


def sample(*inputs: str, name: str = "s", batch_size: int = 1, count: int = 0) -> str:
    rows = "".join(
        f'inputs {{ key: "{key}" value {{ {text} }} }}' for key, text in zip(*[iter(inputs)] * 2, strict=True)
    )
    return f'model_warmup {{ name: "{name}" batch_size: {batch_size} count: {count} {rows} }}'


def write_gather(folder: Path, config: str) -> Path:
    """A graph that fails on an index above 3, and one of strings that it returns: `folder/1/model.onnx`."""
    table = helper.make_tensor("table", TensorProto.FLOAT, [4], [10, 11, 12, 13])
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "index"], ["y"]), helper.make_node("Identity", ["text"], ["said"])],
        "gather",
        [
            helper.make_tensor_value_info("index", TensorProto.INT64, ["batch", 2]),
            helper.make_tensor_value_info("text", TensorProto.STRING, ["batch", 1]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("said", TensorProto.STRING, ["batch", 1]),
        ],
        [table],
    )
    (folder / "1").mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "1/model.onnx"
    )
    (folder / "config.pbtxt").write_text(f"max_batch_size: 4 {config}")
    (folder / "warmup" / "in").mkdir(parents=True)
    return folder


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, NDArray[Any]]]:
    """The inputs of every run of the CPU's engine."""
    runs: list[dict[str, NDArray[Any]]] = []
    real = OnnxCpuEngine.run

    def run(engine: OnnxCpuEngine, arrays: Any, whole_device: bool) -> Any:
        runs.append(dict(arrays))
        return real(engine, arrays, whole_device)

    monkeypatch.setattr(OnnxCpuEngine, "run", run)
    return runs


async def reasons(start: Start, **settings: Any) -> dict[str, str]:
    running = await start(**settings)
    return {entry.name: entry.reason for entry in running.server.repository.index() if entry.failed}


@FRONTENDS
async def test_each_sample_is_run_as_often_as_it_says_before_the_model_is_ready(
    start: Start, tmp_path: Path, ran: list[dict[str, NDArray[Any]]]
) -> None:
    root = tmp_path / "files"
    folder = write_gather(
        root / "gather",
        sample("index", 'data_type: TYPE_INT64 dims: 2 input_data_file: "in/index"', "text",
               'data_type: TYPE_STRING dims: 1 input_data_file: "text"', name="files", batch_size=3, count=2)
        + sample("index", "data_type: TYPE_INT64 dims: 2 zero_data: true", "text",
                 "data_type: TYPE_STRING dims: 1 random_data: true", name="zeros"),
    )  # fmt: skip
    (folder / "warmup" / "in" / "index").write_bytes(np.array([3, 1, 9], np.int64).tobytes())  # more than it takes
    (folder / "warmup" / "text").write_bytes(struct.pack("<I", 5) + "äöu".encode())
    running = await start(repository=root)
    assert running.serving.unavailable == 0
    first, second, third = ran[:3]
    for each in (first, second):
        assert each["index"].tolist() == [[3, 1]] * 3
        assert each["text"].tolist() == [["äöu"]] * 3
    assert (third["index"].tolist(), third["text"].tolist()) == ([[0, 0]], [[""]])


@FRONTENDS
async def test_random_floats_are_finite_and_optional_inputs_have_their_default(
    start: Start, tmp_path: Path, ran: list[dict[str, NDArray[Any]]]
) -> None:
    root = tmp_path / "styled"
    write_styled(root, "styled")
    label = "data_type: TYPE_INT64 dims: 1 zero_data: true"
    (root / "styled" / "config.pbtxt").write_text(
        "max_batch_size: 4 " + sample("latent", f"{LATENT} random_data: true", "label", label, batch_size=2)
    )
    running = await start(repository=root)
    assert not running.serving.unavailable, running.server.repository.index()
    latent = ran[0]["latent"]
    assert latent.shape[0] == 2
    assert np.isfinite(latent).all()
    assert np.ptp(latent) > 0
    assert set(ran[0]) == {tensor.name for tensor in running.server.repository.get_model("styled").engine.inputs}


INDEX = "data_type: TYPE_INT64 dims: 2"
TEXT = "data_type: TYPE_STRING dims: 1 zero_data: true"
ZEROS = f"{INDEX} zero_data: true"
FROM_FILE = f'{INDEX} input_data_file: "{{}}"'
BAD = {
    "fails": (sample("index", FROM_FILE.format("large"), "text", TEXT), "model_warmup 's': "),
    "batch": (sample("index", ZEROS, "text", TEXT, batch_size=5), "batch_size 5: must be 1 to 4"),
    "missing": (sample("index", ZEROS), "input 'text' is missing"),
    "unknown": (sample("index", ZEROS, "text", TEXT, "z", ZEROS), "input 'z' is not in the model"),
    "type": (
        sample("index", "data_type: TYPE_INT32 dims: 2 zero_data: true", "text", TEXT),
        "input 'index' is TYPE_INT32, TYPE_INT64 in the model",
    ),
    "dims": (
        sample("index", "data_type: TYPE_INT64 dims: -1 zero_data: true", "text", TEXT),
        "input 'index' has dims [-1], the model's [2]",
    ),
    "unset": (sample("index", INDEX, "text", TEXT), "one of zero_data, random_data and input_data_file must be set"),
    "outside": (sample("index", FROM_FILE.format("../config.pbtxt"), "text", TEXT), "must be a file in the model"),
    "absent": (sample("index", FROM_FILE.format("no"), "text", TEXT), "warmup/no cannot be read: No such file"),
    "folder": (sample("index", FROM_FILE.format("in"), "text", TEXT), "warmup/in is not a file"),
    "short": (sample("index", FROM_FILE.format("short"), "text", TEXT), "16 bytes, but warmup/short only has 8"),
    "strings": (
        sample("index", ZEROS, "text", 'data_type: TYPE_STRING dims: 1 input_data_file: "short"'),
        "warmup/short: ",
    ),
}  # fmt: skip


@FRONTENDS
async def test_a_model_whose_sample_fails_is_not_ready_and_says_why(start: Start, tmp_path: Path) -> None:
    root = tmp_path / "bad"
    for name, (config, _) in BAD.items():
        folder = write_gather(root / name, config)
        (folder / "warmup" / "large").write_bytes(np.array([0, 4], np.int64).tobytes())
        (folder / "warmup" / "short").write_bytes(np.array([99], np.int64).tobytes())
    found = await reasons(start, repository=root)
    assert {name: reason in found[name] for name, (_, reason) in BAD.items()} == dict.fromkeys(BAD, True), found


@FRONTENDS
async def test_samples_are_limited_in_bytes_and_in_time(
    start: Start, repository: Path, caplog: pytest.LogCaptureFixture, ran: list[dict[str, NDArray[Any]]]
) -> None:
    caplog.set_level(logging.WARNING)
    often = sample("latent", f"{LATENT} zero_data: true", name="often", batch_size=8, count=4_000_000_000)
    (repository / "tiny" / "config.pbtxt").write_text(f"max_batch_size: 8 {often}")
    many = sample("latent", f"{LATENT} zero_data: true", name="many", batch_size=1 << 16)
    (repository / "auto" / "config.pbtxt").write_text(f"max_batch_size: {1 << 16} {many}")
    none = sample("latent", f"{LATENT} zero_data: true", name="none", batch_size=0)
    (repository / "single" / "config.pbtxt").write_text(none)
    running = await start(warmup_s=0, max_message_bytes=1 << 16)
    found = {entry.name: entry.reason for entry in running.server.repository.index() if entry.failed}
    assert "with the samples before it 1048576 bytes, limit 65536 (max_message_bytes)" in found["auto"]
    said = [record.fields["reason"] for record in caplog.records if record.message == "model not warmed"]  # type: ignore[attr-defined]
    assert "model_warmup 'often': 1 of 4000000000 runs were made before requests: the time for it (warmup_s)" in str(
        said
    )
    assert "single" not in found, "a sample of no batch is left out, as in Triton"
    assert any(each["latent"].shape == (8, 4) for each in ran), "the first run is made whatever the time"
    async with triton.InferenceServerClient(running.target) as client:
        assert (await client.infer("tiny", [latent_input(np.ones((1, 4), np.float32))])).as_numpy("image").size == 12
