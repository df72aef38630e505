"""What no tensor tells of layers can be read off every network, and set."""

import pytest
import torch

from export.graph.samples import sample_inputs
from models.architecture import ArchitectureError
from models.catalogue import assumed, build
from tests.models.all_cases import CASES, FIRST
from tests.models.cases.base import ready

TANH = (
    "unet",
    "pix2pix",
    "resnet",
    "cut",
    "cyclegan",
    "pix2pixhd",
    "biggan",
    "biggan-deep",
    "sagan",
    "dcgan-upsampling",
)


def built(name: str, overrides: dict[str, str]) -> tuple[torch.Tensor, tuple[object, object]]:
    case = CASES[FIRST[name]]
    _, generator = build(dict(case.file(ready(case))), case.arch, {**case.overrides, **overrides}, case.config)
    arrays = sample_inputs(generator, "float32", (0,), case.sizes_px[0])
    with torch.no_grad():
        image: torch.Tensor = generator.network(*(torch.from_numpy(array) for array in arrays.values()))
    return image, generator.output_range


@pytest.mark.parametrize("name", TANH)
def test_the_last_activation_of_every_network_that_has_one_can_be_set(name: str) -> None:
    usual, _ = built(name, {})
    found, output_range = built(name, {"output": "sigmoid"})
    assert output_range == (0.0, 1.0)
    torch.testing.assert_close(found, torch.sigmoid(torch.atanh(usual.double())).float(), rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", ["resnet", "unet", "lightweight-gan", "fastgan"])
def test_the_epsilon_of_normalisation_can_be_set_and_is_said(name: str) -> None:
    assert not torch.equal(built(name, {})[0], built(name, {"eps": "0.8"})[0])
    case = CASES[FIRST[name]]
    found, generator = build(dict(case.file(ready(case))), case.arch, case.overrides, case.config)
    assert assumed(found, generator, {}, {})["eps"] == 1e-5
    assert "eps" not in assumed(found, generator, {"eps": "0.8"}, {})


def test_a_layer_that_a_network_has_not_cannot_be_set() -> None:
    with pytest.raises(ArchitectureError, match="--set slope: the network has no layers that it is of"):
        built("rrdb", {"slope": "0.1"})
