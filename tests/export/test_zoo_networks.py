"""The real generators: the same seed gives the same bytes in any batch, and the ncnn conversion against ncnn itself."""

from pathlib import Path

import ncnn
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from artifact.spec import Spec
from export.graph.parity import open_session, run
from export.graph.samples import photograph, sample_inputs
from export.source import open_source
from models.catalogue import build
from models.checkpoints.read import read
from models.zoo import fetch
from models.zoo.entries import ENTRIES
from tests.exports import of_zoo

pytestmark = pytest.mark.slow


def test_every_entry_builds_as_the_catalogue_says() -> None:
    for entry in ENTRIES.values():
        architecture, generator = build(read(fetch.pull(entry.name)).state)
        assert (architecture, generator.task) == (entry.architecture, entry.task)
        assert len(entry.labels) == generator.classes


# Others are exported with an engine in engine/test_zoo_engines.py; Real-ESRGAN's two large ones, which take half a
# minute, by `make demo`.
GENERATORS = ("faces", "digits", "digits-gan", "digits-lapgan", "digits-wgan-gp")
TRANSFORMERS = ("emoji-cyclegan", "faces-srgan")


@pytest.fixture(scope="module")
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Spec]:
    return request.param, *of_zoo(request.param, tmp_path_factory)


@pytest.mark.parametrize("exported", [*GENERATORS, *TRANSFORMERS], indirect=True, scope="module")
def test_an_export_agrees_with_torch_and_says_where_the_weights_are_from(
    exported: tuple[str, Path, Spec],
) -> None:
    name, _, spec = exported
    entry = ENTRIES[name]
    assert spec.parity.max_difference <= spec.parity.tolerance
    assert (spec.architecture, spec.task, spec.labels) == (entry.architecture, entry.task, entry.labels)
    assert (spec.provenance.licence, spec.provenance.sha256) == (entry.licence, entry.sha256)
    assert entry.source in spec.provenance.source


@pytest.mark.parametrize("exported", GENERATORS, indirect=True, scope="module")
def test_a_seed_gives_the_same_bytes_alone_and_in_any_batch(exported: tuple[str, Path, Spec]) -> None:
    name, folder, _ = exported
    session = open_session(folder / "model.onnx")
    generator = open_source(name, "auto", {}, None, lambda line: None).generator
    whole = run(session, sample_inputs(generator, "uint8", range(12)))
    for size in (1, 2, 5, 7):
        for first in range(0, 12, size):
            seeds = range(first, min(first + size, 12))
            part = run(session, sample_inputs(generator, "uint8", seeds))
            assert part.tobytes() == whole[first : first + size].tobytes()


def by_ncnn(param: Path, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """ncnn's own answer (scale*H, scale*W, 3) float32 in levels, computed in float32 on the CPU."""
    net = ncnn.Net()
    net.opt.use_vulkan_compute = net.opt.use_fp16_packed = net.opt.use_fp16_storage = False
    net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    net.opt.use_winograd_convolution = net.opt.use_sgemm_convolution = False
    net.opt.num_threads = 2
    assert net.load_param(str(param)) == 0
    assert net.load_model(str(param.with_suffix(".bin"))) == 0
    extractor = net.create_extractor()
    pixels = np.ascontiguousarray(image.transpose(2, 0, 1).astype(np.float32) / 255.0)
    extractor.input("data", ncnn.Mat(pixels))
    status, output = extractor.extract("output")
    assert status == 0
    return np.array(output).transpose(1, 2, 0) * np.float32(255)


@pytest.mark.parametrize(
    ("name", "side_px"),
    [("realesr-animevideov3", 64), ("realesrgan-x4plus-anime", 24), ("realesrgan-x4plus", 24)],
)
def test_converted_networks_enlarge_a_photograph_as_ncnn_does(name: str, side_px: int) -> None:
    image = photograph(side_px, side_px, 3)
    param = fetch.pull(name)
    expected = by_ncnn(param, image)
    generator = build(read(param).state)[1]
    with torch.no_grad():
        scaled = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32) / 255.0)
        found = generator.network(scaled)[0].numpy().transpose(1, 2, 0) * 255.0
    difference = found.astype(np.float64) - expected
    psnr_db = 10 * np.log10(255.0**2 / np.mean(difference**2))
    print(f"{name}: {side_px} px, PSNR {psnr_db:.1f} dB, largest difference {np.abs(difference).max():.4f} levels")
    assert psnr_db > 80
    assert np.abs(difference).max() < 0.25
