"""ONNX graphs of others, adopted and served: the client's images are what the graph gives by itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from artifact.spec import Spec
from export.adopt.adopt import adopt
from export.adopt.plain import RunError
from export.adopt.roles import Adoption
from export.errors import ExportError
from export.pipeline import Exported, Request
from ganserve import Client, InvalidRequest
from tests.export.adopt.graphs import (
    FLOAT16,
    enlarger,
    features,
    generator,
    mixing_generator,
    old_generator,
    one_size,
    saved,
    translator,
    unsorted,
    upscaler,
    whitened,
)
from tests.serving import running

SEEDS = [3, 0, 7]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DRAWN: dict[str, tuple[onnx.ModelProto, Adoption]] = {
    "plain": (generator(), Adoption("unconditional", latent="image", output_range=(-1, 1))),
    "fixed-batch": (generator(batch=1), Adoption()),
    "deep-latent": (generator(latent_axes=(1, 1)), Adoption()),
    "tensorflow": (generator(nhwc=True, opset=10, activation="Sigmoid"), Adoption()),
    "float16": (generator(dtype=FLOAT16), Adoption()),
    "numbered": (generator(label="number"), Adoption(label="y", classes=3)),
    "one-hot": (generator(label="one-hot"), Adoption(latent="image", label="y")),
    "old": (old_generator(), Adoption()),
    "mixing": (mixing_generator(), Adoption()),
}
TRANSFORMING: dict[str, tuple[onnx.ModelProto, Adoption]] = {
    "upscaler": (upscaler(), Adoption()),
    "fixed-upscaler": (upscaler(size=(16, 16), batch=1), Adoption()),
    "whole-upscaler": (upscaler(whole=True), Adoption("super-resolution")),
    "translator": (translator(), Adoption("image-to-image")),
    "levels": (enlarger(levels=True), Adoption()),
    "strong": (enlarger(), Adoption(fixed={"strength": 0.75})),
    "one-size": (one_size(), Adoption("image-to-image")),
    "one-size-twice": (one_size(scale=2), Adoption()),
    "whitened": (unsorted(whitened()), Adoption("image-to-image", mean=MEAN, std=STD)),
}
WHITENED = {"one-size": (0.5, 0.5), "one-size-twice": (0.5, 0.5), "translator": (0.5, 0.5), "whitened": (MEAN, STD)}


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    folder = tmp_path_factory.mktemp("adopted")
    return {
        name: adopt(Request(saved(proto, folder, f"{name}.onnx"), folder / "repository", name), said)
        for name, (proto, said) in {**DRAWN, **TRANSFORMING}.items()
    }


@pytest.fixture(scope="module")
def client(adopted: dict[str, Exported]) -> Iterator[Client]:
    repository = adopted["plain"].folder.parents[1]
    with running(repository) as server, Client(server.address) as opened:
        assert {model.name for model in opened.models()} == set(adopted)
        yield opened


def alone(proto: onnx.ModelProto, **given: NDArray[Any]) -> NDArray[np.float64]:
    """What ONNX Runtime gives for the graph itself, channels last."""
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}
    arrays = {
        one.name: array.astype(types[one.type]) for one, array in zip(session.get_inputs(), given.values(), strict=True)
    }
    values: NDArray[np.float64] = session.run(None, arrays)[0].astype(np.float64)
    return values if values.shape[3] == 3 else values.transpose(0, 2, 3, 1)


def levels(values: NDArray[np.float64], low: float) -> NDArray[np.float64]:
    return np.clip((values - low) * (255 / (1 - low)), 0, 255)


@pytest.mark.parametrize("name", DRAWN)
def test_generated_images_are_the_graphs_own(name: str, client: Client, adopted: dict[str, Exported]) -> None:
    proto, _ = DRAWN[name]
    spec = adopted[name].spec
    labels: list[str] | None = ["2", "0", "1"] if spec.labels else None
    images = client.generate(name, seeds=SEEDS, labels=labels)
    for at, image in enumerate(images):
        latent = np.random.RandomState(SEEDS[at]).randn(1, spec.latent_size)
        arrays: dict[str, NDArray[Any]] = {"latent": latent[..., None, None] if name == "deep-latent" else latent}
        if labels:
            number = int(labels[at])
            arrays["label"] = np.eye(3)[[number]] if name == "one-hot" else np.array([number])
        expected = levels(alone(proto, **arrays)[0], 0.0 if name == "tensorflow" else -1.0)
        assert image.array.shape == spec.image_shape
        assert np.abs(image.array - expected).max() <= (2.0 if name == "float16" else 0.51)
        assert np.ptp(image.array) > 20, "an image, not a flat colour"


@pytest.mark.parametrize("name", TRANSFORMING)
def test_transformed_images_are_the_graphs_own(name: str, client: Client) -> None:
    proto, said = TRANSFORMING[name]
    height = 16 if name == "fixed-upscaler" else 12  # as it was exported
    image = np.random.RandomState(0).randint(0, 256, (height, 16, 3)).astype(np.uint8)
    mean, std = map(np.asarray, WHITENED.get(name, (0.0, 1 / 255 if name == "levels" else 1.0)))
    values = ((image / 255 - mean) / std)[None]
    given = {"image": values if name == "translator" else values.transpose(0, 3, 1, 2)}
    if name == "strong":
        given["strength"] = np.array([0.75])
    own = alone(proto, **given)[0]
    expected = np.clip(own, 0, 255) if name == "levels" else levels(own, -1.0 if name in WHITENED else 0.0)
    found = (client.translate if said.task == "image-to-image" else client.upscale)(name, image).array
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 0.51


def test_graphs_that_compute_in_floats_take_images_of_16_bits(adopted: dict[str, Exported], client: Client) -> None:
    assert all(adopted[name].spec.float_parity is not None for name in TRANSFORMING)
    ramp = np.linspace(0, 1, 16 * 16).reshape(16, 16, 1).repeat(3, axis=2).astype(np.float32)  # sent as 16 bits
    found = client.upscale("fixed-upscaler", ramp, bits=16, format="raw")
    said = client.upscale("fixed-upscaler", ramp, bits=8, format="raw")
    difference = found.array.astype(np.float64) / 65535 - said.array.astype(np.float64) / 255
    assert np.abs(difference).max() < 1.01 / 255
    assert len(np.unique(found.array)) > 2 * len(np.unique(said.array))


def test_sizes_and_tiles_are_measured(adopted: dict[str, Exported]) -> None:
    def facts(name: str) -> tuple[int, int, int, int | None]:
        spec = adopted[name].spec
        return spec.scale, spec.multiple_px, spec.least_px, spec.tile.receptive_field_px if spec.tile else None

    assert facts("upscaler") == facts("fixed-upscaler") == (2, 1, 1, 2)
    assert facts("translator") == (1, 4, 4, None)
    assert facts("whole-upscaler") == (2, 1, 1, None)
    assert any("not tileable" in note for note in adopted["whole-upscaler"].notes)


def test_a_graph_of_one_size_takes_no_other(client: Client, adopted: dict[str, Exported]) -> None:
    assert adopted["one-size-twice"].spec.image_shape == (12, 16, 3)
    assert "takes images of 16 x 12 px only" in adopted["one-size"].notes[1]
    for call, name in ((client.translate, "one-size"), (client.upscale, "one-size-twice")):
        with pytest.raises(InvalidRequest, match="24 x 12 px, but the model takes images of 16 x 12 px only"):
            call(name, np.zeros((12, 24, 3), np.uint8))


def test_what_was_done_to_a_graph_is_in_its_manifest(adopted: dict[str, Exported]) -> None:
    assert adopted["strong"].spec.hyperparameters["fixed"] == "strength=0.75"
    assert adopted["levels"].spec.hyperparameters["range"] == "0,255"
    assert str(adopted["whitened"].spec.hyperparameters["input_range"]).startswith("-2.1179 -2.03571 -1.80444,2.2489")
    assert any("exported for images of 16 x 16 px" in note for note in adopted["fixed-upscaler"].notes)


def test_a_translator_takes_sizes_between_its_multiples(client: Client) -> None:
    assert client.translate("translator", np.zeros((13, 30, 3), np.uint8)).array.shape == (13, 30, 3)


def test_a_batch_is_served_only_where_items_do_not_mix(adopted: dict[str, Exported]) -> None:
    def batch(name: str) -> str:
        return (adopted[name].folder.parent / "config.pbtxt").read_text()

    assert "max_batch_size: 1\n" in batch("mixing")
    assert "in a batch an item gets another output than alone" in " ".join(adopted["mixing"].notes)
    assert "max_batch_size: 16\n" in batch("fixed-batch"), "its Reshape to a batch of 1 is let go"
    assert adopted["mixing"].spec.parity.batch_sizes == (1,)
    for each in adopted.values():
        assert (each.spec.golden is not None) == each.spec.task.draws, "a generator's images are measured"
    assert adopted["fixed-batch"].spec.parity.batch_sizes == (1, 3)


def test_what_was_assumed_is_told(adopted: dict[str, Exported]) -> None:
    assert adopted["tensorflow"].spec.provenance.notes == ("assumed: range 0,1; --range LOW,HIGH changes it",)
    assert adopted["plain"].spec.provenance.notes == ()
    assert Spec.from_json((adopted["plain"].folder / "manifest.json").read_text()).task == "unconditional"


def test_labels_out_of_range_are_refused(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="7"):
        client.generate("numbered", seeds=[1], labels=["7"])


def test_weights_in_another_file_are_taken_in(tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    onnx.save_model(generator(), path, save_as_external_data=True, location="big.data", size_threshold=0)
    found = adopt(Request(path, tmp_path / "repository", "m"), Adoption())
    assert sorted(file.name for file in found.folder.iterdir()) == ["manifest.json", "model.onnx"]


@pytest.mark.parametrize(
    ("proto", "said", "sentence"),
    [
        (generator(activation="Softsign"), Adoption(), r"say what black and white are: --range LOW,HIGH; .* from -"),
        (generator(label="number"), Adoption(), "say how many classes there are: --classes"),
        (generator(label="one-hot"), Adoption(), r"takes image FLOAT \(free, 5\), y FLOAT .*: --latent NAME"),
        (generator(label="one-hot"), Adoption(latent="image"), r"takes also y FLOAT \(free, 3\); .*--label NAME"),
        (generator(), Adoption(latent="z"), r"--latent z: the graph has image FLOAT"),
        (generator(), Adoption("super-resolution"), r"--task super-resolution: takes one image \(4 axes\)"),
        (generator(), Adoption("paint"), "--task paint: must be one of unconditional, class-conditional"),
        (generator(), Adoption(classes=3), "--classes 3: needs --label NAME"),
        (generator(), Adoption(layout="NHWC"), "--layout NHWC: the image has 8 channels"),
        (upscaler(), Adoption(latent="input"), "all axes but the batch must be fixed"),
        (upscaler(), Adoption("image-to-image", output_range=(0, 1)), "gives images 2 times as large"),
        (enlarger(), Adoption(), r"takes the image input .* and also strength FLOAT \(1\); .*: --fix strength=NUMBER"),
        (enlarger(), Adoption(fixed={"gain": 1}), "--fix gain: the graph takes input, strength"),
        (enlarger(levels=True, channels=4), Adoption(), "takes 4 channels; upscalers of 1 and 3 are served"),
        (whitened(), Adoption("image-to-image", mean=(1.0, 2.0)), r"--mean: 2 numbers, the image has 3 channel\(s\)"),
        (features(), Adoption("image-to-image", output_range=(0, 1)), "gives 1x12x40x56; an image has 1, 3, 4"),
        (translator(), Adoption(), "say --task image-to-image or super-resolution"),
    ],
)
def test_what_no_shape_tells_is_asked_for(
    proto: onnx.ModelProto, said: Adoption, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=sentence):
        adopt(Request(saved(proto, tmp_path), tmp_path / "repository", "m"), said)
    assert not (tmp_path / "repository").exists()


def test_a_graph_that_fails_on_larger_images_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: object) -> int:
        raise RunError("no memory")

    monkeypatch.setattr("export.adopt.adopt.reach_px", fails)
    with pytest.raises(ExportError, match="runs on small images, and not on larger ones: no memory"):
        adopt(Request(saved(upscaler(), tmp_path), tmp_path / "repository", "m"), Adoption())
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({}, ""),
        ({"out": 0.05}, r"theirs\.npz: the graph's images differ from the file's by \d\.\d+ levels of 255, at most 1"),
        ({"image": None}, r"theirs\.npz: must hold image, out; lacks image, has out"),
        ({"image": np.zeros((2, 5), np.float32)}, r"image \(2, 5\), out \(3, .*; all must have as many items, 1 to 64"),
        ({"image": np.array([{}] * 3)}, "is no .npz file of numbers: Object arrays cannot be loaded"),
    ],
)
def test_figures_of_another_framework_are_compared(wrong: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    latent = np.random.RandomState(1).randn(3, 5).astype(np.float32)
    session = onnxruntime.InferenceSession(generator().SerializeToString(), providers=["CPUExecutionProvider"])
    (images,) = session.run(None, {"image": latent})
    arrays: dict[str, Any] = {"image": latent, "out": images}
    for name, change in wrong.items():
        arrays[name] = arrays[name] + change if isinstance(change, float) else change
    np.savez(tmp_path / "theirs.npz", **{name: array for name, array in arrays.items() if array is not None})
    request = Request(saved(generator(), tmp_path), tmp_path / "repository", "m")
    said = Adoption(reference=tmp_path / "theirs.npz")
    if not sentence:
        (note,) = (note for note in adopt(request, said).spec.provenance.notes if "theirs.npz" in note)
        assert "3 image(s)" in note
        return
    with pytest.raises(ExportError, match=sentence):
        adopt(request, said)
    assert not (tmp_path / "repository").exists()


def test_a_range_that_the_values_contradict_is_refused(tmp_path: Path) -> None:
    request = Request(saved(generator(), tmp_path), tmp_path / "repository", "m")
    with pytest.raises(ExportError, match=r"^--range 0,1: .*, and \d+% of its values lie outside.*; --range -1,1 fits"):
        adopt(request, Adoption(output_range=(0, 1)))
    with pytest.raises(ExportError, match=r"^--range 0,255: .*nearly flat; --range -1,1 fits"):
        adopt(request, Adoption(output_range=(0, 255)))
