"""RRDBNet in every naming; images in ImageNet units are the network's own business, so `call` stays the plain one."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from artifact.spec import Scalar
from tests.models.cases.base import Case
from tests.models.references.esrgan import BasicSr, Course, Kair, OldEsrgan, PytorchGan


@torch.no_grad()
def brighten(network: nn.Module) -> None:
    """Moves the middle of its output to the middle of the range."""
    last = list(network.parameters())[-1]
    last.add_(0.5)


def new_names(network: nn.Module) -> Mapping[str, Tensor]:
    """The first release's file of one block and x4 as tools rename it to BasicSR's keys."""
    tops = {"0": "conv_first", "1.sub.1": "conv_body", "3": "conv_up1", "6": "conv_up2", "8": "conv_hr"}
    tops["10"] = "conv_last"
    found = {}
    for key, tensor in network.state_dict().items():
        layer, kind = key.removeprefix("model.").rsplit(".", 1)
        block = layer.replace("1.sub.0.RDB", "body.0.rdb").removesuffix(".0")
        found[f"{tops.get(layer, block)}.{kind}"] = tensor
    return found


def case(
    layout: str,
    reference: Callable[[], nn.Module],
    scale: int,
    growth: int = 4,
    blocks: int = 1,
    channels: int = 3,
    factor: int = 2,
    graph: bool = False,
    also: Mapping[str, Scalar] | None = None,
    file: Callable[[nn.Module], Mapping[str, Tensor]] = nn.Module.state_dict,
) -> Case:
    found: dict[str, Scalar] = {
        "layout": layout,
        "num_feat": 8,
        "num_grow_ch": growth,
        "num_block": blocks,
        "scale": scale,
        "channels": channels,
        **(also or {}),
    }
    overrides = {"factor": str(factor)} if factor != 2 else {}
    shape = (2, 24 * scale, 32 * scale, channels)
    if channels == 1:
        return Case("rrdb", reference, found, shape, overrides=overrides, prepare=brighten, file=file)
    return Case("rrdb", reference, found, shape, overrides=overrides, graph=graph, file=file)


CASES = {
    "rrdb-x4": case("basicsr", lambda: BasicSr(3, 8, 4, 2, 4), scale=4, blocks=2),
    "rrdb-x2": case("basicsr", lambda: BasicSr(3, 8, 4, 1, 2), scale=2, graph=True),
    "rrdb-x1": case("basicsr", lambda: BasicSr(3, 8, 4, 1, 1), scale=1),
    "rrdb-kair-x4": case("kair", lambda: Kair(3, 8, 5, 2, 4), scale=4, growth=5, blocks=2),
    "rrdb-kair-x2": case("kair", lambda: Kair(3, 8, 4, 1, 2), scale=2),
    "rrdb-esrgan-x1": case("esrgan", lambda: OldEsrgan(3, 8, 4, 1, ()), scale=1),
    "rrdb-esrgan-x2": case("esrgan", lambda: OldEsrgan(3, 8, 4, 1, (2,)), scale=2),
    "rrdb-esrgan-x3": case("esrgan", lambda: OldEsrgan(3, 8, 4, 1, (3,)), scale=3, factor=3),
    "rrdb-esrgan-x4": case("esrgan", lambda: OldEsrgan(3, 8, 6, 2, (2, 2)), scale=4, growth=6, blocks=2),
    "rrdb-esrgan-x8-grey": case("esrgan", lambda: OldEsrgan(1, 8, 4, 1, (2, 2, 2)), scale=8, channels=1),
    "rrdb-esrgan-x16": case("esrgan", lambda: OldEsrgan(3, 8, 4, 1, (2, 2, 2, 2)), scale=16),
    "rrdb-esrgan-grey-from-colour": case(
        "esrgan", lambda: OldEsrgan(3, 8, 4, 1, (2,), out=1), scale=2, channels=1, also={"input_channels": 3}
    ),
    "rrdb-esrgan-plus": case(
        "esrgan", lambda: OldEsrgan(3, 8, 4, 2, (2, 2), plus=True), scale=4, blocks=2, also={"plus": True}
    ),
    "rrdb-esrgan-plus-new-names": case(
        "basicsr", lambda: OldEsrgan(3, 8, 4, 1, (2, 2), plus=True), scale=4, also={"plus": True}, file=new_names
    ),
    "rrdb-pytorch-gan": case("pytorch-gan", lambda: PytorchGan(8, 2, 2), scale=4, growth=8, blocks=2),
    "rrdb-aladdinpersson": case("aladdinpersson", lambda: Course(8, 4, 1), scale=4),
}
