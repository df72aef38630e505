"""NVlabs/SPADE: numbers of classes and edges, norms, up-samplings, and a latent."""

import torch
from torch import nn

from tests.models.cases.base import Case
from tests.models.references.spade import Spade


def _settled(network: nn.Module) -> None:
    """The vectors of spectral norm as training leaves them; convs as strong as before."""
    for module in network.modules():
        if "weight_u" in dict(module.named_buffers(recurse=False)):
            weight = module.get_parameter("weight_orig").data
            left, sizes, right = torch.linalg.svd(weight.flatten(1), full_matrices=False)
            module.get_buffer("weight_u").copy_(left[:, 0])
            module.get_buffer("weight_v").copy_(right[0])
            weight.div_(sizes[0])


SIZES = ((64, 96), (96, 64))
CASES = {
    "spade": Case(
        "spade",
        lambda: Spade(4, 6, "normal", hidden=8),
        {"label_nc": 5, "no_instance": False, "ngf": 4, "z_dim": 0, "norm": "batch", "upsampling": "normal"},
        (2, 64, 96, 3),
        prepare=_settled,
        overrides={"input": "labels+instances"},
        sizes_px=SIZES,
    ),
    "spade-latent": Case(
        "spade",
        lambda: Spade(4, 5, "more", "instance", z=6, crop=128, hidden=8),
        {"label_nc": 5, "no_instance": True, "ngf": 4, "z_dim": 6, "norm": "instance", "upsampling": "more"},
        (2, 64, 128, 3),
        prepare=_settled,
        overrides={"input": "labels", "unknown": "true", "upsampling": "more", "aspect_ratio": "2"},
        graph=True,
    ),
    "spade-most": Case(
        "spade",
        lambda: Spade(4, 151, "most", hidden=4),
        {"label_nc": 151, "no_instance": True, "ngf": 4, "z_dim": 0, "norm": "batch", "upsampling": "most"},
        (2, 128, 128, 3),
        prepare=_settled,
        sizes_px=((128, 128), (128, 256)),
    ),
}
