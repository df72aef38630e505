"""A repository with everything in it that can be wrong: each model has its reason, the others serve."""

import asyncio
import gzip
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import aio as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from ganserve.v1 import images_pb2, images_pb2_grpc
from tests.server.conftest import Running, Start, read_page, write_tiny
from tests.server.graphs import write_styled

Code = grpc.StatusCode
LATENT = np.arange(4, dtype=np.float32)[None]
PNG_PAGE = b"<!DOCTYPE html>\n<html><title>404</title>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 3456\n"


def save(folder: Path, nodes: list[Any], constants: dict[str, Any], output: Any, batch: Any = "N") -> None:
    """A graph of latent (N, 4) float32 as version 1 in `folder`, without a config."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("latent", TensorProto.FLOAT, [batch, 4])],
        [output],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    (folder / "1").mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    onnx.save(model, folder / "1" / "model.onnx")


def floats(*axes: Any) -> Any:
    return helper.make_tensor_value_info("y", TensorProto.FLOAT, list(axes))


def cast_to(kind: str) -> Callable[[Path], None]:
    """A model whose output is of that type, which the protocol lacks."""

    def write(folder: Path) -> None:
        to = getattr(TensorProto, kind)
        save(
            folder, [helper.make_node("Cast", ["latent"], ["y"], to=to)], {},
            helper.make_tensor_value_info("y", to, ["N", 4]),
        )  # fmt: skip

    return write


def sequence(folder: Path) -> None:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 4]))
    save(
        folder, [helper.make_node("SequenceConstruct", ["latent"], ["y"])], {}, helper.make_value_info("y", kind)
    )  # fmt: skip


def graph_of(*nodes: Any, **constants: Any) -> Callable[[Path], None]:
    """A model of those nodes, the last of which gives `y` (?, ?)."""

    def write(folder: Path) -> None:
        save(folder, list(nodes), constants, floats("rows", "values"))
        (folder / "config.pbtxt").write_text("max_batch_size: 8")

    return write


def endless(folder: Path) -> None:
    """A loop that no round ends."""
    axes: list[Any] = ["N", 4]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["goes"]), helper.make_node("Identity", ["x"], ["out"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, axes),
        ],
        [
            helper.make_tensor_value_info("goes", TensorProto.BOOL, []),
            helper.make_tensor_value_info("out", TensorProto.FLOAT, axes),
        ],
    )
    save(folder, [helper.make_node("Loop", ["", "yes", "latent"], ["y"], body=body)], {"yes": True}, floats(*axes))


def fixed_batch(size: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        save(folder, [helper.make_node("Relu", ["latent"], ["y"])], {}, floats(size, 4), size)
        (folder / "config.pbtxt").write_text("max_batch_size: 8")

    return write


def config(text: str | bytes) -> Callable[[Path], None]:
    """A good graph with that config."""

    def write(folder: Path) -> None:
        write_tiny(folder.parent, folder.name)
        data = text.encode() if isinstance(text, str) else text
        (folder / "config.pbtxt").write_bytes(data)

    return write


def manifest(change: Callable[[str], str | bytes]) -> Callable[[Path], None]:
    """A good model with a spoilt manifest."""

    def write(folder: Path) -> None:
        write_styled(folder.parent, folder.name)
        path = folder / "1" / "manifest.json"
        data = change(path.read_text())
        path.write_bytes(data.encode() if isinstance(data, str) else data)

    return write


def without_batch(folder: Path) -> None:
    """A good generator whose config says that it has no batch axis."""
    write_styled(folder.parent, folder.name)
    path = folder / "config.pbtxt"
    path.write_text(re.sub(r"max_batch_size: \d+", "max_batch_size: 0", path.read_text()))


def graph_file(data: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "1").mkdir(parents=True)
        (folder / "1" / "model.onnx").write_bytes(data)

    return write


def with_data(data: bytes) -> Callable[[Path], None]:
    """A graph whose weights are in a file of their own, with something else in that file."""

    def write(folder: Path) -> None:
        weight = np.ones((4, 4), np.float32)
        save(folder, [helper.make_node("MatMul", ["latent", "w"], ["y"])], {"w": weight}, floats("N", 4))
        path = folder / "1" / "model.onnx"
        onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        (folder / "1" / "weights.bin").write_bytes(data)

    return write


def link_to_itself(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        write_tiny(folder.parent, folder.name)
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.symlink_to(path.name)

    return write


def special(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        write_tiny(folder.parent, folder.name)
        make(folder / "config.pbtxt")

    return write


def no_file(make: Callable[[Path], None]) -> Callable[[Path], None]:
    """A model with something else in its graph's place."""

    def write(folder: Path) -> None:
        write_tiny(folder.parent, folder.name)
        (folder / "1" / "model.onnx").unlink()
        make(folder / "1" / "model.onnx")

    return write


