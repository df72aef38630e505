"""The CPU's engines on the zoo's graphs: each gives the golden images, and an item the same bytes in every batch.

`python -m tests.server.engines.test_zoo_graphs` writes the golden images, with ONNX Runtime.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from artifact.repository import ONNX
from export.pipeline import Request, export
from server.engines.base import Engine
from server.engines.onnx.cpu import OnnxCpuEngine
from server.engines.openvino import bf16_supported
from server.engines.openvino.engine import OpenVinoCpuEngine
from tests.exports import of_zoo

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden"
MODELS = ("faces", "digits", "realesr-animevideov3")
ITEMS = 5
# (lowest PSNR, most levels) from the golden images, which come from ONNX Runtime on another processor.
ENGINES: dict[str, tuple[Callable[[Path, int, int], Engine], float, int]] = {
    "onnx": (lambda path, lanes, threads: OnnxCpuEngine(path, lanes, threads, True), 80, 1),
    "openvino": (lambda path, lanes, threads: OpenVinoCpuEngine(path, lanes, threads, True, "fp32"), 80, 1),
    "openvino-bf16": (lambda path, lanes, threads: OpenVinoCpuEngine(path, lanes, threads, True, "bf16"), 45, 24),
}


def inputs(name: str) -> dict[str, NDArray[np.generic]]:
    """Of five items."""
    rng = np.random.RandomState(0)
    if name == "faces":
        return {"latent": rng.randn(ITEMS, 100).astype(np.float32)}
    if name == "digits":
        return {"latent": rng.randn(ITEMS, 64).astype(np.float32), "label": np.arange(ITEMS)}
    smooth = np.add.outer(np.arange(24), np.arange(16))[..., None] * [3, 4, 5]
    return {"image": np.clip(smooth + rng.randint(0, 40, (ITEMS, 24, 16, 3)), 0, 255).astype(np.uint8)}


def images(engine: Engine, arrays: dict[str, NDArray[np.generic]], whole_device: bool = False) -> NDArray[np.uint8]:
    (found,) = engine.run(arrays, whole_device).values()
    return found


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    name = str(request.param)
    return name, of_zoo(name, tmp_path_factory)[0] / ONNX


def opened(kind: str, path: Path, lanes: int = 2, threads: int = 2) -> Engine:
    if kind == "openvino-bf16" and not bf16_supported():
        pytest.skip("this processor has no bf16 instructions")
    return ENGINES[kind][0](path, lanes, threads)


@pytest.mark.parametrize("kind", ENGINES)
def test_every_engine_gives_the_golden_images(model: tuple[str, Path], kind: str) -> None:
    name, path = model
    golden = np.load(GOLDEN / f"{name}.npy")
    difference = np.abs(images(opened(kind, path), inputs(name)).astype(float) - golden)
    _, psnr_db, levels = ENGINES[kind]
    assert difference.max() <= levels
    assert 10 * np.log10(255**2 / max(1e-9, (difference**2).mean())) >= psnr_db


@pytest.mark.parametrize("kind", ENGINES)
def test_an_item_has_the_same_bytes_in_every_batch_and_on_any_number_of_threads(
    model: tuple[str, Path], kind: str
) -> None:
    name, path = model
    arrays = inputs(name)
    for lanes, threads in ((2, 2), (2, 4)):
        engine = opened(kind, path, lanes, threads)
        alone = np.concatenate([images(engine, {k: v[i : i + 1] for k, v in arrays.items()}) for i in range(ITEMS)])
        for whole_device in (False, True):
            for items in range(1, ITEMS + 1):
                found = images(engine, {k: v[:items] for k, v in arrays.items()}, whole_device)
                assert found.tobytes() == alone[:items].tobytes(), (lanes, threads, items, whole_device)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for each in MODELS:
            graph = export(Request(each, Path(folder), each)).folder / ONNX
            np.save(GOLDEN / f"{each}.npy", images(OnnxCpuEngine(graph, 1, 1, True), inputs(each)))
