"""DCGAN of pytorch/examples at two depths, and the conditional DCGAN of this repository."""

from tests.models.cases.base import Case
from tests.models.references.dcgan_examples import ConditionalDigits, Dcgan

CASES = {
    "dcgan": Case(
        "dcgan",
        lambda: Dcgan(6, [32, 16, 8, 3]),
        {"nz": 6, "ngf": 8, "nc": 3, "image_size_px": 32},
        (2, 32, 32, 3),
        graph=True,
    ),
    "dcgan-grey-128": Case(
        "dcgan",
        lambda: Dcgan(5, [16, 16, 8, 8, 4, 1]),
        {"nz": 5, "ngf": 4, "nc": 1, "image_size_px": 128},
        (2, 128, 128, 1),
    ),
    "cgan": Case(
        "cgan",
        lambda: ConditionalDigits(classes=7, embedding=3, latent=6, width=8),
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
        graph=True,
    ),
}
