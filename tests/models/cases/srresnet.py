"""SRResNet in every naming."""

from collections.abc import Callable

from torch import nn

from artifact.spec import Scalar
from tests.models.cases.base import Case
from tests.models.references.srresnet import Aitorzip, Course, Leftthomas, Lornatang, PytorchGan


def case(
    layout: str,
    reference: Callable[[], nn.Module],
    scale: int,
    blocks: int,
    channels: int = 3,
    eps: float = 1e-5,
    graph: bool = False,
) -> Case:
    found: dict[str, Scalar] = {
        "layout": layout,
        "num_feat": 8,
        "num_block": blocks,
        "scale": scale,
        "channels": channels,
        "eps": eps,
    }
    return Case("srresnet", reference, found, (2, 24 * scale, 32 * scale, channels), graph=graph)


CASES = {
    "srresnet": case("leftthomas", lambda: Leftthomas(8, 2), scale=4, blocks=5),
    "srresnet-leftthomas-x2": case("leftthomas", lambda: Leftthomas(8, 1), scale=2, blocks=5),
    "srresnet-leftthomas-x8": case("leftthomas", lambda: Leftthomas(8, 3), scale=8, blocks=5),
    "srresnet-lornatang-x4": case("lornatang", lambda: Lornatang(8, 3, 2), scale=4, blocks=3),
    "srresnet-lornatang-x2-grey": case("lornatang", lambda: Lornatang(8, 2, 1, 1), scale=2, blocks=2, channels=1),
    "srresnet-lornatang-x8": case("lornatang", lambda: Lornatang(8, 1, 3), scale=8, blocks=1),
    "srresnet-pytorch-gan": case("pytorch-gan", lambda: PytorchGan(8, 2), scale=4, blocks=2, eps=0.8),
    "srresnet-aitorzip-x4": case("aitorzip", lambda: Aitorzip(8, 2, 2), scale=4, blocks=2),
    "srresnet-aitorzip-x2": case("aitorzip", lambda: Aitorzip(8, 2, 1), scale=2, blocks=2, graph=True),
    "srresnet-aladdinpersson": case("aladdinpersson", lambda: Course(8, 2), scale=4, blocks=2),
}
