"""Small checkpoints, made on the spot, and exports of them."""

from pathlib import Path

import pytest
import torch

from export.pipeline import Exported, Request, export
from models.families.basic.cgan import ConditionalGenerator
from models.families.basic.dcgan import DcganGenerator
from models.families.superres.srvgg import SrvggNet


def _save(folder: Path, name: str, network: torch.nn.Module) -> Path:
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.2)
    path = folder / name
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def small_dcgan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Z 6, 16x16 RGB."""
    return _save(tmp_path_factory.mktemp("dcgan"), "netG.pth", DcganGenerator((6, 16, 8, 3)))


@pytest.fixture(scope="session")
def small_cgan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, Z 5, 28x28 grey."""
    return _save(tmp_path_factory.mktemp("cgan"), "cgan.pth", ConditionalGenerator(3, 2, 5, 8))


@pytest.fixture(scope="session")
def small_srvgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x2, receptive field 4 px."""
    return _save(tmp_path_factory.mktemp("srvgg"), "srvgg.pth", SrvggNet(3, 8, 4, 2, "prelu"))


@pytest.fixture(scope="session")
def faces(small_dcgan: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The small DCGAN in fp32; not to be changed on disk."""
    return export(Request(small_dcgan, tmp_path_factory.mktemp("repository"), "small-faces"))


@pytest.fixture(scope="session")
def upscaler(small_srvgg: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The small upscaler in fp16; not to be changed on disk."""
    return export(Request(small_srvgg, tmp_path_factory.mktemp("repository"), "small-upscaler", precision="fp16"))
