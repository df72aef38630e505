"""SwinIR with each of its ends, at sizes that are no multiples of its windows."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tests.models.cases.base import Case
from tests.models.references.swinir import SwinIr


@torch.no_grad()
def to_image(network: nn.Module) -> None:
    """Its output about as wide as an image, whatever random weights make of it."""
    names = [name for name, _ in network.named_parameters()]
    name = next(name for name in ("conv_last", "upsample.0") if f"{name}.weight" in names)
    assert isinstance(network, SwinIr)
    channels = network.mean.shape[1]
    image = torch.linspace(0, 1, channels * 24 * 28).view(1, channels, 24, 28)
    scale = network.img_range * 0.2 / network(image).std()
    for kind in ("weight", "bias"):
        network.get_parameter(f"{name}.{kind}").mul_(min(1.0, float(scale)))


def without_constants(network: nn.Module) -> Mapping[str, Tensor]:
    """The file as tools that keep only what was trained write it."""
    return {
        key: tensor for key, tensor in network.state_dict().items() if "attn_mask" not in key and "_index" not in key
    }


def case(
    upsampler: str, scale: int, make: Callable[[], SwinIr], channels: int = 3, depths: str = "2 1", heads: str = "3 2",
    window: int = 4, resi: str = "1conv", graph: bool = False, bare: bool = False, tolerance: float = 2e-4,
) -> Case:  # fmt: skip
    return Case(
        "swinir",
        make,
        {
            "embed_dim": 12,
            "depths": depths,
            "num_heads": heads,
            "window_size": window,
            "mlp_ratio": 2.0,
            "upsampler": upsampler or "none",
            "resi_connection": resi,
            "upscale": scale,
            "img_range": 255.0 if window == 7 else 1.0,
            "channels": channels,
        },
        (2, 22 * scale, 28 * scale, channels),
        file=without_constants if bare else nn.Module.state_dict,
        sizes_px=((22, 28), (37, 17)),
        prepare=to_image,
        tolerance=tolerance,
        graph=graph,
    )


CASES = {
    "swinir-x4-gan": case(
        "nearest+conv",
        4,
        lambda: SwinIr("nearest+conv", 4, resi="3conv", depths=(2, 3)),
        resi="3conv",
        depths="2 3",
    ),
    "swinir-x2-gan": case(
        "nearest+conv",
        2,
        lambda: SwinIr("nearest+conv", 2, depths=(2,), heads=(3,)),
        depths="2",
        heads="3",
        bare=True,
        graph=True,
    ),
    "swinir-x3-classical": case(
        "pixelshuffle",
        3,
        lambda: SwinIr("pixelshuffle", 3, depths=(2, 3, 4), heads=(3, 2, 6)),
        depths="2 3 4",
        heads="3 2 6",
    ),
    "swinir-x8-classical": case(
        "pixelshuffle",
        8,
        lambda: SwinIr("pixelshuffle", 8, depths=(1,), heads=(2,), bias=False, norm=False),
        depths="1",
        heads="2",
    ),
    "swinir-x2-lightweight": case("pixelshuffledirect", 2, lambda: SwinIr("pixelshuffledirect", 2, w=5), window=5),
    "swinir-x1-grey": case("", 1, lambda: SwinIr("", 1, 1), channels=1),
    "swinir-x1-jpeg": case("", 1, lambda: SwinIr("", 1, w=7), window=7),
}
