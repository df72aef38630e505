"""The same four tests for every architecture. A new one adds a case below and a golden picture:

python tests/models/test_architectures.py writes the pictures that are missing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from export.parity import measure, open_session, run_torch
from export.samples import inputs
from export.to_onnx import save, to_onnx
from export.wrapping import wrap
from models.architecture import Generator
from models.catalogue import ARCHITECTURES, build
from models.cgan import ConditionalGenerator
from models.dcgan import DcganGenerator
from models.rrdb import RrdbNet
from models.spec import Scalar
from models.srvgg import SrvggNet

GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Case:
    """A small network of an architecture and what must be read from its state dict alone."""

    architecture: str
    network: Callable[[], nn.Module]
    hyperparameters: Mapping[str, Scalar]
    shape: tuple[int, ...]  # (N, H, W, C) for two rows; pictures in are 24x32


CASES = {
    "dcgan": Case(
        "dcgan",
        lambda: DcganGenerator((6, 32, 16, 8, 3)),
        {"nz": 6, "ngf": 8, "nc": 3, "image_size_px": 32},
        (2, 32, 32, 3),
    ),
    "dcgan-grey-128": Case(
        "dcgan",
        lambda: DcganGenerator((5, 16, 16, 8, 8, 4, 1)),
        {"nz": 5, "ngf": 4, "nc": 1, "image_size_px": 128},
        (2, 128, 128, 1),
    ),
    "cgan": Case(
        "cgan",
        lambda: ConditionalGenerator(classes=7, embedding=3, latent=6, width=8),
        {
            "classes": 7,
            "embedding": 3,
            "latent": 6,
            "width": 8,
            "channels": 1,
            "first_kernel": 7,
            "image_size_px": 28,
        },
        (2, 28, 28, 1),
    ),
    "srvgg-x4": Case(
        "srvgg",
        lambda: SrvggNet(3, 8, 5, 4, "prelu"),
        {"num_feat": 8, "num_conv": 3, "upscale": 4, "channels": 3, "act_type": "prelu"},
        (2, 96, 128, 3),
    ),
    "srvgg-x2": Case(
        "srvgg",
        lambda: SrvggNet(3, 8, 4, 2, "prelu"),
        {"num_feat": 8, "num_conv": 2, "upscale": 2, "channels": 3, "act_type": "prelu"},
        (2, 48, 64, 3),
    ),
    "rrdb-x4": Case(
        "rrdb",
        lambda: RrdbNet(3, 8, 4, 2, 4),
        {"num_feat": 8, "num_grow_ch": 4, "num_block": 2, "scale": 4, "channels": 3},
        (2, 96, 128, 3),
    ),
    "rrdb-x2": Case(
        "rrdb",
        lambda: RrdbNet(3, 8, 4, 1, 2),
        {"num_feat": 8, "num_grow_ch": 4, "num_block": 1, "scale": 2, "channels": 3},
        (2, 48, 64, 3),
    ),
    "rrdb-x1": Case(
        "rrdb",
        lambda: RrdbNet(3, 8, 4, 1, 1),
        {"num_feat": 8, "num_grow_ch": 4, "num_block": 1, "scale": 1, "channels": 3},
        (2, 24, 32, 3),
    ),
}
case_by_name = pytest.mark.parametrize("name", CASES)


def trained(network: nn.Module) -> dict[str, torch.Tensor]:
    """A state dict as after training: weights of natural size, BatchNorm statistics far from 0 and 1; by numpy."""
    random = np.random.RandomState(1)
    state: dict[str, torch.Tensor] = {}
    for key, tensor in network.state_dict().items():
        shape = tuple(tensor.shape)
        if key.endswith("num_batches_tracked"):
            array: NDArray[np.generic] = np.array(1000)
        elif key.endswith("running_var"):
            array = random.uniform(0.5, 2.0, shape)
        elif key.endswith(("running_mean", "bias")):
            array = random.normal(0, 0.1, shape)
        elif len(shape) == 1:
            array = random.uniform(0.1, 1.2, shape)
        else:
            # Of a transposed conv with kernel 4 and stride 2, each output sees 2x2 pixels of each input map.
            fan_in = 4 * shape[0] if key.startswith("main.") else int(np.prod(shape[1:]))
            array = random.normal(0, 1.2 / np.sqrt(fan_in), shape)
        state[key] = torch.from_numpy(np.asarray(array)).to(tensor.dtype)
    return state


def rebuilt(name: str) -> Generator:
    return build(trained(CASES[name].network()))[1]


def pixels(name: str) -> NDArray[np.uint8]:
    generator = rebuilt(name)
    return np.asarray(run_torch(wrap(generator, "uint8"), inputs(generator, "uint8", (0, 1))), dtype=np.uint8)


def test_every_architecture_has_a_case() -> None:
    assert {case.architecture for case in CASES.values()} == set(ARCHITECTURES)


@case_by_name
def test_builds_from_its_own_state_dict_with_inferred_hyperparameters(name: str) -> None:
    case = CASES[name]
    network = case.network()
    state = trained(network)
    network.load_state_dict(state)
    found, generator = build(state)
    assert (found, dict(generator.hyperparameters)) == (case.architecture, dict(case.hyperparameters))
    arrays = inputs(generator, "float32", (3, 4))
    np.testing.assert_array_equal(run_torch(generator.network, arrays), run_torch(network.eval(), arrays))


@case_by_name
def test_output_has_the_promised_shape_and_range(name: str) -> None:
    generator = rebuilt(name)
    picture = pixels(name)
    assert picture.shape == CASES[name].shape
    low, high = generator.output_range
    output = run_torch(generator.network, inputs(generator, "float32", (0, 1))).astype(np.float64)
    assert output.shape == (2, picture.shape[3], *picture.shape[1:3])
    if generator.task.draws:
        assert low <= output.min() < output.max() <= high
    levels = np.clip((output - low) / (high - low) * 255, 0, 255)
    assert np.abs(levels.transpose(0, 2, 3, 1) - picture).max() <= 0.5 + 1e-4
    assert picture.std() > 5, "a picture, not a flat field"


@case_by_name
def test_draws_the_golden_picture(name: str) -> None:
    golden = np.load(GOLDEN / f"{name}.npy")
    difference = np.abs(pixels(name)[:1].astype(int) - golden)
    assert difference.max() <= 1, "one level of rounding is left to other CPUs"


@case_by_name
def test_onnx_agrees_with_torch(name: str, tmp_path: Path) -> None:
    generator = rebuilt(name)
    module = wrap(generator, "uint8")
    path = tmp_path / "model.onnx"
    save(to_onnx(module, generator, "uint8", inputs(generator, "uint8", (0, 1))), path)
    assert measure(open_session(path), module, generator, "uint8", "fp32").parity.max_difference <= 1.0


if __name__ == "__main__":
    for missing in (name for name in CASES if not (GOLDEN / f"{name}.npy").exists()):
        np.save(GOLDEN / f"{missing}.npy", pixels(missing)[:1])
