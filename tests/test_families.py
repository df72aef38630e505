"""Every family behind both APIs: the small networks that tests/models/test_architectures.py exports, served.

There each graph is compared with the training repository's network; here the image API must give, byte for byte, what
the tensor API gives for the same latents, labels and knobs, whatever else is in the batch.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as triton
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from artifact.dtypes import NUMPY_OF, TRITON_OF
from artifact.spec import Spec, Task
from ganserve import Client, GeneratedImage, InvalidRequest
from tests.models.all_cases import CASES, GRAPHS
from tests.models.exported import exported, repository
from tests.serving import running

SEEDS = [4, 9, 2, 4_294_967_295, 0]
KSERVE_OF = {DataType.Value(triton): kserve for kserve, triton in TRITON_OF.items()}
KSERVE = {"float32": "FP32", "int64": "INT64", "uint8": "UINT8"}

Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Spec]:
    """The manifests by name, all in the repository."""
    return {name: exported(name, tmp_path_factory)[1] for name in GRAPHS}


@pytest.mark.parametrize("name", GRAPHS)
def test_onnx_runtime_alone_runs_what_the_config_says(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """As Triton's backend does: tensors of the config's types and dims, reshaped as it says, all of them sent."""
    folder, _ = exported(name, tmp_path_factory)
    config = text_format.Parse((folder.parent / "config.pbtxt").read_text(), ModelConfig())
    assert (config.backend, config.platform) == ("onnxruntime", "onnxruntime_onnx")
    batch = min(2, config.max_batch_size)
    assert batch, "every export has a batch axis"
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    given = {}
    for tensor in config.input:
        assert tensor.dims, "Triton refuses empty dims"
        sizes = [batch, *(64 if size < 0 else size for size in graph_dims(tensor))]
        given[tensor.name] = np.zeros(sizes, NUMPY_OF[KSERVE_OF[tensor.data_type]])
    results = session.run([tensor.name for tensor in config.output], given)
    for tensor, result in zip(config.output, results, strict=True):
        assert tensor.dims, "Triton refuses empty dims"
        dims = graph_dims(tensor)
        assert result.dtype == NUMPY_OF[KSERVE_OF[tensor.data_type]]
        assert len(result) == batch
        assert all(size in (-1, axis) for size, axis in zip(dims, result.shape[1:], strict=True))


def graph_dims(tensor: Any) -> list[int]:
    """What the graph has of an item."""
    return list(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)


@pytest.fixture(scope="module")
def server(specs: dict[str, Spec], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real server process over that repository."""
    with running(repository(tmp_path_factory)) as process:
        assert (process.ready["models"], process.ready["unavailable"]) == (len(specs), 0)
        yield process.address


def infer(server: str, model: str, arrays: Arrays) -> NDArray[Any]:
    """What the tensor API gives."""
    inputs = []
    for name, array in arrays.items():
        inputs.append(triton.InferInput(name, list(array.shape), KSERVE[array.dtype.name]))
        inputs[-1].set_data_from_numpy(array)
    with triton.InferenceServerClient(server) as client:
        answer = client.infer(model, inputs)
        (output,) = answer.get_response().outputs
        return np.asarray(answer.as_numpy(output.name))


def streams(spec: Spec) -> NDArray[np.float32]:
    """Latent and noise of each seed in a row."""
    rows = [np.random.RandomState(seed).randn(spec.latent_size + spec.noise_size) for seed in SEEDS]
    return np.array(rows).astype(np.float32)


def knobs_of(spec: Spec) -> tuple[dict[str, Any], Arrays]:
    """One request with everything the model takes: as the client's arguments and as tensors."""
    z = spec.latent_size
    asked: dict[str, Any] = {"seeds": SEEDS}
    arrays: Arrays = {"latent": streams(spec)[:, :z]}
    if spec.labels:
        asked["labels"] = [i % len(spec.labels) for i in range(len(SEEDS))]
        arrays["label"] = np.array(asked["labels"])
    if spec.noise_size:
        asked["noise_seeds"] = SEEDS[::-1]
        arrays["noise"] = streams(spec)[::-1, z:]
    if spec.truncation_default is not None:
        least, most = spec.truncation_range
        asked["truncation"] = np.linspace(max(least, 0.1), most, len(SEEDS)).astype(np.float32).tolist()
        arrays["truncation_psi"] = np.array(asked["truncation"], np.float32)
    return asked, {name: np.ascontiguousarray(array) for name, array in arrays.items()}


@pytest.mark.parametrize("model", GRAPHS)
def test_both_apis_give_the_same_image_to_the_byte(server: str, specs: dict[str, Spec], model: str) -> None:
    spec = specs[model]
    if not spec.task.draws:
        check_image(server, model, spec)
        return
    asked, arrays = knobs_of(spec)
    rows = [infer(server, model, {name: array[i : i + 1] for name, array in arrays.items()}) for i in range(len(SEEDS))]
    with Client(server) as client:
        images = client.generate(model, format="raw", **asked)
        alone = [client.generate(model, format="raw", **one(asked, i))[0] for i in range(len(SEEDS))]
    for index, image in enumerate(images):
        assert image.data == rows[index][0].tobytes() == alone[index].data
    assert images[0].data != images[1].data
    if spec.w_shape is not None:
        check_ws(server, model, spec, arrays)
        check_w_out(server, model, asked, images)


