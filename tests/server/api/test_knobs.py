"""Models with every parameter, as real graphs with manifest and config, behind both APIs of the real server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
import pytest
from tritonclient.grpc import aio as triton
from tritonclient.utils import InferenceServerException

from ganserve.v1 import images_pb2 as pb
from ganserve.v1.images_pb2_grpc import ImageServiceStub
from server.images.codecs import decode_raw, raw_header
from tests.server.graphs import LAYERS, Z, styled_image, write_styled, write_translator

RAW = pb.Encoding(format=pb.IMAGE_FORMAT_RAW)
LATENT = np.random.RandomState(3).randn(3, Z).astype(np.float32)
NOISE = np.random.RandomState(4).randn(3, Z).astype(np.float32)
WS = np.random.RandomState(5).randn(3, LAYERS, Z).astype(np.float32)
LABEL = np.array([0, 2, 1])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    write_styled(root, "styled")
    write_translator(root, "translator")
    return root


@pytest.fixture
async def target(start: Any) -> str:
    running = await start()
    assert (running.serving.models, running.serving.unavailable) == (2, 0)
    return str(running.target)


@pytest.fixture
async def tensors(target: str) -> AsyncIterator[triton.InferenceServerClient]:
    async with triton.InferenceServerClient(target) as client:
        yield client


@pytest.fixture
async def images(target: str) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(target) as channel:
        yield ImageServiceStub(channel)


def given(**arrays: Any) -> list[triton.InferInput]:
    """The arrays as inputs of a tensor request."""
    inputs = []
    for name, values in arrays.items():
        array = np.asarray(values, np.int64 if name == "label" else np.float32)
        inputs.append(triton.InferInput(name, list(array.shape), "INT64" if name == "label" else "FP32"))
        inputs[-1].set_data_from_numpy(array)
    return inputs


async def infer(client: Any, **arrays: Any) -> Any:
    return (await client.infer("styled", given(**arrays))).as_numpy("image")


async def test_what_a_tensor_request_leaves_out_gets_its_default(tensors: Any) -> None:
    found = await infer(tensors, latent=LATENT, label=LABEL)
    assert np.array_equal(found, [styled_image(z, k) for z, k in zip(LATENT, LABEL, strict=True)])


async def test_what_a_tensor_request_gives_is_used(tensors: Any) -> None:
    found = await infer(
        tensors, latent=LATENT, label=LABEL, noise=NOISE, truncation_psi=[1, 0, -1], w=WS, w_given=[0, 1, 0]
    )
    expected = [
        styled_image(LATENT[0], 0, 1, NOISE[0]),
        styled_image(None, noise=NOISE[1], w=WS[1]),
        styled_image(LATENT[2], 1, -1, NOISE[2]),
    ]
    assert np.array_equal(found, expected)


async def test_w_alone_is_given_in_every_row(tensors: Any) -> None:
    found = await infer(tensors, latent=LATENT, label=LABEL, w=WS)
    assert np.array_equal(found, [styled_image(None, w=w) for w in WS])


async def test_a_row_gets_the_same_defaults_wherever_in_the_batch_it_stands(tensors: Any) -> None:
    rows = [infer(tensors, latent=LATENT[i : i + 1], label=LABEL[i : i + 1]) for i in range(3)]
    together = await infer(tensors, latent=LATENT, label=LABEL)
    assert np.array_equal(np.concatenate(await asyncio.gather(*rows)), together)


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"latent": LATENT}, r"between 2 and 6 but got 1 inputs.* missing required input\(s\) \['label'\]"),
        ({"label": LABEL}, r"missing required input\(s\) \['latent'\]"),
        ({"latent": LATENT, "label": LABEL, "w_given": [1, 1, 1]}, "input 'w' is missing, but 'w_given' is there"),
        ({"latent": LATENT, "label": LABEL, "noise": NOISE[:2]}, "inputs differ in their first axis"),
        ({"latent": LATENT, "label": LABEL, "w": WS[:, :1]}, "unexpected shape for input 'w'"),
    ],
)
async def test_what_has_no_default_or_does_not_fit_is_rejected(tensors: Any, arrays: dict[str, Any], text: str) -> None:
    with pytest.raises(InferenceServerException, match=text) as caught:
        await infer(tensors, **arrays)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


async def test_metadata_lists_every_input_and_the_config_says_which_are_optional(tensors: Any) -> None:
    metadata = await tensors.get_model_metadata("styled")
    names = ["latent", "label", "noise", "truncation_psi", "w", "w_given"]
    assert [tensor.name for tensor in metadata.inputs] == names
    config = (await tensors.get_model_config("styled")).config
    assert [tensor.name for tensor in config.input if tensor.optional] == names[2:]
    assert [list(tensor.dims) for tensor in config.input] == [[Z], [1], [Z], [1], [LAYERS, Z], [1]]


async def test_both_apis_draw_the_same_image(tensors: Any, images: Any) -> None:
    latents = pb.Latents(data=LATENT.astype("<f4").tobytes())
    request = pb.GenerateRequest(model="styled", latents=latents, labels=["one", "three", "two"], encoding=RAW)
    drawn = [image.data for image in (await images.Generate(request)).images]
    assert drawn == [row.tobytes() for row in await infer(tensors, latent=LATENT, label=LABEL)]
    ws = pb.Ws(data=WS.astype("<f4").tobytes(), per_layer=True)
    reply = await images.Generate(pb.GenerateRequest(model="styled", ws=ws, encoding=RAW))
    assert [image.data for image in reply.images] == [styled_image(None, w=w).tobytes() for w in WS]


async def test_seed_truncation_and_noise_seed_reach_the_graph(images: Any) -> None:
    request = pb.GenerateRequest(
        model="styled", seeds=pb.Seeds(values=[6, 7]), labels=["two"], truncations=[1, 0.25], noise_seeds=[7, 6],
        encoding=RAW,
    )  # fmt: skip
    reply = await images.Generate(request)
    streams = {seed: np.random.RandomState(seed).randn(2 * Z) for seed in (6, 7)}
    expected = [
        styled_image(streams[6][:Z], 1, 1, streams[7][Z:]),
        styled_image(streams[7][:Z], 1, 0.25, streams[6][Z:]),
    ]
    assert [image.data for image in reply.images] == [picture.tobytes() for picture in expected]


async def test_a_translator_with_instance_norm_sees_the_whole_reflected_image(images: Any, repository: Path) -> None:
    session = ort.InferenceSession(repository / "translator" / "1" / "model.onnx")
    for height, width in ((4, 4), (5, 7), (1, 1), (13, 2)):
        picture = np.random.RandomState(height).randint(0, 256, (height, width, 3)).astype(np.uint8)
        padding = ((0, -height % 4), (0, -width % 4), (0, 0))
        expected = session.run(None, {"image": np.pad(picture, padding, "reflect")[None]})[0][0, :height, :width]
        request = pb.TranslateRequest(
            model="translator", image=picture.tobytes(), raw_width=width, raw_height=height, encoding=RAW
        )
        image = (await images.Translate(request)).image
        header = raw_header(len(image.data), image.width, image.height)
        assert np.array_equal(decode_raw(image.data, header).pixels, expected)


async def test_a_translator_is_warmed_at_a_size_that_it_takes(start: Any, repository: Path) -> None:
    write_translator(repository, "coarse", multiple_px=36)  # on the 32 px that others are warmed at it would fail
    running = await start()
    assert (running.serving.models, running.serving.unavailable) == (3, 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"noise_size": 0}, "input 'noise' is FP32 [4], which does not follow from its other fields"),
        ({"noise_size": 5}, "input 'noise' is FP32 [4], which does not follow from its other fields"),
        (
            {"truncation_default": None},
            "input 'truncation_psi' is FP32 [], which does not follow from its other fields",
        ),
        ({"w_shape": None}, "input 'w' is FP32 [2, 4], which does not follow from its other fields"),
        ({"inputs": ()}, "input 'latent' is missing"),
    ],
)
async def test_a_manifest_that_contradicts_itself_or_the_graph_is_not_served(
    start: Any, repository: Path, changes: dict[str, Any], reason: str
) -> None:
    write_styled(repository, "wrong", **changes)
    running = await start()
    assert running.serving.unavailable == 1
    with pytest.raises(Exception, match="UNAVAILABLE") as caught:
        running.server.repository.get("wrong")
    assert f"manifest.json: {reason}" in str(caught.value)
