"""FastGAN at 256 px with noise as an input, and at 1024 px, if it is the same at every call."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from tests.models.cases.base import Case
from tests.models.references.fastgan import FastGan, generate


def _settled(gain: float) -> Callable[[nn.Module], None]:
    """Singular vectors that belong to the weights, as training leaves them; gains that keep the image's contrast."""

    def settle(network: nn.Module) -> None:
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                    weight = module.get_parameter("weight_orig")
                    matrix = weight.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) else weight
                    left, _, right = torch.linalg.svd(matrix.flatten(1), full_matrices=False)
                    module.get_buffer("weight_u").copy_(left[:, 0])
                    module.get_buffer("weight_v").copy_(right[0])
                if isinstance(module, nn.BatchNorm2d):
                    module.weight.mul_(gain)

    return settle


def _draw_fixed(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    size = sum(2 * side**2 for side in (8, 32, 128, 512))
    noise = np.random.RandomState(0).randn(1, size).astype(np.float32)
    return generate(network, {**arrays, "noise": torch.from_numpy(noise)})


CASES = {
    "fastgan": Case(
        "fastgan",
        lambda: FastGan(ngf=8, nz=12, im_size=256),
        {"nz": 12, "ngf": 8, "nc": 3, "im_size": 256, "noise": "input"},
        (2, 256, 256, 3),
        call=generate,
        prepare=_settled(2.0),
        graph=True,
    ),
    "fastgan-1024": Case(
        "fastgan",
        lambda: FastGan(ngf=8, nz=6, im_size=1024),
        {"nz": 6, "ngf": 8, "nc": 3, "im_size": 1024, "noise": "const"},
        (2, 1024, 1024, 3),
        call=_draw_fixed,
        prepare=_settled(3.0),
    ),
}
