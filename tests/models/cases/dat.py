"""DAT with both of its ends, windows lying and standing, at sizes that are no multiples of them."""

import torch
from torch import nn

from tests.models.cases.base import Case
from tests.models.references.dat import Dat, WindowPart


@torch.no_grad()
def with_distances(network: nn.Module) -> None:
    """The distances in the file as they always are: the size of a window is read off them."""
    for part in network.modules():
        if isinstance(part, WindowPart):
            part.get_buffer("rpe_biases").copy_(part.distances)


def case(
    upsampler: str, scale: int, depth: tuple[int, ...] = (3, 1), heads: tuple[int, ...] = (4, 2),
    split: tuple[int, int] = (2, 4), channels: int = 3, resi: str = "1conv", bias: bool = True, graph: bool = False,
) -> Case:  # fmt: skip
    return Case(
        "dat",
        lambda: Dat(upsampler, scale, depth, heads, split, channels, resi, bias),
        {
            "embed_dim": 32,
            "depth": " ".join(map(str, depth)),
            "num_heads": " ".join(map(str, heads)),
            "split_size": f"{split[0]}x{split[1]}",
            "expansion_factor": 2.0,
            "upsampler": upsampler,
            "resi_connection": resi,
            "upscale": scale,
            "channels": channels,
        },
        (2, 22 * scale, 29 * scale, channels),
        sizes_px=((22, 29), (37, 17)),
        prepare=with_distances,
        tolerance=5e-4,
        graph=graph,
    )


CASES = {
    "dat-x2": case("pixelshuffle", 2, depth=(3,), heads=(4,), graph=True),
    "dat-x4": case("pixelshuffle", 4, resi="3conv"),
    "dat-x3-light": case("pixelshuffledirect", 3, depth=(1, 2), heads=(2, 4), split=(8, 4), bias=False),
    "dat-x2-grey": case("pixelshuffledirect", 2, depth=(2,), heads=(2,), split=(4, 4), channels=1),
}
