"""The same tests for every architecture. A new one adds a file of cases to tests/models/cases.

Every case is compared in torch, which shows what its keys, shapes and settings can get wrong; one case for every kind
of network is also exported and compared in ONNX Runtime, which shows what tracing can get wrong.

`python -m tests.models.test_architectures` writes the golden images that are missing.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from export.graph.parity import open_session, run_torch
from export.graph.pixels import wrap
from export.graph.samples import Arrays, sample_inputs, to_uint8
from models.architecture import Generator
from models.catalogue import ARCHITECTURES, build
from tests.models.all_cases import CASES, FIRST, GRAPHS
from tests.models.cases.base import Case, ready
from tests.models.exported import exported

GOLDEN = Path(__file__).parent / "golden"
case_by_name = pytest.mark.parametrize("name", CASES)


@lru_cache(maxsize=2)
def built(name: str) -> tuple[str, Generator, nn.Module]:
    """(architecture found, the generator built from the reference's file, the reference)."""
    case = CASES[name]
    network = ready(case)
    found, generator = build(dict(case.file(network)), case.arch, case.overrides, case.config)
    return found, generator, network


def by_reference(case: Case, network: nn.Module, arrays: Arrays) -> NDArray[np.float32]:
    """What the reference gives for the network's own inputs: (N, C, H, W)."""
    with torch.no_grad():
        output = case.call(network, {key: torch.from_numpy(array) for key, array in arrays.items()})
    return np.asarray(output.numpy(), dtype=np.float32)


def batches(case: Case) -> Iterator[tuple[Sequence[int], tuple[int, int]]]:
    """(seeds, size of images in): one item, and three of another size."""
    yield (5,), case.sizes_px[1]
    yield (1, 2, 3), case.sizes_px[0]


def pixels(name: str) -> NDArray[np.uint8]:
    """Two images (N, H, W, C) by our network with pixels inside, in torch."""
    _, generator, _ = built(name)
    arrays = sample_inputs(generator, "uint8", (0, 1), CASES[name].sizes_px[0])
    return np.asarray(run_torch(wrap(generator, "uint8"), arrays), dtype=np.uint8)


def test_every_architecture_has_a_case() -> None:
    # An encoder gives no images: tests/models/families/test_psp.py.
    assert {case.architecture for case in CASES.values()} == set(ARCHITECTURES) - {"psp"}


@case_by_name
def test_hyperparameters_are_inferred_from_the_file(name: str) -> None:
    found, generator, _ = built(name)
    assert (found, dict(generator.hyperparameters)) == (CASES[name].architecture, dict(CASES[name].hyperparameters))


@case_by_name
def test_no_other_architecture_takes_the_file(name: str) -> None:
    case = CASES[name]
    state = dict(case.file(built(name)[2]))
    found = {other for other, entry in ARCHITECTURES.items() if entry.matches(state)}
    # What only --arch can say is not detected at all.
    assert found - {case.architecture} == set(case.ambiguous_with)
    assert case.architecture in found or case.arch != "auto"


@case_by_name
def test_the_network_agrees_with_the_reference(name: str) -> None:
    case = CASES[name]
    _, generator, network = built(name)
    for seeds, size_px in batches(case):
        arrays = sample_inputs(generator, "float32", seeds, size_px)
        expected = by_reference(case, network, arrays)
        found = np.asarray(run_torch(generator.network, arrays), dtype=np.float32)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=case.tolerance)


@case_by_name
def test_pixels_are_the_rounded_image_of_the_reference(name: str) -> None:
    case = CASES[name]
    _, generator, network = built(name)
    arrays = sample_inputs(generator, "float32", (0, 1), case.sizes_px[0])
    expected = to_uint8(by_reference(case, network, arrays), generator.output_range).astype(int)
    found = pixels(name)
    assert found.shape == case.shape
    assert np.abs(found - expected).max() <= 1, "one level of rounding"
    assert found.std() > 5, "an image, not a flat field"


class Operators(TorchDispatchMode):
    """Notes the names of the ATen operators that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(function._schema.name)
        return function(*args, **(kwargs or {}))


def parts(name: str) -> set[object]:
    """What tracing a case meets: its architecture, its inputs, our modules, and torch's operators."""
    architecture, generator, _ = built(name)
    module = wrap(generator, "uint8")
    with Operators() as operators:
        run_torch(module, sample_inputs(generator, "uint8", (0, 1), CASES[name].sizes_px[0]))
    ours = {type(part).__qualname__ for part in module.modules() if type(part).__module__.startswith("models.")}
    return {architecture, generator.inputs, *ours, *operators.names}


def test_whatever_a_network_consists_of_is_in_an_exported_graph() -> None:
    traced = set().union(*(parts(name) for name in GRAPHS))
    missing = {name: found for name in CASES if (found := parts(name) - traced)}
    assert not missing, "mark one of these cases graph=True"


def with_values(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with one output more: what the network inside gives, before it is made pixels."""
    makers = {name: node for node in graph.graph.node for name in node.output}
    name = graph.graph.output[0].name
    for kind in ("Cast", "Transpose", "Round", "Clip", "Add", "Mul"):
        if makers[name].op_type == kind:
            name = makers[name].input[0]
        else:
            assert kind == "Add", f"{kind} is expected, the graph has {makers[name].op_type}"  # 0 is not added
    graph.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return graph


@pytest.mark.parametrize("name", GRAPHS)
def test_the_exported_graph_agrees_with_the_reference(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    case = CASES[name]
    _, generator, network = built(name)
    folder, spec = exported(name, tmp_path_factory)
    assert (spec.architecture, spec.parity.max_difference <= 1.0) == (case.architecture, True)
    session = open_session(with_values(onnx.load(folder / "model.onnx")))
    for seeds, size_px in batches(case):
        expected = by_reference(case, network, sample_inputs(generator, "float32", seeds, size_px))
        images, values = session.run(None, sample_inputs(generator, "uint8", seeds, size_px))
        assert values.shape == expected.shape
        np.testing.assert_allclose(values, expected, rtol=0, atol=case.tolerance)
        levels = to_uint8(expected, generator.output_range)
        assert (images.dtype, images.shape) == (np.uint8, levels.shape)
        assert np.abs(images.astype(int) - levels).max() <= 1, "one level of rounding"


def thinned(name: str) -> NDArray[np.uint8]:
    """One image, of a large one every n-th pixel."""
    image = pixels(name)[:1]
    step = max(1, min(image.shape[1:3]) // 128)
    return image[:, ::step, ::step]


@pytest.mark.parametrize("name", FIRST.values())
def test_generates_the_golden_image(name: str) -> None:
    golden = np.load(GOLDEN / f"{name}.npy")
    difference = np.abs(thinned(name).astype(int) - golden)
    assert difference.max() <= 1, "one level of rounding is left to other CPUs"


if __name__ == "__main__":
    for missing in (name for name in FIRST.values() if not (GOLDEN / f"{name}.npy").exists()):
        np.save(GOLDEN / f"{missing}.npy", thinned(missing))