def named_pipe(folder: Path) -> None:
    write_styled(folder.parent, folder.name)
    graph = folder / "1" / "model.onnx"
    graph.unlink()
    os.mkfifo(graph)


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "manifest-latin1": (manifest(lambda text: text.encode()[:-3] + b"\xe9\n}\n"), "manifest.json is not UTF-8 text"),
    "manifest-deep": (manifest(lambda text: "[" * 100_000), "manifest: nested too deeply"),
    "manifest-huge": (manifest(lambda text: text.replace('"scale": 1', f'"scale": 1{"0" * 99}')), "scale: an integer"),
    "manifest-digits": (manifest(lambda text: text.replace('"scale": 1', f'"scale": {"9" * 9999}')), "not JSON"),
    "manifest-list": (manifest(lambda text: "[]"), "manifest has schema_version 'list'"),
    "manifest-label": (manifest(lambda text: text.replace('"one"', '"\\udc80"')), "must be text of whole characters"),
    "manifest-scale": (manifest(lambda text: text.replace('"scale": 1', '"scale": -1')), "manifest: scale has -1"),
    "manifest-default": (
        manifest(lambda text: re.sub(r'("truncation_default": )0.5', r"\g<1>-1e300", text)),
        "truncation_default -1e+300 and truncation_range [-2.0, 2.0] are no f",
    ),
    "manifest-range": (
        manifest(lambda text: re.sub(r'("truncation_range": \[\s*)-2.0', r"\g<1>3.0", text)),
        "truncation_range [3.0, 2.0] are no float32",
    ),
    "manifest-key": (manifest(lambda text: text.replace('"outputs"', '"x"')), "manifest: x: unknown key"),
    "manifest-elsewhere": (
        manifest(lambda text: text.replace('"model.onnx": ', '"../../tiny/1/model.onnx": ')), "not in the version's f"
    ),
    "manifest-pointer": (manifest(lambda text: POINTER), "manifest.json is a Git LFS pointer"),
    "config-huge": (config("max_batch_size: 2000000000"), "max_batch_size 2000000000: must be 0 to 1048576"),
    "config-overflow": (config("max_batch_size: 99999999999999999999"), "config.pbtxt: 1:"),
    "config-binary": (config(bytes(range(256))), "config.pbtxt is not UTF-8 text"),
    "config-latin1": (config(b'name: "mod\xe8le"'), "config.pbtxt is not UTF-8 text: byte 0xe8 at 10"),
    "config-escape": (config(r'name: "\377\376"'), "config.pbtxt: "),
    "config-page": (config(PNG_PAGE), "config.pbtxt is a web page"),
    "config-up": (config('default_model_filename: "../../tiny/1/model.onnx"'), "must be a file in the version's"),
    "config-root": (config('default_model_filename: "/etc/passwd"'), "default_model_filename 'passwd': must be"),
    "config-loop": (link_to_itself("config.pbtxt"), "config.pbtxt cannot be read: Too many levels of symbolic links"),
    "config-folder": (special(Path.mkdir), "config.pbtxt is not a file"),
    "config-pipe": (special(os.mkfifo), "config.pbtxt is not a file"),
    "graph-pipe": (no_file(os.mkfifo), "model.onnx is not a file in version 1"),
    "graph-device": (no_file(lambda path: path.symlink_to("/dev/zero")), "model.onnx is not a file in version 1"),
    "manifest-names-pipe": (named_pipe, "model.onnx, named by the manifest, is not a file"),
    "version-loop": (link_to_itself("1"), "Too many levels of symbolic links"),
    "loop": (lambda folder: folder.symlink_to(folder.name), "the folder cannot be read: Too many levels of symbo"),
    "gone": (lambda folder: folder.symlink_to("/nowhere"), "a link to a folder that does not exist"),
    "float8": (cast_to("FLOAT8E4M3FN"), "'y' is tensor(float8e4m3fn), which requests cannot carry"),
    "int4": (cast_to("INT4"), "'y' is tensor(int4), which requests cannot carry"),
    "sequence": (sequence, "'y' is seq(tensor(float)), which requests cannot carry"),
    "empty": (graph_file(b""), "model.onnx is empty"),
    "pointer": (graph_file(POINTER), "model.onnx is a Git LFS pointer, not the file itself; run git lfs pull"),
    "page": (graph_file(PNG_PAGE), "model.onnx is a web page, not a model"),
    "cut": (graph_file(b"\x08\x0a\x12\x07pytorch:\xff\xff"), "model.onnx is cut off: it has 14 bytes of 15"),
    "gzip": (graph_file(gzip.compress(b"graph")), "model.onnx is gzip data; unpack it first; "),
    "zip": (graph_file(b"PK\x03\x04" + bytes(60)), "model.onnx is a zip archive; unpack it first; "),
    "hdf5": (graph_file(b"\x89HDF\r\n\x1a\n" + bytes(60)), "model.onnx is HDF5 (Keras), not ONNX; "),
    "text": (graph_file(b"Entry not found"), "model.onnx is text, not a graph; "),
    "data-empty": (with_data(b""), "weights.bin is empty"),
    "data-pointer": (with_data(POINTER), "weights.bin is a Git LFS pointer"),
    "data-page": (with_data(PNG_PAGE * 9), "weights.bin is a web page"),
    "batch-of-1": (fixed_batch(1), "it ran batches of 1: max_batch_size: 1 in config.pbtxt serves those, or ex"),
    "batch-of-4": (fixed_batch(4), "Got: 1 Expected: 4 Please fix either the inputs/outputs or the model.; a graph"),
    "no-batch": (
        without_batch,
        "tensor 'latent' has dims [4], [-1, 4] in the graph; its first axis is the batch: set max_batch_size in config"
    ),
    "config-utf16": (config("name: 7".encode("utf-16-le")), "config.pbtxt: 1:7"),
    "rows-doubled": (
        graph_of(helper.make_node("Concat", ["latent", "latent"], ["y"], axis=0)),
        "output 'y' has shape [2, 4] for a batch of 1 items",
    ),
    "rows-joined": (
        graph_of(helper.make_node("ReduceSum", ["latent", "axes"], ["y"], keepdims=1), axes=np.array([0])),
        "output 'y' has shape [1, 4] for a batch of 2 items",
    ),
    "rows-reversed": (
        graph_of(
            helper.make_node("Slice", ["latent", "last", "end", "axes", "back"], ["y"]),
            last=np.array([-1]), end=np.array([-(1 << 40)]), axes=np.array([0]), back=np.array([-1]),
        ),
        "output 'y' mixes the items of a batch",
    ),
    "rows-summed": (
        graph_of(helper.make_node("CumSum", ["latent", "axis"], ["y"]), axis=np.int64(0)), "mixes the items of a batch"
    ),
}  # fmt: skip


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two good models next to every bad one, folders that are no models, and a name that is not UTF-8."""
    root = tmp_path / "repository"
    write_tiny(root, "tiny")
    write_styled(root, "styled")
    for name, (write, _) in BAD.items():
        write(root / name)
    for name in ("lost+found", "@eaDir", "notes"):
        (root / name).mkdir()
    (root / "notes" / "readme.txt").write_text("x")
    (root / "file.txt").write_text("x")
    (root / os.fsdecode(b"mod\xe8le") / "1").mkdir(parents=True)
    (root / "line\nbreak" / "1").mkdir(parents=True)
    (root / os.fsdecode(b"notes of Ren\xe9")).mkdir()
    return root


@pytest.fixture
async def running(start: Start) -> Running:
    return await start(strict_readiness=False)


@pytest.fixture
async def stub(running: Running) -> AsyncIterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    async with grpc.aio.insecure_channel(running.target) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def latent() -> list[triton.InferInput]:
    tensor = triton.InferInput("latent", [1, 4], "FP32")
    tensor.set_data_from_numpy(LATENT)
    return [tensor]


async def test_every_answer_about_all_models_names_each_with_its_reason(
    running: Running, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with grpc.aio.insecure_channel(running.target) as channel:
        kserve = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        index = (await kserve.RepositoryIndex(service_pb2.RepositoryIndexRequest())).models
        found = {model.name: (model.state, model.reason) for model in index}
        assert {name for name, (state, _) in found.items() if state == "READY"} == {"tiny", "styled"}
        shown = {f"mod{chr(0xFFFD)}le": "not UTF-8 or not printable", f"line{chr(0xFFFD)}break": "not UTF-8 or not"}
        reasons = {name: reason for name, (_, reason) in BAD.items()} | shown
        assert set(found) == {*reasons, "tiny", "styled"}, "folders without a version and a config are no models"
        wrong = {name: found[name] for name, reason in reasons.items() if reason not in found[name][1]}
        assert not wrong
        assert not [reason for _, reason in found.values() if str(repository) in reason or len(reason) > 1000]

        images = images_pb2_grpc.ImageServiceStub(channel)
        listed = (await images.ListModels(images_pb2.ListModelsRequest())).models
        assert {model.name: model.reason for model in listed} == {name: reason for name, (_, reason) in found.items()}
        assert len((await kserve.ModelStatistics(service_pb2.ModelStatisticsRequest())).model_stats) == 2

    code, lines = await running.readyz()
    assert (code, lines[0]) == (200, "ready"), "not strict"
    for name, reason in reasons.items():
        assert [line for line in lines if line.startswith(f"{name} ") and reason in line], name
    _, metrics = await asyncio.to_thread(read_page, f"{running.url}/metrics")
    assert 'ganserve_model_ready{model="tiny"} 1' in metrics
    assert 'ganserve_model_ready{model="float8"} 0' in metrics
    logged = {record.fields["model"] for record in caplog.get_records("setup") if record.message == "model unavailable"}  # type: ignore[attr-defined]
    assert logged == set(reasons)


async def test_the_good_models_answer_among_the_bad(running: Running) -> None:
    async with triton.InferenceServerClient(running.target) as client:
        assert (await client.infer("tiny", latent())).as_numpy("image").shape == (1, 2, 2, 3)
        with pytest.raises(
            InferenceServerException, match=r"float8' has no available versions: it is UNAVAILABLE: .*which"
        ):
            await client.infer("float8", latent())


async def test_a_bad_model_that_a_client_loads_answers_with_the_same_reason(running: Running, repository: Path) -> None:
    async with triton.InferenceServerClient(running.target) as client:
        for name in ("config-loop", "manifest-deep", "float8", "rows-reversed", "loop", "data-pointer"):
            with pytest.raises(InferenceServerException) as caught:
                await client.load_model(name)
            assert BAD[name][1] in str(caught.value.message())
            assert caught.value.status() == "StatusCode.UNAVAILABLE"
            assert str(repository) not in str(caught.value.message())
        for name in ("lost+found", "notes", "file.txt", "..", "line\nbreak", "\0", "x" * 300, "tiny/1"):
            with pytest.raises(InferenceServerException) as caught:
                await client.load_model(name)
            assert caught.value.status() in ("StatusCode.NOT_FOUND", "StatusCode.UNAVAILABLE"), name
        index = {model.name for model in (await client.get_model_repository_index()).models}
        assert "lost+found" not in index


async def test_a_model_that_is_repaired_can_be_loaded(running: Running, repository: Path) -> None:
    (repository / "config-huge" / "config.pbtxt").write_bytes(b"\xef\xbb\xbfmax_batch_size: 4\r\n")
    (repository / "config-binary" / "config.pbtxt").write_bytes("max_batch_size: 4".encode("utf-16"))
    async with triton.InferenceServerClient(running.target) as client:
        for name in ("config-huge", "config-binary"):
            await client.load_model(name)
            assert (await client.infer(name, latent())).as_numpy("image").shape == (1, 2, 2, 3)


async def test_a_graph_whose_run_does_not_end_is_stopped_and_gives_its_thread_back(
    start: Start, tmp_path: Path
) -> None:
    root = tmp_path / "other"
    endless(root / "endless")
    write_tiny(root, "tiny")
    running = await start(repository=root, hang_timeout_s=1.0, threads=1)
    _, lines = await running.readyz()
    assert "endless 1 UNAVAILABLE: warm-up: a run had not ended after 1 s (hang_timeout_s)" in lines
    async with triton.InferenceServerClient(running.target) as client:
        assert (await client.infer("tiny", latent())).as_numpy("image").shape == (1, 2, 2, 3)


async def test_an_output_that_loses_rows_at_a_run_fails_alone_and_no_caller_gets_anothers(
    start: Start, repository: Path
) -> None:
    """`picky` gives no row for an item whose first value is above 100, which warm-up cannot see."""
    nodes = [
        helper.make_node("Slice", ["latent", "zero", "one", "axis"], ["first"]),
        helper.make_node("LessOrEqual", ["first", "limit"], ["few"]),
        helper.make_node("Reshape", ["few", "flat"], ["kept"]),
        helper.make_node("Compress", ["latent", "kept"], ["y"], axis=0),
    ]
    constants = {"zero": [0], "one": [1], "axis": [1], "limit": np.float32(100), "flat": [-1]}
    graph_of(*nodes, **{key: np.asarray(value) for key, value in constants.items()})(repository / "picky")
    delay = "dynamic_batching { max_queue_delay_microseconds: 100000 preferred_batch_size: 4 }"  # callers surely meet
    (repository / "picky" / "config.pbtxt").write_text(f"max_batch_size: 4 {delay}")
    running = await start(strict_readiness=False)

    async def ask(stub: Any, first: float) -> Any:
        values = np.array([[first, 0, 0, 0]], np.float32)
        tensor = {"name": "latent", "datatype": "FP32", "shape": [1, 4]}
        request = service_pb2.ModelInferRequest(
            model_name="picky", inputs=[tensor], raw_input_contents=[values.tobytes()]
        )
        try:
            return np.frombuffer((await stub.ModelInfer(request)).raw_output_contents[0], np.float32)[0]
        except grpc.aio.AioRpcError as error:
            return error.code()

    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answers = await asyncio.gather(*(ask(stub, first) for first in (200, 1, 2, 3)))
    assert answers == [Code.INTERNAL, 1, 2, 3]
