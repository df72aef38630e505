"""Edits, mixes and truncation by layer, from the export to the client: a class-conditional StyleGAN and a plain GAN."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from artifact.spec import Spec
from export.pipeline import Request, export
from ganserve import Client, Edit, GeneratedImage, InvalidRequest, Mix
from ganserve.cli.main import main
from ganserve.client.projection import project
from models.families.basic.dcgan import DcganGenerator
from tests.models.all_cases import CASES
from tests.models.cases.base import ready
from tests.serving import ServerProcess, running

STYLE, PLAIN = "style", "plain"
SEEDS = [0, 7, 7, 3]
LABELS = [0, 1, 2, 3]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A StyleGAN2-ADA with 4 classes, 6 layers of w and a cutoff of 3; a DCGAN of 6 numbers."""
    folder = tmp_path_factory.mktemp("latents")
    case = CASES["stylegan2-ada-labels-cutoff"]
    torch.save(dict(case.file(ready(case))), folder / "style.pt")
    np.save(folder / "age.npy", np.array([1.0, 0, 0, 0, 0]))
    np.save(folder / "smile.npy", np.array([1.0, 1, 0, 0, 0]))
    files = tuple(f"{name}={folder / name}.npy" for name in ("smile", "age"))
    target = folder / "repository"
    overrides = dict(case.overrides)
    export(Request(folder / "style.pt", target, STYLE, overrides=overrides, directions="auto", direction_files=files))
    torch.manual_seed(0)
    torch.save(DcganGenerator((6, 16, 8, 3)).state_dict(), folder / "plain.pth")
    export(Request(folder / "plain.pth", target, PLAIN, directions="auto"))
    (target / PLAIN / "directions.txt").write_text("jacobian-0 = brighter\n")
    return target


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[ServerProcess]:
    with running(repository, "--rest-port", "0") as process:
        yield process


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.address) as opened:
        yield opened


@pytest.fixture(scope="module")
def spec(repository: Path) -> Spec:
    return Spec.from_json((repository / STYLE / "1" / "manifest.json").read_text())


def style(client: Client, **given: Any) -> list[GeneratedImage]:
    return client.generate(STYLE, **{"seeds": SEEDS, "labels": LABELS, "format": "raw", **given})


def ws(client: Client, **given: Any) -> np.ndarray[Any, Any]:
    return np.stack([image.w for image in style(client, return_w=True, **given) if image.w is not None])


def pixels(images: list[GeneratedImage]) -> list[bytes]:
    return [image.data for image in images]


def test_directions_are_listed_with_the_names_that_people_gave(client: Client) -> None:
    found = client.directions(STYLE)
    assert [each.name for each in found[:2]] == ["smile", "age"]
    assert {each.kind for each in found} == {"file", "sefa", "pca"}
    assert {(each.space, each.layers) for each in found} == {("w", 6)}
    assert all(each.sigma > 0 for each in found)
    assert [each.name for each in client.directions(PLAIN)][:2] == ["brighter", "jacobian-1"]


def test_an_edit_in_w_adds_its_standard_deviations_after_truncation(client: Client) -> None:
    sigma = client.directions(STYLE)[1].sigma
    strengths = [0.0, 1.0, -2.5, 3.0]
    plain, edited = ws(client, truncation=0.5), ws(client, truncation=0.5, edits=[Edit("age", strengths, "1,4-5")])
    expected = np.zeros((4, 6, 5))
    expected[:, [1, 4, 5], 0] = sigma * np.array(strengths)[:, None]
    np.testing.assert_allclose(edited - plain, expected, atol=1e-5)
    np.testing.assert_array_equal(edited, ws(client, truncation=0.5, edits=[Edit(1, strengths, "1,4-5")]))


