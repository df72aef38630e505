"""SPAN with and without its shift by the mean, in training's chains and in convs for inference."""

import torch
from torch import nn

from tests.models.cases.base import Case
from tests.models.references.span import Deployed, Span


@torch.no_grad()
def to_mid_grey(network: nn.Module, channels: int) -> None:
    """Its output about the middle of the range, whatever the products of its blocks make of random weights."""
    assert isinstance(network, Span)
    for name in ("sk", "conv.2") if network.norm else ():
        network.get_parameter(f"conv_1.{name}.weight").div_(network.img_range)
    weight, bias = (network.get_parameter(f"upsampler.0.{kind}") for kind in ("weight", "bias"))
    spread = network(torch.linspace(0, 1, channels * 300).view(1, channels, 15, 20)).std()
    weight.mul_(0.2 / spread)
    bias.add_(0.5)


def case(
    scale: int, channels: int = 3, norm: bool = False, conv: type[nn.Module] | None = None, img_range: float = 255.0,
    out: int = 0, graph: bool = False,
) -> Case:  # fmt: skip
    given = {"conv": conv} if conv else {}
    return Case(
        "span",
        lambda: Span(channels, 8, scale, norm, out, img_range, **given),
        {
            "feature_channels": 8,
            "upscale": scale,
            "in_channels": channels,
            "out_channels": out or channels,
            "norm": norm,
        },
        (2, 24 * scale, 32 * scale, out or channels),
        overrides={"img_range": str(img_range)} if img_range != 255.0 else {},
        prepare=lambda network: to_mid_grey(network, channels),
        graph=graph,
    )


CASES = {
    "span-x4": case(4, norm=True, graph=True),
    "span-x2": case(2),
    "span-x2-img-range-1": case(2, norm=True, img_range=1.0),
    "span-x1-grey": case(1, channels=1),
    "span-x3-grey-to-rgb": case(3, channels=1, out=3),
    "span-x3-deployed": case(3, conv=Deployed),
}
