"""Directions at export: found in the served graph, read from users' files, refused before anything slow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from artifact.directions import read_directions
from export.directions.files import DirectionFile, read_file
from export.directions.jacobian import POINTS, SIDE_PX, reduced, sensitive
from export.directions.make import Wanted, make_directions
from export.directions.space import Space
from export.errors import ExportError
from export.graph.parity import open_session
from export.pipeline import Exported, Request, export

LAYERS, LENGTH = 3, 4
VECTOR = np.array([0.0, 3.0, 0.0, 4.0])


@pytest.fixture(scope="module")
def space(faces: Exported) -> Space:
    return Space(faces.spec, open_session(faces.folder / "model.onnx"))


def silent(line: str, share: float | None = None, /) -> None:
    pass


def test_the_first_direction_changes_images_the_most(space: Space) -> None:
    found = sensitive(space, silent)
    assert found.shape == (6, 6)
    np.testing.assert_allclose(found @ found.T, np.eye(6), atol=1e-6)
    points = space.points(range(POINTS))
    images = space.images(points, range(POINTS)).astype(int)
    effects = [
        np.abs(space.images((points + 0.5 * each).astype(np.float32), range(POINTS)) - images).mean() for each in found
    ]
    assert effects[0] == max(effects)
    assert effects[-1] == min(effects)


def test_an_export_has_them_with_a_picture_and_the_same_each_time(small_dcgan: Path, tmp_path: Path) -> None:
    one, other = (export(Request(small_dcgan, tmp_path, name, directions="auto")) for name in ("one", "other"))
    assert one.spec.files == other.spec.files
    assert sorted(one.spec.files) == ["directions.npz", "directions.png", "model.onnx"]
    directions = read_directions(one.folder, one.spec)
    assert [each.name for each in directions.found] == [f"jacobian-{number}" for number in range(6)]
    for each in directions.found:
        assert each.vector.flat[np.abs(each.vector).argmax()] > 0, "the sign is fixed"
        assert each.sigma == pytest.approx(1)
    with Image.open(one.folder / "directions.png") as strip:
        assert strip.size == (96 + 5 * 96, 16 + 6 * 96)


def test_what_takes_too_long_is_left_out_with_a_reason(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.directions.make.AUTO_S", 0.0)
    files, notes = make_directions(Wanted("auto"), space, None, tmp_path, silent)
    assert not files
    assert "--directions jacobian finds them" in notes[0]
    files, notes = make_directions(Wanted("jacobian"), space, None, tmp_path, silent)
    assert (len(files), notes) == (2, ())


def test_large_images_are_averaged_before_they_are_compared() -> None:
    levels = np.random.RandomState(0).randint(0, 256, (2, 2 * SIDE_PX, 50, 3)).astype(np.uint8)
    found = reduced(levels).reshape(2, SIDE_PX, 25, 3)
    np.testing.assert_allclose(found[0, 1, 2], levels[0, 2:4, 4:6].mean(axis=(0, 1)))


def saved(tmp_path: Path, array: Any) -> Path:
    np.save(tmp_path / "d.npy", array)
    return tmp_path / "d.npy"


def archive(tmp_path: Path, **arrays: Any) -> Path:
    np.savez(tmp_path / "d.npz", **arrays)
    return tmp_path / "d.npz"


def torch_file(tmp_path: Path, value: Any) -> Path:
    torch.save(value, tmp_path / "d.pt")
    return tmp_path / "d.pt"


FILES: dict[str, tuple[Callable[[Path], Path], tuple[int, int], list[float] | None]] = {
    "interfacegan": (lambda path: saved(path, VECTOR[None]), (1, 1), None),
    "one vector": (lambda path: saved(path, VECTOR), (1, 1), None),
    "each layer": (lambda path: saved(path, np.tile(VECTOR, (LAYERS, 1))), (1, LAYERS), None),
    "each layer, nested": (lambda path: saved(path, np.tile(VECTOR, (1, LAYERS, 1))), (1, LAYERS), None),
    "ganspace": (
        lambda path: archive(
            path, lat_comp=np.tile(VECTOR, (5, 1, 1)), lat_stdev=np.arange(1.0, 6), act_comp=np.zeros(3)
        ),
        (5, 1),
        [1, 2, 3, 4, 5],
    ),
    "factor.pt": (lambda path: torch_file(path, {"ckpt": "x", "eigvec": torch.eye(LENGTH)}), (LENGTH, 1), None),
    "e4e": (lambda path: torch_file(path, torch.tensor(VECTOR[None], dtype=torch.float32)), (1, 1), None),
    "ffhq_pca": (
        lambda path: torch_file(
            path, {"mean": torch.zeros(1, LENGTH), "comp": torch.ones(2, 1, LENGTH), "std": torch.tensor([2.0, 1.0])}
        ),
        (2, 1),
        [2, 1],
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_the_files_of_other_tools_are_read(kind: str, tmp_path: Path) -> None:
    make, (n, rows), sigmas = FILES[kind]
    found = read_file(DirectionFile("smile", make(tmp_path)), (LAYERS, LENGTH))
    assert found.vectors.shape == (n, rows, LENGTH)
    assert (None if found.sigmas is None else found.sigmas.tolist()) == sigmas


def test_columns_of_a_factor_file_are_directions(tmp_path: Path) -> None:
    file = torch_file(tmp_path, {"eigvec": torch.arange(16.0).reshape(4, 4)})
    np.testing.assert_array_equal(read_file(DirectionFile("f", file), (LAYERS, LENGTH)).vectors[1, 0], [1, 5, 9, 13])


class Hostile:
    def __reduce__(self) -> Any:
        return (print, ("run",))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: saved(path, np.zeros((1, 5))), r"the array is float64 \(1, 5\); this model's directions are"),
        (lambda path: saved(path, np.zeros(LENGTH)), "direction 0 has values that are not finite, or only zeros"),
        (lambda path: saved(path, np.full(LENGTH, np.nan)), "direction 0 has values that are not finite"),
        (lambda path: saved(path, np.array([Hostile()], object)), "Object arrays cannot be loaded"),
        (lambda path: archive(path, a=VECTOR, b=VECTOR), r"holds 2 arrays \(a, b\); expected one"),
        (lambda path: archive(path, lat_comp=VECTOR[None, None], lat_stdev=[0.0]), "1 positive ones expected"),
        (lambda path: torch_file(path, {"a": "x"}), "holds 0 arrays"),
        (lambda path: saved(path, np.zeros((1000, 1, LENGTH)) + VECTOR), "holds 1000 directions, at most 512"),
    ],
)
def test_other_files_are_refused_and_nothing_in_them_runs(
    make: Callable[[Path], Path], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExportError, match=sentence) as caught:
        read_file(DirectionFile("smile", make(tmp_path)), (LAYERS, LENGTH))
    assert str(caught.value).startswith("--direction smile=")
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"directions": "best"}, "--directions best: must be one of auto, jacobian, sefa, pca, none"),
        ({"directions": "sefa"}, "--directions sefa: the model has no w; use auto or jacobian"),
        (
            {"directions": "jacobian", "tensors": "float32"},
            "for generators with a latent that give pixels",
        ),
        ({"direction_files": ("smile",)}, "--direction smile: must be NAME=FILE"),
        ({"direction_files": ("a:b=x.npy",)}, "--direction a:b=x.npy: must be NAME=FILE"),
        ({"direction_files": ("smile=no.npy",)}, r"no file no\.npy"),
    ],
)
def test_what_a_model_cannot_have_is_refused(
    given: dict[str, Any], sentence: str, small_dcgan: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=sentence):
        export(Request(small_dcgan, tmp_path / "repository", "m", **given))
    assert not (tmp_path / "repository").exists()
