"""The whole path on real weights: zoo -> export -> server -> client, on both front ends."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import tritonclient.grpc as triton
from PIL import Image

from artifact.repository import read_manifest
from ganserve import AsyncClient, Client, InvalidRequest
from tests.exports import of_zoo
from tests.serving import running

pytestmark = pytest.mark.slow

ENSEMBLE = """
platform: "ensemble" max_batch_size: 8
input { name: "LATENT" data_type: TYPE_FP32 dims: [ 100 ] }
output { name: "LARGE_FACE" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }
ensemble_scheduling {
  step {
    model_name: "faces" model_version: -1
    input_map { key: "latent" value: "LATENT" }
    output_map { key: "image" value: "face" }
  }
  step {
    model_name: "realesr-animevideov3" model_version: -1
    input_map { key: "image" value: "face" }
    output_map { key: "upscaled" value: "LARGE_FACE" }
  }
}
"""
PHOTOGRAPH = Path(__file__).resolve().parent.parent / "export" / "pictures" / "astronaut.png"


@pytest.fixture(scope="session")
def zoo_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """faces, digits and the small upscaler, exported as a user would."""
    root = tmp_path_factory.mktemp("zoo")
    for name in ("faces", "digits", "realesr-animevideov3"):
        shutil.copytree(of_zoo(name, tmp_path_factory)[0].parent, root / name)
    (root / "large-faces").mkdir()
    (root / "large-faces" / "config.pbtxt").write_text(ENSEMBLE)
    return root


@pytest.fixture(scope="module", params=["native", "grpcio"])
def server(zoo_repository: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a real server process."""
    with running(zoo_repository, "--frontend", request.param) as process:
        ready = process.ready
        assert (ready["frontend"], ready["models"], ready["unavailable"]) == (request.param, 4, 0)
        yield process.address


def test_the_same_seed_is_the_same_png_alone_and_in_a_mixed_batch(server: str) -> None:
    with Client(server) as client:
        alone = [client.generate("faces", seeds=[seed])[0].data for seed in range(12)]

    async def crowd() -> list[bytes]:
        async with AsyncClient(server) as client:
            others = [client.generate("faces", seeds=range(100 + 9 * i, 109 + 9 * i)) for i in range(8)]
            single = [client.generate("faces", seeds=[seed]) for seed in range(12)]
            answers = await asyncio.gather(*others, *single)
        return [answer[0].data for answer in answers[len(others) :]]

    assert asyncio.run(crowd()) == alone


def test_the_same_seed_is_the_same_image_in_a_full_batch(server: str) -> None:
    latents = np.concatenate([np.random.RandomState(seed).randn(1, 100) for seed in range(32)]).astype(np.float32)
    full = triton.InferInput("latent", [32, 100], "FP32")
    full.set_data_from_numpy(latents)
    with triton.InferenceServerClient(server) as client, Client(server) as ours:
        assert client.get_model_config("faces").config.max_batch_size == 32
        batch = client.infer("faces", [full]).as_numpy("image")
        for seed in range(32):
            np.testing.assert_array_equal(ours.generate("faces", seeds=[seed])[0].array, batch[seed])


def test_a_seed_is_the_latent_of_the_stylegan_tools(server: str, zoo_repository: Path) -> None:
    latent = np.random.RandomState(7).randn(1, 100).astype(np.float32)
    session = ort.InferenceSession(zoo_repository / "faces" / "1" / "model.onnx")
    expected = session.run(None, {"latent": latent})[0][0]
    with Client(server) as client:
        by_seed = client.generate("faces", seeds=[7])[0]
        by_latent = client.generate("faces", latents=latent)[0]
    np.testing.assert_array_equal(by_seed.array, expected)
    np.testing.assert_array_equal(by_latent.array, expected)
    assert (by_seed.seed, by_latent.seed) == (7, None)


