"""kwotsin/mimicry's generators at its four sizes."""

from artifact.spec import Scalar
from tests.models.cases.base import Case
from tests.models.references.mimicry import Generator
from tests.models.references.spectral import unit_vectors


def facts(size_px: int, **changed: Scalar) -> dict[str, Scalar]:
    return {"nz": 9, "ngf": 16, "bottom_width": 4, "image_size_px": size_px} | changed


CASES = {
    "sngan": Case("sngan", lambda: Generator((16, 8, 4, 4, 4), 9), facts(64), (2, 64, 64, 3)),
    "sngan-48": Case(
        "sngan", lambda: Generator((16, 8, 4, 4), 9, bottom=6), facts(48, bottom_width=6), (2, 48, 48, 3), graph=True
    ),
    "sngan-cifar-dcgan": Case(
        "sngan",
        lambda: Generator((16, 16, 16, 16), 9, sigmoid=True),
        facts(32),
        (2, 32, 32, 3),
        overrides={"output": "sigmoid"},
    ),
    "cgan-pd": Case(
        "cgan-pd",
        lambda: Generator((16, 16, 16, 16), 9, classes=5),
        facts(32, num_classes=5),
        (2, 32, 32, 3),
        graph=True,
    ),
    "sagan": Case(
        "sagan",
        lambda: Generator((16, 16, 16, 16), 9, classes=5, attention=3),
        facts(32, num_classes=5, attention_px=16),
        (2, 32, 32, 3),
        prepare=unit_vectors,
        graph=True,
    ),
    "sagan-128": Case(
        "sagan",
        lambda: Generator((32, 32, 16, 8, 4, 4), 9, classes=5, attention=4),
        facts(128, ngf=32, num_classes=5, attention_px=32),
        (2, 128, 128, 3),
        prepare=unit_vectors,
        tolerance=1e-3,
    ),
}
