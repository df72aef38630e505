"""What the tests of faces share: the detector, fetched as the zoo's other packages are, and a photograph."""

from pathlib import Path

import pytest
from PIL import Image

from export.graph.samples import __file__ as samples
from ganserve.faces.detect import Detector
from models.zoo.entries import MTCNN, MTCNN_FOLDER
from models.zoo.fetch import unpacked
from tests.ganserve.fake_server import fake

__all__ = ["fake"]


@pytest.fixture(scope="session")
def mtcnn() -> Path:
    """The folder with its three files."""
    return unpacked(MTCNN) / MTCNN_FOLDER


@pytest.fixture(scope="session")
def detector(mtcnn: Path) -> Detector:
    return Detector.read(mtcnn)


@pytest.fixture(scope="session")
def astronaut() -> Image.Image:
    """128 x 128 px, with one face."""
    return Image.open(Path(samples).parent.parent / "pictures" / "astronaut.png").convert("RGB")
