"""Encoders of pSp and e4e against the reference, from the file as their repositories save it to the served model."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tritonclient.grpc as triton
from PIL import Image
from torch import Tensor

from artifact.repository import read_manifest
from artifact.spec import Task
from export.errors import ExportError
from export.graph.samples import sample_inputs
from export.inspection import inspect
from export.pipeline import Request, export
from ganserve import Client, InvalidRequest
from ganserve.cli.main import main
from ganserve.client.projection import project
from models.architecture import ArchitectureError
from models.catalogue import ARCHITECTURES, build, recognise
from models.checkpoints.read import read
from tests.models.cases.base import trained
from tests.models.cases.stylegan2 import settle
from tests.models.references.psp import Encoder
from tests.models.references.stylegan2 import StyleGan2
from tests.serving import running

WIDTHS, LAYERS, SIDE = (16, 16, 32, 48, 64), 8, 32
TYPES = {"GradualStyleEncoder": False, "Encoder4Editing": True}
MEAN = torch.linspace(-1, 1, LAYERS * WIDTHS[-1]).reshape(LAYERS, -1)


def reference(kind: str, channels: int = 3) -> Encoder:
    network = Encoder(TYPES[kind], WIDTHS, LAYERS, 2, channels)
    state = trained(network)
    state = {key: tensor * 8 if key.endswith("linear.weight") else tensor for key, tensor in state.items()}
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


@dataclass(frozen=True)
class Saved:
    """A file of pSp's or e4e's training, the encoder in it, and what it gives."""

    path: Path
    network: Encoder

    def w(self, images: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.asarray((self.network(images) + MEAN).numpy(), np.float32)


def save(path: Path, kind: str, **changes: Any) -> Saved:
    network = reference(kind)
    generator = StyleGan2((16, 12, 10, 6), WIDTHS[-1], n_mlp=2)
    generator.load_state_dict(trained(generator))
    settle(generator)
    decoder = generator.state_dict()
    state = {f"encoder.{key}": value for key, value in network.state_dict().items()}
    state |= {f"decoder.{key}": value for key, value in decoder.items()}
    opts = {"encoder_type": kind, "start_from_latent_avg": True, "output_size": 32, "lr": 1e-4}
    torch.save({"state_dict": state, "latent_avg": MEAN, "opts": opts, **changes}, path)
    return Saved(path, network)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Saved]:
    folder = tmp_path_factory.mktemp("encoders")
    return {kind: save(folder / f"{kind}.pt", kind) for kind in TYPES}


@pytest.mark.parametrize("kind", TYPES)
def test_w_is_that_of_the_reference_with_the_mean_added(saved: dict[str, Saved], kind: str) -> None:
    checkpoint = read(saved[kind].path)
    name, generator = build(checkpoint.state, config=checkpoint.config)
    assert (name, generator.task, generator.hyperparameters["encoder_type"]) == ("psp", Task.ENCODER, kind)
    assert (generator.w_shape, generator.image_size_px) == ((LAYERS, WIDTHS[-1]), (SIDE, SIDE))
    for seeds in ((5,), (1, 2, 3)):
        image = torch.from_numpy(sample_inputs(generator, "float32", seeds)["image"])
        expected = saved[kind].w(image)
        assert expected.std() > 0.1
        np.testing.assert_allclose(generator.network(image).numpy(), expected, rtol=0, atol=2e-4)


def test_only_this_architecture_takes_an_encoder() -> None:
    state = reference("Encoder4Editing").state_dict()
    assert recognise(state) == ("psp",)
    assert not ARCHITECTURES["psp"].matches({key: value for key, value in state.items() if "latlayer2" not in key})
    assert not ARCHITECTURES["psp"].matches({**state, "styles.2.linear.bias": torch.zeros(3)})
    assert not ARCHITECTURES["psp"].matches({**state, "latent_avg": torch.zeros(3)})


def test_what_the_file_does_not_say_must_be_said() -> None:
    state = reference("Encoder4Editing").state_dict()
    with pytest.raises(ArchitectureError, match=r"--set encoder_type=GradualStyleEncoder \(pSp\) or Encoder4Editing"):
        build(state)
    with pytest.raises(ArchitectureError, match="the file has no latent_avg, which is to be added"):
        build(state, overrides={"encoder_type": "Encoder4Editing"})
    overrides = {"encoder_type": "Encoder4Editing", "start_from_latent_avg": "false"}
    assert build(state, overrides=overrides)[1].hyperparameters["latent_avg"] == "not added"
    one_mean = build({**state, "latent_avg": MEAN[:1]}, overrides={"encoder_type": "Encoder4Editing"})[1]
    torch.testing.assert_close(one_mean.network.get_buffer("mean"), MEAN[:1].expand(LAYERS, -1))
    with pytest.raises(ArchitectureError, match="images of 6 channels; those of RGB"):
        build(reference("Encoder4Editing", 6).state_dict(), overrides=overrides)


def test_an_encoder_type_that_is_not_known_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "other.pt", "Encoder4Editing", opts={"encoder_type": "Other"}).path
    with pytest.raises(ExportError, match="which network it is that is exported, but Other"):
        export(Request(path, tmp_path, "other"))


def test_the_generator_in_the_file_is_exported_by_key(saved: dict[str, Saved]) -> None:
    path = saved["Encoder4Editing"].path
    found = inspect(str(path))
    assert (found.architecture, found.task) == ("psp", "encoder")
    assert any("--key state_dict.decoder exports it" in note for note in found.notes)
    assert found.picture == f"{SIDE}x{SIDE}, 3 channel(s) -> w of {LAYERS} layers"
    assert inspect(str(path), key="decoder").architecture == "stylegan2"


@pytest.fixture(scope="module")
def server(saved: dict[str, Saved], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    repository = tmp_path_factory.mktemp("repository")
    export(Request(saved["Encoder4Editing"].path, repository, "encoder", directions="auto", discriminator="auto"))
    export(Request(saved["Encoder4Editing"].path, repository, "faces", key="decoder"))
    spec = read_manifest(repository / "encoder" / "1")
    assert spec is not None
    assert (spec.task, spec.tensors, spec.w_shape, spec.labels) == ("encoder", "float32", (LAYERS, WIDTHS[-1]), ())
    with pytest.raises(ExportError, match="--precision fp16: an encoder is exported as fp32"):
        export(Request(saved["Encoder4Editing"].path, repository, "encoder", precision="fp16"))
    with running(repository) as process:
        assert process.ready["models"] == 2
        yield process.address


def test_the_served_model_gives_the_references_w(server: str, saved: dict[str, Saved]) -> None:
    images = np.random.RandomState(0).uniform(-1, 1, (3, 3, SIDE, SIDE)).astype(np.float32)
    given = triton.InferInput("image", list(images.shape), "FP32")
    given.set_data_from_numpy(images)
    with triton.InferenceServerClient(server) as client:
        found = client.infer("encoder", [given]).as_numpy("w")
    expected = saved["Encoder4Editing"].w(torch.from_numpy(images))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_the_image_api_says_what_an_encoder_is(server: str) -> None:
    with Client(server) as client:
        listed, _ = client.models()
        assert (listed.task, listed.architecture, listed.height, listed.knobs) == ("encoder", "psp", SIDE, ())
        with pytest.raises(InvalidRequest, match="use ModelInfer"):
            client.generate("encoder", seeds=[0])


def of_projection(arguments: Sequence[str], server: str, image: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    assert main(["project", "faces", str(image), "--json", *arguments, "--server", server]) == 0
    return json.loads(capsys.readouterr().out)


def test_projection_starts_from_the_encoders_w(
    server: str, saved: dict[str, Saved], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    expected = saved["Encoder4Editing"].w(torch.from_numpy(pixels / np.float32(127.5) - 1).permute(2, 0, 1)[None])
    with Client(server) as client:
        w = client.encode("encoder", pixels)
        np.testing.assert_allclose(w[None], expected, rtol=0, atol=1e-3)
        (image,) = client.generate("faces", ws=w[None], format="raw")
    files = ["-o", str(tmp_path / "w.npz"), "--picture", str(tmp_path / "b.png")]
    alone = ["--encoder", "encoder", "--rounds", "0", *files]
    before = of_projection(alone, server, tmp_path / "noise.png", capsys)
    with np.load(tmp_path / "w.npz") as arrays:
        np.testing.assert_allclose(arrays["w"], w[None], rtol=0, atol=1e-4)
    both = np.asarray(Image.open(tmp_path / "b.png")).astype(int)
    np.testing.assert_array_equal(both[:, :SIDE], pixels)
    assert np.abs(both[:, SIDE:] - image.array).max() <= 1
    rounds = ["--encoder", "encoder", "--rounds", "2", "-o", str(tmp_path / "better.npz")]
    after = of_projection(rounds, server, tmp_path / "noise.png", capsys)
    assert after["psnr_db"] > before["psnr_db"]
    with np.load(tmp_path / "better.npz") as arrays:
        moved = arrays["w"][0] - w
    assert np.abs(moved).max() > 1e-3
    np.testing.assert_allclose(moved, np.broadcast_to(moved[:1], moved.shape), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "options", "code", "sentence"),
    [
        ("faces", ["--rounds", "0"], 2, "--rounds 0: is the encoder's w alone; needs --encoder MODEL"),
        ("faces", ["--encoder", "faces"], 7, "model 'faces' is for unconditional; encode needs an encoder"),
        ("faces", ["--encoder", "nobody"], 7, "no model 'nobody' that is ready"),
        ("encoder", [], 7, "generates no images; projection is for generators"),
    ],
)
def test_encoders_that_do_not_fit_are_refused(
    server: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: str,
    options: list[str],
    code: int,
    sentence: str,
) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "grey.png")
    arguments = ["project", model, str(tmp_path / "grey.png"), *options, "-o", str(tmp_path / "w.npz")]
    assert main([*arguments, "--server", server]) == code
    assert sentence in capsys.readouterr().err


def test_w_of_another_generator_is_refused(server: str) -> None:
    with Client(server) as client:
        faces = next(model for model in client.models() if model.name == "faces")
        with pytest.raises(InvalidRequest, match="w to start from is 10x64, model 'faces' takes 8x64"):
            project(client, faces, Image.new("RGB", (9, 9)), w=np.zeros((10, 64), np.float32))
