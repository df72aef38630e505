"""What is drawn is moved, turned, truncated towards centres and resized: a StyleGAN3, from the export to the client."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from artifact.centers import read_centers
from artifact.repository import ArtifactError, read_manifest
from artifact.spec import Spec
from export.directions.centers import k_means
from export.errors import ExportError
from export.graph.samples import to_uint8
from export.pipeline import Request, export
from ganserve import Client, InvalidRequest
from ganserve.cli.main import main
from ganserve.client.paths import interpolate, latents_of
from tests.models.all_cases import CASES
from tests.models.cases.base import ready
from tests.serving import ServerProcess, running

CASE = CASES["stylegan3-r"]
SEEDS, LABELS = [4, 5, 6, 7], [0, 1, 2, 0]
MOVES = [(0.0, 0.0), (0.25, 0.0), (0.0, -0.5), (0.1, 0.2)]
TURNS = [0.0, 30.0, -90.0, 200.0]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transforms")
    torch.save(dict(CASE.file(ready(CASE))), folder / "alias.pt")
    overrides = dict(CASE.overrides)
    export(Request(folder / "alias.pt", folder / "repository", "alias", overrides=overrides, truncation_centers=3))
    return folder / "repository"


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[ServerProcess]:
    with running(repository, "--rest-port", "0", "--engine", "onnx") as process:
        yield process


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.address) as opened:
        yield opened


def pixels(client: Client, **given: Any) -> NDArray[np.uint8]:
    options: dict[str, Any] = {"seeds": SEEDS, "labels": LABELS, "format": "raw", **given}
    return np.stack([image.array for image in client.generate("alias", **options)])


def ws(client: Client, **given: Any) -> NDArray[np.float32]:
    found = client.generate("alias", seeds=SEEDS, labels=LABELS, return_w=True, format="raw", **given)
    return np.stack([image.w for image in found if image.w is not None])


def test_images_are_moved_and_turned_as_the_authors_script_does(client: Client) -> None:
    rows = [(x, y, degrees) for (x, y), degrees in zip(MOVES, TURNS, strict=True)]
    latents = np.stack([np.random.RandomState(seed).randn(6) for seed in SEEDS]).astype(np.float32)
    inputs = {
        "latent": torch.from_numpy(latents),
        "label": torch.tensor(LABELS),
        "truncation_psi": torch.full((4,), 0.8),
        "w": torch.zeros(4, 5, 5),
        "w_given": torch.zeros(4),
        "transform": torch.tensor(rows),
    }
    with torch.no_grad():
        expected = to_uint8(CASE.call(ready(CASE), inputs).numpy(), (-1.0, 1.0))
    found = pixels(client, truncation=0.8, translate=MOVES, rotate=TURNS)
    assert np.abs(found.astype(int) - expected).max() <= 1, "one level of rounding"
    assert len({image.tobytes() for image in found}) == 4


def test_no_transform_changes_no_byte_and_none_depends_on_the_others(client: Client) -> None:
    np.testing.assert_array_equal(pixels(client), pixels(client, translate=(0, 0), rotate=0))
    together = pixels(client, translate=MOVES, rotate=TURNS)
    for index in range(4):
        alone = pixels(client, seeds=SEEDS[index], labels=LABELS[index], translate=MOVES[index], rotate=TURNS[index])
        np.testing.assert_array_equal(alone[0], together[index])


def test_images_on_the_way_to_another_seed_are_those_of_the_path(client: Client, server: ServerProcess) -> None:
    path = interpolate(latents_of([4, 9], 6), 5, "slerp", loop=False)
    expected = pixels(client, seeds=None, latents=path, labels=1)
    towards = [(9, share) for share in (0, 0.25, 0.5, 0.75, 1)]
    found = pixels(client, seeds=[4] * 5, labels=1, towards=towards)
    np.testing.assert_array_equal(found, expected)
    url = f"http://127.0.0.1:{server.ready['rest_port']}/v1/models/alias"
    answer = httpx.get(f"{url}/image?seed=4&toward=9:0.25&label=1")
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(answer.content))), expected[1])
    body = {"seed": 4, "towards": [{"seed": 9, "share": 0.25}], "label": 1}
    assert httpx.post(f"{url}:generate", json=body).content == answer.content
    with pytest.raises(InvalidRequest, match=r"towards\.share: 1.5; must be 0..1"):
        pixels(client, towards=[(9, 1.5)])
    with pytest.raises(InvalidRequest, match="towards: 1 given together with latents"):
        pixels(client, seeds=None, latents=path[:4], towards=[(9, 0.5)])
    assert "toward" in httpx.get(f"{url}/image?seed=4&toward=9&label=1").json()["error"]


def test_a_given_w_is_moved_as_well(client: Client) -> None:
    w = ws(client)
    again = client.generate("alias", ws=w, rotate=TURNS, format="raw")
    np.testing.assert_array_equal(np.stack([image.array for image in again]), pixels(client, rotate=TURNS))


def test_truncation_draws_w_towards_the_nearest_centre_or_the_one_that_is_said(
    client: Client, repository: Path
) -> None:
    spec = read_manifest(repository / "alias" / "1")
    assert spec is not None
    centers = read_centers(repository / "alias" / "1", spec)
    plain = ws(client, truncation=1.0)
    nearest = ((plain[:, :1] - centers) ** 2).sum(2).argmin(1)
    psi = np.array([0.5, 0.0, -0.5, 1.0], np.float32)
    acts = (np.arange(5) < 3)[:, None]  # the model's cutoff
    for given, chosen in (("nearest", centers[nearest]), (1, centers[[1] * 4])):
        drawn = chosen[:, None] + psi[:, None, None] * (plain - chosen[:, None])
        found = ws(client, truncation=psi.tolist(), truncation_center=given)
        np.testing.assert_allclose(found, np.where(acts, drawn, plain), atol=1e-5)
    knobs = {knob.name: knob for model in client.models() for knob in model.knobs}
    assert (knobs["truncation_center"].maximum, knobs["rotate"].maximum, knobs["translate"].shape) == (2, 360, (2,))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"truncation": 0.5, "truncation_center": 3}, "'3'; must be nearest or 0..2"),
        ({"truncation_center": "nearest"}, "no effect where psi is 1"),
        ({"rotate": 361}, "transforms.rotate: 361; must be -360..360"),
        ({"translate": (0, float("nan"))}, "transforms.translate_y: nan"),
        ({"rotate": [1, 2]}, "transforms: 2 given for 4 images"),
        ({"translate": (1, 2, 3)}, "translate must be"),
        ({"size": 1 << 16}, "size: 65536 x 65536"),
    ],
)
def test_values_out_of_range_are_refused(client: Client, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        pixels(client, **given)


def test_images_come_in_the_size_that_is_asked_for(client: Client, server: ServerProcess) -> None:
    (drawn,) = pixels(client, seeds=1, labels=2)
    for size in (8, 50):
        (found,) = pixels(client, seeds=1, labels=2, size=size)
        resampled = Image.fromarray(drawn).resize((size, size), Image.Resampling.LANCZOS)
        assert np.abs(found.astype(int) - np.asarray(resampled)).max() <= 1
    tags = set()
    for query in (
        "",
        "&size=50",
        "&size=50&rotate=10",
        "&size=50&translate=0,.1",
        "&psi=.5&center=0",
        "&psi=.5&center=1",
    ):
        answer = httpx.get(f"http://127.0.0.1:{server.ready['rest_port']}/v1/models/alias/image?seed=1&label=2{query}")
        assert answer.status_code == 200, answer.text
        tags.add(answer.headers["etag"])
    assert len(tags) == 6
    body = {"seeds": [1, 2], "labels": [2], "rotate": [10, 20], "translate": [0.1, 0], "truncation_center": "nearest"}
    answer = httpx.post(
        f"http://127.0.0.1:{server.ready['rest_port']}/v1/models/alias:generate",
        json={**body, "truncation": 0.5, "size": 50},
    )
    assert [image["width"] for image in answer.json()["images"]] == [50, 50]
    wrongs: list[dict[str, Any]] = [
        {"translate": 3}, {"translate": [[1]]}, {"rotate": []}, {"rotate": "a"}, {"size": -1}
    ]  # fmt: skip
    for wrong in wrongs:
        answer = httpx.post(
            f"http://127.0.0.1:{server.ready['rest_port']}/v1/models/alias:generate",
            json={**body, "truncation": 0.5, **wrong},
        )
        assert (answer.status_code, next(iter(wrong)) in answer.json()["error"]) == (400, True), answer.text


def test_the_commands_turn_images_and_animations(server: ServerProcess, tmp_path: Path) -> None:
    given = ["alias", "--seeds", "3", "--labels", "1", "--server", server.address]
    assert main(["generate", *given, "--rotate", "0,90", "--translate", "0.1,0", "-o", str(tmp_path / "a.png")]) == 0
    assert len(list(tmp_path.glob("a-*.png"))) == 2
    film = tmp_path / "turn.png"
    assert main(["animate", *given, "--rotate", "0,360", "--no-loop", "--frames", "5", "-o", str(film)]) == 0
    with Image.open(film) as moving:
        frames = []
        for index in range(5):
            moving.seek(index)
            frames.append(np.asarray(moving.convert("RGB")))
    assert np.abs(frames[0].astype(int) - frames[4]).max() <= 1, "a full turn"
    assert not np.array_equal(frames[0], frames[2])


def test_groups_are_found_and_the_largest_comes_first() -> None:
    random = np.random.RandomState(1)
    points = np.concatenate([random.randn(n, 3) * 0.1 + middle for n, middle in ((50, 0), (200, 5), (100, -5))])
    centers, inside = k_means(points, 3)
    np.testing.assert_allclose(centers, np.array([[5.0], [-5.0], [0.0]]).repeat(3, axis=1), atol=0.1)
    assert inside < 0.1
    np.testing.assert_array_equal(centers, k_means(points, 3)[0])
    assert np.isfinite(k_means(np.zeros((4, 2)), 3)[0]).all(), "fewer different points than groups"


def test_centres_of_models_without_w_and_damaged_files_are_refused(tmp_path: Path, repository: Path) -> None:
    torch.save({}, tmp_path / "x.pt")
    with pytest.raises(ExportError, match="--truncation-centers 2000: must be 0"):
        export(Request(repository.parent / "alias.pt", tmp_path / "r", "x", truncation_centers=2000))
    spec = read_manifest(repository / "alias" / "1")
    assert isinstance(spec, Spec)
    for content in (np.zeros((3, 4), np.float32), np.full((3, 5), np.nan, np.float32), np.zeros((2, 5))):
        np.save(tmp_path / "centers.npy", content)
        with pytest.raises(ArtifactError, match=r"centers\.npy"):
            read_centers(tmp_path, spec)
