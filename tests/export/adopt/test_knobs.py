"""Noise, truncation and w of ONNX graphs of others: what a request sets is what the graph computes with."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from export.adopt.adopt import adopt
from export.adopt.mapping import join
from export.adopt.roles import PSI, Adoption, inputs_of
from export.errors import ExportError
from export.pipeline import Request
from ganserve import Client, Mix
from tests.export.adopt.graphs import generator, knobbed, mapping, saved, synthesis
from tests.serving import running

NOISE = ("noise4", "noise8")
SEEDS, NOISE_SEEDS, PSIS = (3, 5), (7, 8), (0.5, 1.5)
ONE = {
    "psi-of-all": (knobbed(), Adoption(noise=NOISE, truncation="psi")),
    "psi-of-each": (knobbed(psi=("N", 1), noise_batch="N"), Adoption(noise=NOISE, truncation="psi")),
}
TWO = {
    "plain": (mapping(), Adoption(noise=NOISE)),
    "layers": (mapping(layers=2, psi=True), Adoption(noise=NOISE, truncation="psi")),
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("knobs")
    repository = folder / "repository"
    for name, (proto, said) in ONE.items():
        adopt(Request(saved(proto, folder), repository, name), said)
    for name, (proto, said) in TWO.items():
        given = Adoption(noise=said.noise, truncation=said.truncation, mapping=saved(proto, folder, "mapping.onnx"))
        request = Request(saved(synthesis(), folder), repository, name, directions="pca")
        adopt(request, given)
    labelled = Adoption(mapping=saved(mapping(classes=3), folder, "mapping.onnx"), label="c")
    adopt(Request(saved(synthesis(layers=0, noise=False), folder), repository, "classes"), labelled)
    with running(repository) as server, Client(server.address) as opened:
        yield opened


def alone(proto: onnx.ModelProto, **given: NDArray[Any]) -> NDArray[Any]:
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    found: NDArray[Any] = session.run(None, {name: array.astype(np.float32) for name, array in given.items()})[0]
    return found


def pixels(values: NDArray[Any]) -> NDArray[np.int64]:
    return np.clip(np.rint((values + 1) * 127.5), 0, 255).transpose(0, 2, 3, 1).astype(np.int64)


def noise(seed: int) -> dict[str, NDArray[Any]]:
    state = np.random.RandomState(seed)
    state.randn(6)  # the latent
    values = state.randn(80)
    return {"noise4": values[:16].reshape(1, 1, 4, 4), "noise8": values[16:].reshape(1, 1, 8, 8)}


def latent(seed: int) -> NDArray[Any]:
    return np.random.RandomState(seed).randn(1, 6)


@pytest.mark.parametrize("name", ONE)
def test_each_image_has_its_own_noise_and_psi(name: str, client: Client) -> None:
    images = client.generate(name, seeds=SEEDS, truncation=PSIS, noise_seeds=NOISE_SEEDS)
    for image, seed, noise_seed, psi in zip(images, SEEDS, NOISE_SEEDS, PSIS, strict=True):
        shape = (1, 1) if name == "psi-of-each" else ()
        expected = pixels(alone(ONE[name][0], z=latent(seed), psi=np.full(shape, psi), **noise(noise_seed)))
        assert np.abs(expected[0] - image.array).max() <= 1


@pytest.mark.parametrize("name", TWO)
def test_two_graphs_are_served_as_one_with_truncation_w_mixing_and_edits(name: str, client: Client) -> None:
    def w_of(seed: int, psi: float) -> NDArray[Any]:
        w: NDArray[Any] = mean + psi * (alone(mapping(), z=latent(seed))[0] - mean)
        return w

    samples = np.concatenate([latent(seed) for seed in range(4096)])
    mean = alone(mapping(), z=samples).mean(axis=0) if name == "plain" else np.full(6, 0.25)
    images = client.generate(name, seeds=SEEDS, truncation=PSIS, noise_seeds=NOISE_SEEDS, return_w=True)
    for image, seed, noise_seed, psi in zip(images, SEEDS, NOISE_SEEDS, PSIS, strict=True):
        w = np.stack([w_of(seed, psi)] * 2)
        assert image.w is not None
        np.testing.assert_allclose(image.w, w, atol=1e-5)
        expected = pixels(alone(synthesis(), ws=w[None], **noise(noise_seed)))
        assert np.abs(expected[0] - image.array).max() <= 1
        (again,) = client.generate(name, ws=image.w[None], noise_seeds=noise_seed)
        np.testing.assert_array_equal(again.array, image.array)
    (mixed,) = client.generate(name, seeds=3, mixes=[Mix(5, "1")], noise_seeds=7)
    w = np.stack([w_of(3, 1.0), w_of(5, 1.0)])
    assert np.abs(pixels(alone(synthesis(), ws=w[None], **noise(7)))[0] - mixed.array).max() <= 1
    assert client.directions(name)[0].name == "pca-0"
    (edited,) = client.generate(name, seeds=3, edits={"pca-0": 2.0}, return_w=True, noise_seeds=7)
    assert edited.w is not None
    assert np.abs(edited.w - w_of(3, 1.0)).max() > 0.05


def test_classes_of_a_mapping_graph_are_the_models(client: Client) -> None:
    (image,) = client.generate("classes", seeds=3, labels=2)
    w = alone(mapping(classes=3), z=latent(3), c=np.eye(3)[2:])
    assert np.abs(pixels(alone(synthesis(layers=0, noise=False), ws=w))[0] - image.array).max() <= 1


@pytest.mark.parametrize(
    ("proto", "other", "said", "sentence"),
    [
        (knobbed(), None, {"latent": "z"}, r"takes also psi .*--noise NAME.*--truncation NAME.*--fix psi=NUMBER"),
        (knobbed(), None, {"noise": NOISE, "truncation": "noise4"}, "noise4 FLOAT .1, 1, 4, 4.; must be one number"),
        (generator(), None, {"noise": ("n",)}, "--noise n: the graph has image"),
        (synthesis(), mapping(), {}, "besides noise it must take w alone.*--noise NAME"),
        (synthesis(), mapping(psi=True), {"noise": NOISE, "latent": "z"}, "takes also psi .*--truncation NAME"),
        (synthesis(layers=3), mapping(layers=2), {"noise": NOISE}, "gives w of 2 layers and 6 values, not ws"),
        (synthesis(), generator(), {"noise": NOISE}, "must give one w for ws"),
        (synthesis(), mapping(psi=True), {"noise": NOISE, "fixed": {"psi": 1.0, "x": 1.0}}, "--fix x: the graph takes"),
    ],
)  # fmt: skip
def test_inputs_that_do_not_fit_are_named(
    proto: onnx.ModelProto, other: onnx.ModelProto | None, said: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    if other is not None:
        said = {**said, "mapping": saved(other, tmp_path, "mapping.onnx")}
    with pytest.raises(ExportError, match=sentence):
        adopt(Request(saved(proto, tmp_path), tmp_path / "repository", "m"), Adoption(**said))
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize("name", ONE)
def test_figures_of_another_framework_are_compared_with_their_truncation(name: str, tmp_path: Path) -> None:
    proto, said = ONE[name]
    psi = np.full((1, 1) if name == "psi-of-each" else (), 0.5)
    given = [{"z": latent(seed), "psi": psi, **noise(7)} for seed in SEEDS]
    arrays: dict[str, Any] = {
        key: np.stack([each[key].reshape(each[key].shape[1:]) for each in given]) for key in given[0]
    }
    images = np.concatenate([alone(proto, **each) for each in given])
    np.savez(tmp_path / "theirs.npz", **arrays, out=images)
    request = Request(saved(proto, tmp_path), tmp_path / "r", "m")
    notes = adopt(request, replace(said, reference=tmp_path / "theirs.npz")).spec.provenance.notes
    assert any("theirs.npz" in note and "2 image(s)" in note for note in notes)


def test_an_input_that_both_graphs_have_is_fixed_in_both(tmp_path: Path) -> None:
    first, second = mapping(psi=True), synthesis()
    for proto in (first, second):
        proto.graph.input.append(onnx.helper.make_tensor_value_info("mode", onnx.TensorProto.FLOAT, []))
    theirs = saved(first, tmp_path, "mapping.onnx")
    joined, _, _ = join(second, Adoption(noise=NOISE, truncation="psi", mapping=theirs, fixed={"mode": 1.0}))
    assert {tensor.name.rpartition("/")[2] for tensor in inputs_of(joined)} == {"z", *NOISE, PSI, "w", "w_given"}


def test_an_input_that_changes_nothing_is_no_truncation(tmp_path: Path) -> None:
    proto = generator()
    proto.graph.input.append(onnx.helper.make_tensor_value_info("psi", onnx.TensorProto.FLOAT, []))
    with pytest.raises(ExportError, match="--truncation psi: the image is the same whatever its value is"):
        adopt(Request(saved(proto, tmp_path), tmp_path / "r", "m"), Adoption(truncation="psi"))
