"""Files from people's disks are read as what they are, or refused with a sentence that helps; nothing in them runs."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.architecture import ArchitectureError
from models.catalogue import build
from models.checkpoints.folders import read_at
from models.checkpoints.read import CheckpointError
from tests.models.checkpoints.field_files import READ, REFUSED

LATENT = torch.randn(2, 5, generator=torch.Generator().manual_seed(1))


def pictured(path: Path, key: str | None = None) -> Tensor:
    """Two images of the generator at `path`."""
    found = read_at(path, key=key)
    name, generator = build(found.state, config=found.config)
    assert name == "dcgan"
    image: Tensor = generator.network(LATENT)
    return image


def expected(network: nn.Module) -> Tensor:
    with torch.no_grad():
        image: Tensor = network(LATENT[:, :, None, None])
    return image


@pytest.mark.parametrize("name", READ)
def test_the_generator_is_read_with_its_own_numbers(tmp_path: Path, name: str) -> None:
    write, network = READ[name]
    path = tmp_path / "netG.pth"
    write(path)
    torch.testing.assert_close(pictured(path), expected(network), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_with_a_sentence_that_helps(tmp_path: Path, name: str) -> None:
    write, sentence = REFUSED[name]
    path = tmp_path / "netG.pth"
    write(path)
    with pytest.raises((CheckpointError, ArchitectureError), match=sentence) as caught:
        pictured(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