def test_an_edit_without_another_direction_leaves_that_alone(client: Client) -> None:
    (moved,) = (ws(client, edits=[Edit("smile", 1.0, without=["age"])]) - ws(client))[:1]
    np.testing.assert_allclose(moved[:, 0], 0, atol=1e-5)
    assert np.abs(moved[:, 1]).min() > 0.1
    length = np.linalg.norm(moved[0])
    assert length == pytest.approx(client.directions(STYLE)[0].sigma, rel=1e-4)


def test_an_edit_of_a_latent_is_the_latent_that_it_says(client: Client, repository: Path) -> None:
    with np.load(repository / PLAIN / "1" / "directions.npz") as arrays:
        vectors = arrays["vectors"][:, 0]
    z = np.random.RandomState(5).randn(1, 6).astype(np.float32)
    expected = client.generate(PLAIN, latents=z + np.float32(2) * vectors[0] - np.float32(1) * vectors[2], format="raw")
    edited = client.generate(PLAIN, seeds=5, edits={"brighter": 2, 2: -1}, format="raw")
    assert pixels(expected) == pixels(edited)
    assert edited[0].data != client.generate(PLAIN, seeds=5, format="raw")[0].data


def test_no_strength_changes_no_byte(client: Client) -> None:
    assert pixels(style(client)) == pixels(style(client, edits={0: 0.0}))
    plain = client.generate(PLAIN, seeds=SEEDS, format="raw")
    assert pixels(plain) == pixels(client.generate(PLAIN, seeds=SEEDS, edits={0: 0.0}, format="raw"))


def test_an_image_does_not_depend_on_the_other_images_of_its_request(client: Client) -> None:
    strengths, mixed = [1.0, -1.0, 2.0, 0.5], [4, 5, 6, 7]
    together = style(client, edits={"smile": strengths}, mixes=[Mix(mixed, "0-2")], return_w=True)
    for index, image in enumerate(together):
        (alone,) = style(
            client,
            seeds=SEEDS[index],
            labels=LABELS[index],
            edits={"smile": strengths[index]},
            mixes=[Mix(mixed[index], "0-2")],
            return_w=True,
        )
        assert (image.data, image.w.tobytes()) == (alone.data, alone.w.tobytes())  # type: ignore[union-attr]


def test_mixed_layers_are_the_other_seeds_and_the_rest_is_the_own(client: Client) -> None:
    mixed = ws(client, truncation=0.7, mixes=[Mix(11, "0,2-3"), Mix([1, 2, 3, 4], "3")])
    own, other = ws(client, truncation=0.7), ws(client, truncation=0.7, seeds=[11] * 4)
    third = ws(client, truncation=0.7, seeds=[1, 2, 3, 4])
    np.testing.assert_array_equal(mixed[:, [1, 4, 5]], own[:, [1, 4, 5]])
    np.testing.assert_array_equal(mixed[:, [0, 2]], other[:, [0, 2]])
    np.testing.assert_array_equal(mixed[:, 3], third[:, 3])