def test_labels_choose_the_digit_by_index_and_by_name(server: str) -> None:
    with Client(server) as client:
        by_index = client.generate("digits", seeds=[1], labels=[3])[0]
        by_name = client.generate("digits", seeds=[1], labels=["3"])[0]
        other = client.generate("digits", seeds=[1], labels=[8])[0]
        with pytest.raises(InvalidRequest, match="label"):
            client.generate("digits", seeds=[1], labels=[10])
        with pytest.raises(InvalidRequest, match="label"):
            client.generate("faces", seeds=[1], labels=[1])
    assert by_index.data == by_name.data
    assert by_index.data != other.data
    assert by_index.label == 3


def test_faces_are_generated_and_enlarged_in_one_call(server: str) -> None:
    with Client(server) as client:
        together = client.generate("faces", seeds=range(6), then=["realesr-animevideov3"])
        for image in together[:2]:
            assert image.seed is not None
            face = client.generate("faces", seeds=image.seed)[0]
            assert image.data == client.upscale("realesr-animevideov3", face.data).data
    assert {(image.width, image.height, image.then[0].tiles) for image in together} == {(256, 256, 1)}


def test_an_ensemble_gives_what_the_two_models_give(server: str) -> None:
    latents = np.concatenate([np.random.RandomState(seed).randn(1, 100) for seed in range(3)]).astype(np.float32)
    given = triton.InferInput("LATENT", [3, 100], "FP32")
    given.set_data_from_numpy(latents)
    with triton.InferenceServerClient(server) as client, Client(server) as ours:
        large = client.infer("large-faces", [given]).as_numpy("LARGE_FACE")
        assert large.shape == (3, 256, 256, 3)
        for image, latent in zip(large, latents, strict=True):
            (expected,) = ours.generate("faces", latents=latent, then="realesr-animevideov3", format="raw")
            np.testing.assert_array_equal(image, expected.array)


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_a_label_may_have_the_axis_that_triton_gives_it(server: str, shape: list[int]) -> None:
    latent = np.random.RandomState(1).randn(2, 64).astype(np.float32)
    inputs = [triton.InferInput("latent", [2, 64], "FP32"), triton.InferInput("label", shape, "INT64")]
    inputs[0].set_data_from_numpy(latent)
    inputs[1].set_data_from_numpy(np.array([3, 8], np.int64).reshape(shape))
    with triton.InferenceServerClient(server) as client, Client(server) as ours:
        images = client.infer("digits", inputs).as_numpy("image")
        for item, label in enumerate((3, 8)):
            expected = ours.generate("digits", latents=latent[item], labels=[label])[0].array
            np.testing.assert_array_equal(images[item], expected)


@pytest.mark.parametrize(("height", "width"), [(128, 257), (300, 90)])
def test_a_real_photograph_is_enlarged_as_the_whole_network_would(
    server: str, zoo_repository: Path, height: int, width: int
) -> None:
    name = "realesr-animevideov3"
    photograph = np.asarray(Image.open(PHOTOGRAPH).convert("RGB"))
    sent = np.pad(photograph, ((0, 172), (0, 172), (0, 0)), "symmetric")[:height, :width]
    session = ort.InferenceSession(zoo_repository / name / "1" / "model.onnx")
    whole = session.run(None, {"image": sent[None]})[0][0]
    spec = read_manifest(zoo_repository / name / "1")
    assert spec is not None
    assert spec.tile is not None
    with Client(server) as client:
        answer = client.upscale(name, sent)
    assert answer.array.shape == (4 * height, 4 * width, 3)
    assert answer.tiles == 2
    difference = np.abs(answer.array.astype(int) - whole.astype(int)).max()
    assert spec.tile.seam_levels == 0
    assert difference <= 1, "another engine may round otherwise"


def test_two_thousand_images_let_others_in(server: str) -> None:
    async def both() -> tuple[int, bool]:
        async with AsyncClient(server) as client:
            big = asyncio.create_task(client.generate("digits", seeds=range(2000), labels=[5], format="png"))
            await client.generate("digits", seeds=[1], labels=[1])
            let_in = not big.done()
            return len(await big), let_in

    assert asyncio.run(both()) == (2000, True)