def one(asked: dict[str, Any], index: int) -> dict[str, Any]:
    """The request for one of its images."""
    return {name: [values[index]] for name, values in asked.items()}


def check_ws(server: str, model: str, spec: Spec, arrays: Arrays) -> None:
    """Explicit w for all layers and for each gives what the tensor API gives for it, and not what the latents give."""
    layers, length = spec.w_shape or (0, 0)
    w = np.random.RandomState(1).randn(len(SEEDS), layers, length).astype(np.float32)
    same = np.ascontiguousarray(np.broadcast_to(w[:, :1], w.shape))
    given = {name: array for name, array in arrays.items() if name != "noise"}
    with Client(server) as client:
        for ws, sent in ((w, w), (same, w[:, 0])):
            expected = infer(server, model, {**given, "w": ws})
            images = client.generate(model, ws=sent, format="raw")
            assert [image.data for image in images] == [row.tobytes() for row in expected]
        assert images[0].data != client.generate(model, format="raw", **one(knobs_of(spec)[0], 0))[0].data


def check_w_out(server: str, model: str, asked: dict[str, Any], images: list[GeneratedImage]) -> None:
    """With the w of each image comes the same image, and that w as input gives it again."""
    with Client(server) as client:
        with_w = client.generate(model, format="raw", return_w=True, **asked)
        ws = np.stack([image.w for image in with_w if image.w is not None])
        noise = {"noise_seeds": asked["noise_seeds"]} if "noise_seeds" in asked else {}
        again = client.generate(model, format="raw", ws=ws, **noise)
    for by_seed, by_mapping, by_w in zip(images, with_w, again, strict=True):
        assert by_seed.data == by_mapping.data == by_w.data


def check_image(server: str, model: str, spec: Spec) -> None:
    """An image of no round size comes back whole: what the network makes of it reflected out, cropped."""
    height, width = (only or free for only, free in zip(spec.image_shape, (37, 23), strict=False))
    levels = spec.input_classes or 256
    image = np.random.RandomState(0).randint(0, levels, (height, width, spec.image_shape[2])).astype(np.uint8)
    multiple_px = spec.multiple_px if spec.tile is None else spec.tile.multiple_px
    sides = [-(-max(side, spec.least_px) // multiple_px) * multiple_px for side in image.shape[:2]]
    padding = [(0, padded - side) for padded, side in zip(sides, image.shape[:2], strict=True)]
    whole = np.pad(image, [*padding, (0, 0)], "reflect")
    arrays: Arrays = {"image": whole[None]}
    asked = guidance(spec, arrays)
    expected = infer(server, model, arrays)[0][: height * spec.scale, : width * spec.scale]
    with Client(server) as client:
        call: Any = client.upscale if spec.task is Task.SUPER_RESOLUTION else client.translate
        made = call(model, image, format="raw", **asked)
    np.testing.assert_array_equal(made.array, expected)


def guidance(spec: Spec, arrays: Arrays) -> dict[str, Any]:
    """What a translator takes beside the image: as the client's arguments, and put into the tensors."""
    names = [tensor.name for tensor in spec.inputs]
    if "attributes" in names:
        arrays["attributes"] = np.zeros((1, len(spec.labels)), np.float32)
        arrays["attributes"][0, [0, -1]] = 1
        return {"labels": [spec.labels[0], len(spec.labels) - 1]}
    asked: dict[str, Any] = {}
    if "label" in names:
        arrays["label"], asked = np.array([1]), {"labels": spec.labels[1]}
    if "reference" in names:  # of the network's own size, so that nothing is resized; given, so that no flag is needed
        shape = next(tensor.shape for tensor in spec.inputs if tensor.name == "reference")
        arrays["reference"] = np.random.RandomState(1).randint(0, 256, (1, *shape)).astype(np.uint8)
        return {**asked, "reference": arrays["reference"][0]}
    if "latent" in names:
        arrays["latent"] = np.random.RandomState(7).randn(1, spec.latent_size).astype(np.float32)
        return {**asked, "seed": 7}
    return asked


@pytest.mark.parametrize("model", GRAPHS)
def test_a_knob_that_the_family_does_not_have_is_refused(server: str, specs: dict[str, Spec], model: str) -> None:
    spec = specs[model]
    knobs: dict[str, Any] = {}
    if spec.task.draws:
        knobs = {} if spec.labels else {"labels": [0]}
        knobs |= {} if spec.noise_size else {"noise_seeds": [0]}
        knobs |= {} if spec.truncation_default is not None else {"truncation": 1.0}
    with Client(server) as client:
        for name, value in knobs.items():
            with pytest.raises(InvalidRequest, match=name):
                client.generate(model, seeds=[1], **{"labels": [0] if spec.labels else None, name: value})
        if spec.task.draws and spec.w_shape is None:
            with pytest.raises(InvalidRequest, match="the model has no w"):
                client.generate(model, ws=np.zeros((1, 4), np.float32))
        (listed,) = (found for found in client.models() if found.name == model)
    assert (listed.architecture, listed.task) == (CASES[model].architecture, spec.task)
    names = {knob.name for knob in listed.knobs}
    assert not names & {name.removesuffix("s") for name in knobs}
    assert names >= ({"seed", "latent"} if spec.task.draws else set())
