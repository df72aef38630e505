"""animegan2-pytorch's generators, and U-GAT-IT's, light and full."""

from tests.models.cases.base import Case
from tests.models.references.anime import AnimeGan2, Ugatit

FOUND = {"in_channels": 3, "out_channels": 3, "width": 4}
CASES = {
    "animegan2": Case(
        "animegan2",
        lambda: AnimeGan2(4, align=True),
        {**FOUND, "align_corners": True},
        (2, 33, 26, 3),
        sizes_px=((33, 26), (9, 20)),
        graph=True,
    ),
    "animegan2-not-aligned": Case(
        "animegan2",
        lambda: AnimeGan2(4, align=False),
        {**FOUND, "align_corners": False},
        (2, 24, 32, 3),
        overrides={"align_corners": "false"},
    ),
    "ugatit": Case(
        "ugatit",
        lambda: Ugatit(4, 1, light=True),
        {"img_ch": 3, "ch": 4, "n_res": 1, "light": True},
        (2, 24, 32, 3),
        graph=True,
    ),
    "ugatit-full": Case(
        "ugatit",
        lambda: Ugatit(4, 2, light=False, side=32),
        {"img_ch": 3, "ch": 4, "n_res": 2, "light": False, "img_size": 32},
        (2, 32, 32, 3),
    ),
}
