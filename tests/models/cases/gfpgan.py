"""TencentARC/GFPGAN's clean network, with few channels."""

from tests.models.cases.base import Case
from tests.models.references.gfpgan import Gfpgan

CASES = {
    "gfpgan": Case(
        "gfpgan",
        lambda: Gfpgan([4, 6, 8, 8], 12),
        {"out_size": 32, "num_style_feat": 12, "width": 4},
        (2, 32, 32, 3),
        graph=True,
    ),
}
