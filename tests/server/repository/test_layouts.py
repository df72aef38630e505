"""Other layouts of a version's files: Triton's folder in place of model.onnx, and files behind links."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import aio as triton

from server.errors import ModelNotFound
from server.repository.scan import find

WEIGHTS = {"weight": np.arange(48, dtype=np.float32).reshape(4, 12), "data/bias.bin": np.ones(12, np.float32)}
X = np.random.RandomState(0).randn(3, 4).astype(np.float32)


def save(path: Path, one_file: str = "", scattered: bool = False) -> None:
    """x (N, 4) -> y (N, 12), with its weights inside, in `one_file`, or `scattered` over a file each."""
    weights = [numpy_helper.from_array(value, name) for name, value in WEIGHTS.items()]
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["flat"]),
        helper.make_node("Add", ["flat", "data/bias.bin"], ["y"]),
    ]
    shapes = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", 4), ("y", 12))
    ]
    graph = helper.make_graph(nodes, "g", shapes[:1], shapes[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.parent.mkdir(parents=True)
    if scattered:
        (path.parent / "data").mkdir()
        for tensor in model.graph.initializer:
            onnx.external_data_helper.set_external_data(tensor, tensor.name)
    elif one_file:
        onnx.external_data_helper.convert_model_to_external_data(model, True, one_file, size_threshold=0)
    onnx.save(model, path)


def link(folder: Path, store: Path, names: list[str], absolute: bool = False) -> None:
    """Moves each file into a folder of its own in `store`, and leaves a link to it."""
    for index, name in enumerate(names):
        target = store / f"{index}" / "object"
        target.parent.mkdir(parents=True)
        (folder / name).rename(target)
        start = os.path.realpath((folder / name).parent)
        (folder / name).symlink_to(target.resolve() if absolute else os.path.relpath(target.resolve(), start))


def folder_of_the_graph(model: Path, store: Path) -> None:
    save(model / "1" / "model.onnx" / "model.onnx", "w.bin")


def folder_of_another_name(model: Path, store: Path) -> None:
    save(model / "1" / "faces.onnx" / "model.onnx", "w.bin")
    (model / "config.pbtxt").write_text('default_model_filename: "faces.onnx" max_batch_size: 4')


def folder_with_links(model: Path, store: Path) -> None:
    save(model / "1" / "model.onnx" / "model.onnx", "w.bin")
    link(model / "1" / "model.onnx", store, ["model.onnx", "w.bin"])


def graph_and_data_linked(model: Path, store: Path) -> None:
    save(model / "1" / "model.onnx", "model.onnx.data")
    link(model / "1", store, ["model.onnx", "model.onnx.data"])


def absolute_links(model: Path, store: Path) -> None:
    save(model / "1" / "model.onnx", "model.onnx.data")
    link(model / "1", store, ["model.onnx", "model.onnx.data"], absolute=True)


def several_data_files(model: Path, store: Path) -> None:
    save(model / "1" / "model.onnx", scattered=True)
    link(model / "1", store, ["model.onnx", *WEIGHTS])


def only_the_graph_linked(model: Path, store: Path) -> None:
    save(model / "1" / "model.onnx", scattered=True)
    link(model / "1", store, ["model.onnx"])


def only_the_data_linked(model: Path, store: Path) -> None:
    save(model / "1" / "model.onnx", scattered=True)
    link(model / "1", store, [*WEIGHTS])


def version_linked(model: Path, store: Path) -> None:
    """Also the version's folder, as Kubernetes mounts a volume of a ConfigMap."""
    save(store / "version" / "model.onnx", "model.onnx.data")
    link(store / "version", store, ["model.onnx", "model.onnx.data"])
    model.mkdir()
    (model / "1").symlink_to(store / "version")


LAYOUTS = [
    folder_of_the_graph, folder_of_another_name, folder_with_links, graph_and_data_linked, absolute_links,
    several_data_files, only_the_graph_linked, only_the_data_linked, version_linked,
]  # fmt: skip


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    for layout in LAYOUTS:
        layout(root / layout.__name__, tmp_path / "store" / layout.__name__)
    return root


@pytest.mark.parametrize("frontend", ["native"])  # what is loaded is the same for both
async def test_every_layout_is_served(start: Any, repository: Path) -> None:
    running = await start()
    reasons = {entry.name: entry.reason for entry in running.server.repository.index() if entry.reason}
    assert not reasons
    tensor = triton.InferInput("x", [3, 4], "FP32")
    tensor.set_data_from_numpy(X)
    async with triton.InferenceServerClient(running.target) as client:
        for layout in LAYOUTS:
            answer = (await client.infer(layout.__name__, [tensor])).as_numpy("y")
            np.testing.assert_allclose(answer, X @ WEIGHTS["weight"] + 1, rtol=1e-5, err_msg=layout.__name__)


@pytest.mark.parametrize("frontend", ["native"])
async def test_a_link_that_leads_nowhere_is_that_models_reason(start: Any, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "store" / "graph_and_data_linked" / "1" / "object").unlink()
    running = await start()
    reasons = {entry.name: entry.reason for entry in running.server.repository.index() if entry.reason}
    assert [*reasons] == ["graph_and_data_linked"]
    assert "model.onnx.data" in reasons["graph_and_data_linked"]


@pytest.mark.parametrize("name", ["x" * 256, "x" * 300_000, "absent"])
def test_a_name_that_no_folder_can_have_is_no_model_rather_than_one_that_cannot_be_read(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelNotFound):
        find(tmp_path, name)
