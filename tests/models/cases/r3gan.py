"""brownvc/R3GAN's generators, with labels and without."""

from tests.models.cases.base import Case
from tests.models.references.r3gan import Generator, resampled

CASES = {
    "r3gan": Case(
        "r3gan",
        lambda: Generator(6, [12, 12, 8, 8], [3, 3, 2, 2]),
        {
            "z_dim": 6,
            "img_resolution": 32,
            "img_channels": 3,
            "widths": "12,12,8,8",
            "groups": "3,3,2,2",
            "blocks": "2,2,2,2",
        },
        (2, 32, 32, 3),
        prepare=resampled,
    ),
    "r3gan-labels": Case(
        "r3gan",
        lambda: Generator(6, [12, 8], [3, 2], blocks=1, classes=5, embedded=4),
        {
            "z_dim": 6,
            "img_resolution": 8,
            "img_channels": 3,
            "widths": "12,8",
            "groups": "3,2",
            "blocks": "1,1",
            "c_dim": 5,
        },
        (2, 8, 8, 3),
        prepare=resampled,
        graph=True,
    ),
}