def test_truncation_acts_on_the_layers_that_are_said(client: Client, spec: Spec) -> None:
    assert spec.truncation_cutoff == 3
    whole, mean = ws(client, truncation=1), ws(client, truncation=0, truncation_cutoff=0)[0, 0]
    own = ws(client, truncation=0)
    np.testing.assert_allclose(own[:, :3], np.broadcast_to(mean, (4, 3, 5)), atol=1e-6)
    np.testing.assert_array_equal(own[:, 3:], whole[:, 3:])
    np.testing.assert_array_equal(ws(client, truncation=0, truncation_cutoff=1)[:, 1:], whole[:, 1:])
    each = ws(client, layer_truncations=[0, 1, 0.5, 1, 1, -1])
    np.testing.assert_allclose(each[:, 0], np.broadcast_to(mean, (4, 5)), atol=1e-6)
    np.testing.assert_allclose(each[:, 2], mean + 0.5 * (whole[:, 2] - mean), atol=1e-6)
    np.testing.assert_allclose(each[:, 5], mean - (whole[:, 5] - mean), atol=1e-6)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"edits": {"frown": 1}}, r"edits: no direction 'frown'; the model has 0\.\.\d+ or smile, age, sefa-0"),
        ({"edits": {99: 1}}, "edits: no direction '99'"),
        ({"edits": {"age": [1, 2]}}, "edits.strengths: 2 given for 4 images"),
        ({"edits": {"age": 101}}, r"edits.strengths: 101; must be -100\.\.100"),
        ({"edits": {"age": float("nan")}}, "edits.strengths: nan; must be"),
        ({"edits": [Edit("age", 1, "5-6")]}, r"edits.layers: '5-6'; the model has the layers 0\.\.5"),
        ({"edits": [Edit("age", 1, "coarse")]}, "edits.layers: 'coarse' is not a list of layers such as 0-3,6"),
        ({"edits": [Edit("age", 1, without=["age"])]}, "nothing is left of direction 'age' without age"),
        ({"edits": [Edit("age", 0)] * 33}, "edits: 33 given, at most 32"),
        ({"mixes": [Mix(1, "")]}, "mixes.layers: '' is not a list of layers"),
        ({"mixes": [Mix([1, 2], "0")]}, "mixes.seeds: 2 given for 4 images"),
        ({"layer_truncations": [1, 1]}, "layer_truncations: 2 given; the model has 6 layers"),
        ({"layer_truncations": [1] * 5 + [3]}, "truncations: 3; must be -2..2"),
        ({"layer_truncations": [1] * 6, "truncation": 1}, "given together with truncations"),
        ({"truncation_cutoff": 7}, r"truncation_cutoff: 7; must be 0 \(all\) to 6"),
        (
            {"seeds": None, "labels": None, "ws": np.zeros((1, 5)), "mixes": [Mix(1, "0")]},
            "mixes: given together with ws",
        ),
    ],
)
def test_what_the_model_does_not_have_is_refused(client: Client, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        style(client, **given)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"return_w": True}, "return_w: the model has no w"),
        ({"mixes": [Mix(1, "0")]}, "mixes: the model has no w"),
        ({"truncation_cutoff": 0}, "truncation_cutoff: the model has no w"),
        ({"edits": [Edit(0, 1, "0")]}, "edits.layers: '0' given; the model's edits are of the latent"),
    ],
)
def test_a_model_without_w_says_so(client: Client, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        client.generate(PLAIN, seeds=1, **given)


def test_a_given_w_can_be_edited(client: Client) -> None:
    given = ws(client)
    edited = style(client, seeds=None, labels=None, ws=given, edits={"age": 1}, return_w=True)
    assert pixels(edited) == pixels(style(client, edits={"age": 1}))


def test_http_offers_the_same(server: ServerProcess, client: Client) -> None:
    url = f"http://127.0.0.1:{server.ready['rest_port']}/v1/models/{STYLE}"
    with httpx.Client() as http:
        listed = http.get(f"{url}/directions").json()
        assert [each["name"] for each in listed["directions"]] == [each.name for each in client.directions(STYLE)]
        changes = {"edits": [{"direction": "smile", "strength": 1, "layers": "0-2", "without": ["age"]}]}
        changes |= {"mixes": [{"seed": 4, "layers": "5"}], "truncation_cutoff": 2}  # type: ignore[dict-item]
        body = {"seed": 7, "label": 1, "truncation": 0.5, "format": "raw", **changes}
        expected = style(
            client, seeds=7, labels=1, truncation=0.5, truncation_cutoff=2, mixes=[Mix(4, "5")],
            edits=[Edit("smile", 1, "0-2", ["age"])], return_w=True,
        )  # fmt: skip
        assert http.post(f"{url}:generate", json=body).content == expected[0].data
        (shown,) = http.post(f"{url}:generate", json={**body, "return_w": True}).json()["images"]
        np.testing.assert_array_equal(np.array(shown["w"], np.float32), expected[0].w)
        refused = http.post(f"{url}:generate", json={**body, "edits": [{"direction": "smile", "strenght": 1}]})
        assert (refused.status_code, "strenght" in refused.text) == (400, True)


def animated(server: ServerProcess, model: str, output: Path, *options: str) -> int:
    return main(["animate", model, "-o", str(output), "--server", server.address, *options])


@pytest.mark.parametrize("suffix", ["webp", "gif", "png"])
def test_an_animation_lasts_as_long_as_its_path(server: ServerProcess, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"path.{suffix}"
    assert animated(server, PLAIN, file, "--seeds", "1,2,5", "--frames", "12", "--fps", "20") == 0
    with Image.open(file) as image:
        assert image.info.get("loop") == 0
        # Encoders may make equal neighbours one frame that lasts longer.
        assert sum(frame.info["duration"] for frame in map(loaded, ImageSequence.Iterator(image))) == 600


def loaded(frame: Image.Image) -> Image.Image:
    """WebP tells a frame's duration once it is decoded."""
    frame.load()
    return frame


def test_a_path_in_w_goes_from_class_to_class_as_numbered_images(
    server: ServerProcess, client: Client, tmp_path: Path
) -> None:
    options = ["--seeds", "7", "--labels", "1,3", "--frames", "3", "--no-loop", "--truncation", "0.5"]
    assert animated(server, STYLE, tmp_path, *options, "--edit", "age:0,2") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000.png", "0001.png", "0002.png"]
    ends = style(client, seeds=[7, 7], labels=[1, 3], truncation=0.5, edits={"age": [0, 2]})
    for name, end in zip(("0000.png", "0002.png"), ends, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / name)), end.array[:, :, 0])


