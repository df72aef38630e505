"""SRVGGNetCompact at any depth and scale, with each of its activations; two of them leave no key in the file."""

from artifact.spec import Scalar
from tests.models.cases.base import Case
from tests.models.references.srvgg import SrvggCompact


def case(upscale: int, num_conv: int, act_type: str = "prelu", channels: int = 3, graph: bool = False) -> Case:
    found: dict[str, Scalar] = {
        "num_feat": 8,
        "num_conv": num_conv,
        "upscale": upscale,
        "channels": channels,
        "act_type": act_type,
    }
    return Case(
        "srvgg",
        lambda: SrvggCompact(channels, 8, num_conv, upscale, act_type),
        found,
        (2, 24 * upscale, 32 * upscale, channels),
        overrides={} if act_type == "prelu" else {"activation": act_type},
        graph=graph,
    )


CASES = {
    "srvgg-x4": case(4, 3),
    "srvgg-x2": case(2, 2, graph=True),
    "srvgg-x3-relu": case(3, 2, "relu", graph=True),
    "srvgg-x1-leakyrelu-grey": case(1, 4, "leakyrelu", channels=1, graph=True),
}
