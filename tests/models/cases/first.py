"""Networks whose reference implementation the product follows key by key: their references are the product's own.

What they compute is held by golden pictures and, for the upscalers, by the `ncnn` package (tests/export).
"""

from models.basic.cgan import ConditionalGenerator
from models.basic.dcgan import DcganGenerator
from tests.models.cases.base import Case

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
}
