"""MSRResNet at its three scales, and under KAIR's names."""

from artifact.spec import Scalar
from tests.models.cases.base import Case
from tests.models.references.srresnet import MsrResNet


def case(scale: int, blocks: int, kair: bool = False, graph: bool = False) -> Case:
    layout = "kair" if kair else "basicsr"
    found: dict[str, Scalar] = {"layout": layout, "num_feat": 8, "num_block": blocks, "scale": scale, "channels": 3}
    shape = (2, 24 * scale, 32 * scale, 3)
    return Case("msrresnet", lambda: MsrResNet(8, blocks, scale, kair), found, shape, graph=graph)


CASES = {
    "msrresnet": case(4, 2),
    "msrresnet-x2": case(2, 3),
    "msrresnet-x3": case(3, 1, graph=True),
    "msrresnet-kair": case(4, 1, kair=True),
}
