"""OmniSR of any size and scale, at sizes that are no multiples of its windows."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tests.models.cases.base import Case
from tests.models.references.omnisr import OmniSr


@torch.no_grad()
def to_image(network: nn.Module) -> None:
    """Its output about as wide as an image."""
    assert isinstance(network, OmniSr)
    channels = network.input.in_channels
    spread = network(torch.linspace(0, 1, channels * 480).view(1, channels, 20, 24)).std()
    for parameter in network.up.parameters():
        parameter.mul_(0.3 / spread)


def profiled(network: nn.Module) -> Mapping[str, Tensor]:
    """The file with what a profiler of operations leaves in it."""
    return {**network.state_dict(), "total_ops": torch.zeros(1), "input.total_params": torch.zeros(1)}


def case(
    scale: int, groups: int = 1, blocks: int = 1, window: int = 4, channels: int = 3, bias: bool = True,
    graph: bool = False,
) -> Case:  # fmt: skip
    return Case(
        "omnisr",
        lambda: OmniSr(16, groups, blocks, window, scale, channels, bias),
        {
            "num_feat": 16,
            "res_num": groups,
            "block_num": blocks,
            "window_size": window,
            "up_scale": scale,
            "in_channels": channels,
            "out_channels": channels,
        },
        (2, 22 * scale, 29 * scale, channels),
        file=nn.Module.state_dict if bias else profiled,
        sizes_px=((22, 29), (37, 17)),
        prepare=to_image,
        graph=graph,
    )


CASES = {
    "omnisr-x2": case(2, graph=True),
    "omnisr-x4": case(4, groups=2, blocks=2, window=8),
    "omnisr-x3-grey": case(3, window=5, channels=1, bias=False),
}
