"""yunjey/stargan's generators: statistics of each picture, as its test has them, or stored."""

from tests.models.cases.base import Case
from tests.models.references.stargan import Generator, in_training

FOUND = {"conv_dim": 4, "repeat_num": 2, "channels": 3}
CASES = {
    "stargan": Case(
        "stargan",
        lambda: Generator(4, 5, 2),
        {"c_dim": 5, **FOUND, "norm_statistics": "picture"},
        (2, 24, 32, 3),
        call=in_training,
        graph=True,
    ),
    "stargan-stored": Case(
        "stargan",
        lambda: Generator(4, 8, 2),
        {"c_dim": 8, **FOUND, "norm_statistics": "stored"},
        (2, 24, 32, 3),
        overrides={"norm_statistics": "stored"},
    ),
}