def test_a_film_has_its_length(server: ServerProcess, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    assert animated(server, PLAIN, tmp_path / "path.mp4", "--seeds", "1,2", "--frames", "10", "--fps", "25") == 0
    with av.open(str(tmp_path / "path.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 10


@pytest.mark.parametrize(
    ("model", "options", "code", "sentence"),
    [
        (PLAIN, ["--seeds", "1,2", "--space", "w"], 2, "--space w, which plain does not have"),
        (STYLE, ["--seeds", "1", "--labels", "0,1", "--space", "latent"], 2, "leave out --space latent"),
        (PLAIN, ["--seeds", "1,2", "--edit", "0:1,2,3"], 2, "3 values for 2 keys"),
        ("nobody", ["--seeds", "1,2"], 7, "no model 'nobody'"),
    ],
)
def test_paths_that_a_model_does_not_have_are_refused(
    server: ServerProcess,
    model: str,
    options: list[str],
    code: int,
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert animated(server, model, tmp_path / "path.webp", *options) == code
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_files_of_other_kinds_are_refused_before_anything_is_generated(tmp_path: Path, capsys: Any) -> None:
    assert main(["animate", PLAIN, "-o", str(tmp_path / "path.jpg"), "--server", "127.0.0.1:1"]) == 2
    assert "must be a file with .webp, .gif" in capsys.readouterr().err


def test_the_w_of_an_image_of_the_model_is_found(server: ServerProcess, client: Client, tmp_path: Path) -> None:
    (wanted,) = style(client, seeds=600, labels=2)
    wanted.save(tmp_path / "wanted.png")
    options = ["--label", "2", "-o", str(tmp_path / "w.npz"), "--picture", str(tmp_path / "both.png"), "--json"]
    assert main(["project", STYLE, str(tmp_path / "wanted.png"), *options, "--server", server.address]) == 0
    with np.load(tmp_path / "w.npz") as arrays:
        (again,) = style(client, seeds=None, labels=None, ws=arrays["w"])
    error = np.mean((again.array.astype(float) - wanted.array) ** 2)
    assert 10 * np.log10(255**2 / max(error, 1e-9)) > 35
    both = np.asarray(Image.open(tmp_path / "both.png"))
    np.testing.assert_array_equal(both, np.concatenate([wanted.array, again.array], axis=1).squeeze(2))


def test_an_image_that_the_model_cannot_make_is_said_to_be_outside(client: Client) -> None:
    (served,) = (model for model in client.models() if model.name == STYLE)
    noise = np.random.RandomState(0).randint(0, 2, (40, 30, 3)).astype(np.uint8) * 255
    lines: list[str] = []
    found = project(client, served, Image.fromarray(noise), label=1, rounds=2, progress=lines.append)
    assert not found.is_inside
    assert (found.point.shape, found.image.shape, found.target.shape) == ((6, 5), (16, 16, 1), (16, 16, 1))
    assert found.images >= 512
    assert lines[0].startswith("start 1: round 1, ")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["no.png", "-o", "w.npz"], "no.png: cannot be read as an image"),
        (["no.png", "-o", "w.png"], "must be a .npz file"),
    ],
)
def test_what_cannot_be_projected_is_refused(options: list[str], sentence: str, capsys: Any) -> None:
    assert main(["project", STYLE, *options, "--server", "127.0.0.1:1"]) == 2
    assert sentence in capsys.readouterr().err


def test_edits_and_mixes_are_in_addresses(server: ServerProcess, client: Client) -> None:
    def at(model: str, query: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{server.ready['rest_port']}/v1/models/{model}/image?format=png&{query}")

    (wanted,) = client.generate(PLAIN, seeds=7, edits={"brighter": 2, 1: -1})
    found = at(PLAIN, "seed=7&edit=brighter:2&edit=1:-1")
    assert found.content == wanted.data
    assert at(PLAIN, "edit=0:2.0&edit=jacobian-1:-1&seed=7").headers["etag"] == found.headers["etag"]
    assert at(PLAIN, "seed=7").headers["etag"] != found.headers["etag"]
    (wanted,) = client.generate(STYLE, seeds=7, labels=1, edits=[Edit("age", 2, "1,4-5")], mixes=[Mix(3, "0-2")])
    assert at(STYLE, "seed=7&label=1&edit=age:2@1,4-5&mix=3@0-2").content == wanted.data
    for query, text in (
        ("edit=age", "is not DIRECTION:STRENGTH"),
        ("edit=age:x", "'x' is not a number"),
        ("edit=nobody:1", "nobody"),
        ("edit=age:1@9", "9"),
        ("mix=3", "is not SEED@LAYERS"),
        ("mix=x@1", "'x' is not an integer"),
    ):
        refused = at(STYLE, f"seed=7&label=1&{query}")
        assert (refused.status_code, text in refused.text) == (400, True), refused.text


def test_an_image_is_traced_to_its_seed_and_a_changed_one_is_not(
    server: ServerProcess, client: Client, tmp_path: Path, capsys: Any
) -> None:
    (made,) = style(client, seeds=5, labels=2, edits={"age": 1.5})
    made.save(file := tmp_path / "made.png")
    command = ["verify", STYLE, str(file), "--seeds", "0-9", "--labels", "2", "--server", server.address]
    assert main([*command, "--edit", "age:1.5"]) == 0
    assert "identical to seed 5 of style version 1" in capsys.readouterr().out
    assert main(command) == 2, "without the edit it is another image"
    changed = made.array.copy()
    changed[3, 4] ^= 1
    Image.fromarray(changed.squeeze(2)).save(file)
    assert main([*command, "--edit", "age:1.5"]) == 2
    assert "none of 10 images is the same; the closest, of seed 5, differs by 0.00391 levels" in capsys.readouterr().err
    Image.new("RGB", (16, 16)).save(file)
    assert main([*command, "--json"]) == 2
    assert "is 16 x 16 x 3 uint8, the model makes 16 x 16 x 1 uint8" in capsys.readouterr().err
