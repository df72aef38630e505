"""directions.npz and the names that people give: what is written is read, what does not fit is refused by name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from artifact.directions import Direction, Directions, parse_names, read_directions, write_directions
from artifact.repository import DIRECTIONS, ArtifactError
from artifact.spec import Spec
from tests.docs.test_manifest import GENERATOR

STYLE = replace(GENERATOR, w_shape=(2, 3))
PLAIN = replace(GENERATOR, w_shape=None, latent_size=3)
ACROSS = np.array([[0.6, 0.8, 0]], np.float32)
EACH = np.array([[1, 0, 0], [0, 1, 0]], np.float32)


def written(folder: Path, *found: Direction, space: str = "w") -> Path:
    version = folder / "1"
    version.mkdir()
    write_directions(version / DIRECTIONS, Directions(space, found))
    return version


@pytest.mark.parametrize(("spec", "space"), [(STYLE, "w"), (PLAIN, "latent")])
def test_directions_come_back_as_they_were(spec: Spec, space: str, tmp_path: Path) -> None:
    folder = written(
        tmp_path, Direction("pose", "sefa", ACROSS, 1.5), Direction("sefa-1", "sefa", -ACROSS, 2), space=space
    )
    (folder.parent / "directions.txt").write_text("# by eye\n sefa-1 = smile  # more or less\n\n")
    found = read_directions(folder, spec)
    assert (found.space, [(each.name, each.kind, each.sigma) for each in found.found]) == (
        space,
        [("pose", "sefa", 1.5), ("smile", "sefa", 2.0)],
    )
    np.testing.assert_array_equal(found.found[1].vector, -ACROSS)


def test_a_set_with_one_vector_for_each_layer_has_them_for_all(tmp_path: Path) -> None:
    folder = written(tmp_path, Direction("a", "file", EACH, 1), Direction("b", "file", ACROSS, 1))
    one, other = read_directions(folder, STYLE).found
    np.testing.assert_array_equal(one.vector, EACH)
    np.testing.assert_array_equal(other.vector, np.repeat(ACROSS, 2, axis=0))


def test_a_model_without_the_file_has_none(tmp_path: Path) -> None:
    assert read_directions(tmp_path, STYLE).found == ()


@pytest.mark.parametrize(
    ("spec", "space", "sentence"),
    [
        (STYLE, "latent", "they are in 'latent', the model's must be in 'w'"),
        (PLAIN, "w", "they are in 'w', the model's must be in 'latent'"),
        (replace(STYLE, w_shape=(2, 4)), "w", r"vectors are float32 \(1, 1, 3\), the model's w has 4 numbers"),
    ],
)
def test_those_of_another_model_are_refused(spec: Spec, space: str, sentence: str, tmp_path: Path) -> None:
    folder = written(tmp_path, Direction("a", "sefa", ACROSS, 1), space=space)
    with pytest.raises(ArtifactError, match=sentence):
        read_directions(folder, spec)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, Direction("a", "sefa", ACROSS, 1))
    with np.load(folder / DIRECTIONS) as arrays:
        np.savez(folder / DIRECTIONS, **{**arrays, "names": np.array(["a"], object)})
    with pytest.raises(ArtifactError, match=r"directions\.npz: Object arrays cannot be loaded"):
        read_directions(folder, STYLE)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("b = c", "no direction 'b'; the model has a, d"),
        ("a = d", "two directions would be called 'd'"),
        ("a smile", "line 1 is not `NAME = OTHER`"),
        ("a = 7", "line 1 is not `NAME = OTHER`"),
        ("a = x:y", "line 1 is not `NAME = OTHER`"),
        ("a = b\na = c", "line 2 renames 'a' a second time"),
    ],
)
def test_names_that_do_not_fit_are_refused(text: str, sentence: str, tmp_path: Path) -> None:
    folder = written(tmp_path, Direction("a", "sefa", ACROSS, 1), Direction("d", "sefa", ACROSS, 1))
    (folder.parent / "directions.txt").write_text(text)
    with pytest.raises(ArtifactError, match=sentence):
        read_directions(folder, STYLE)


def test_names_may_be_of_any_script() -> None:
    assert parse_names("sefa-0 = 微笑\nsefa-1=größer") == {"sefa-0": "微笑", "sefa-1": "größer"}
