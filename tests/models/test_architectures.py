"""The same tests for every architecture. A new one adds a file of cases to tests/models/cases.

`python -m tests.models.test_architectures` writes the golden pictures that are missing.
"""

import importlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from export.graph.parity import open_session, run, run_torch
from export.graph.pixels import wrap
from export.graph.samples import Arrays, sample_inputs, to_uint8
from export.graph.trace import save, to_onnx
from models.architecture import Generator
from models.catalogue import ARCHITECTURES, build
from tests.models.cases.base import Case, ready

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"


def _collect() -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for path in sorted((HERE / "cases").glob("*.py")):
        if path.stem not in ("base", "__init__"):
            found = importlib.import_module(f"tests.models.cases.{path.stem}").CASES
            assert not cases.keys() & found.keys(), f"{path.name} uses a name that is taken"
            cases |= found
    return cases


CASES = _collect()
case_by_name = pytest.mark.parametrize("name", CASES)
# One per architecture is drawn as it was when somebody last looked; tests/test_families.py exports and serves it.
REPRESENTATIVES = {case.architecture: name for name, case in reversed(CASES.items())}


@lru_cache(maxsize=2)
def built(name: str) -> tuple[str, Generator, nn.Module]:
    """(architecture found, the generator built from the reference's file, the reference)."""
    case = CASES[name]
    network = ready(case)
    found, generator = build(dict(case.file(network)), case.arch, case.overrides, case.config)
    return found, generator, network


def drawn_by_reference(case: Case, network: nn.Module, arrays: Arrays) -> NDArray[np.float32]:
    with torch.no_grad():
        picture = case.call(network, {key: torch.from_numpy(array) for key, array in arrays.items()})
    return np.asarray(picture.numpy(), dtype=np.float32)


def pixels(name: str) -> NDArray[np.uint8]:
    _, generator, _ = built(name)
    arrays = sample_inputs(generator, "uint8", (0, 1), CASES[name].sizes_px[0])
    return np.asarray(run_torch(wrap(generator, "uint8"), arrays), dtype=np.uint8)


def test_every_architecture_has_a_case() -> None:
    assert {case.architecture for case in CASES.values()} == set(ARCHITECTURES)


@case_by_name
def test_hyperparameters_are_inferred_from_the_file(name: str) -> None:
    found, generator, _ = built(name)
    assert (found, dict(generator.hyperparameters)) == (CASES[name].architecture, dict(CASES[name].hyperparameters))


@case_by_name
def test_no_other_architecture_takes_the_file(name: str) -> None:
    case = CASES[name]
    state = dict(case.file(ready(case)))
    found = {other for other, entry in ARCHITECTURES.items() if entry.matches(state)}
    # What only --arch can say is not detected at all.
    assert found - {case.architecture} == set(case.ambiguous_with)
    assert case.architecture in found or case.arch != "auto"


@case_by_name
def test_the_float32_graph_agrees_with_the_reference(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    _, generator, network = built(name)
    path = tmp_path / "model.onnx"
    save(
        to_onnx(generator.network, generator, "float32", sample_inputs(generator, "float32", (0, 1), case.sizes_px[0])),
        path,
    )
    session = open_session(path)
    for seeds, size_px in (((5,), case.sizes_px[1]), ((1, 2, 3), case.sizes_px[0])):
        arrays = sample_inputs(generator, "float32", seeds, size_px)
        expected = drawn_by_reference(case, network, arrays)
        found = np.asarray(run(session, arrays), dtype=np.float32)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=case.tolerance)


@case_by_name
def test_pixels_are_the_rounded_picture_of_the_reference(name: str) -> None:
    case = CASES[name]
    _, generator, network = built(name)
    arrays = sample_inputs(generator, "float32", (0, 1), case.sizes_px[0])
    expected = to_uint8(drawn_by_reference(case, network, arrays), generator.output_range).astype(int)
    found = pixels(name)
    assert found.shape == case.shape
    assert np.abs(found - expected).max() <= 1, "one level of rounding"
    assert found.std() > 5, "a picture, not a flat field"


def thinned(name: str) -> NDArray[np.uint8]:
    """One picture, of a large one every n-th pixel."""
    picture = pixels(name)[:1]
    step = max(1, min(picture.shape[1:3]) // 128)
    return picture[:, ::step, ::step]


@pytest.mark.parametrize("name", REPRESENTATIVES.values())
def test_draws_the_golden_picture(name: str) -> None:
    golden = np.load(GOLDEN / f"{name}.npy")
    difference = np.abs(thinned(name).astype(int) - golden)
    assert difference.max() <= 1, "one level of rounding is left to other CPUs"


if __name__ == "__main__":
    for missing in (name for name in REPRESENTATIVES.values() if not (GOLDEN / f"{name}.npy").exists()):
        np.save(GOLDEN / f"{missing}.npy", thinned(missing))
