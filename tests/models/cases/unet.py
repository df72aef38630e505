"""U-Nets of junyanz/pytorch-CycleGAN-and-pix2pix."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from artifact.spec import Scalar
from tests.models.cases.base import Case
from tests.models.references.lab import lab2rgb, rgb2lab
from tests.models.references.unet import UnetGenerator


def as_colours(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """As the repository's colorization model and its data set do, at a size of 32, under the image's own lightness."""
    lightness = rgb2lab(arrays["image"].double())[:, :1]
    small = nn.functional.interpolate(lightness, (32, 32), mode="bilinear", antialias=True)
    colours = network((small / 50 - 1).float()).double() * 110
    enlarged = nn.functional.interpolate(colours, arrays["image"].shape[2:], mode="bilinear", antialias=True)
    return lab2rgb(torch.cat([lightness, enlarged], 1)).float()


def call_without_eval(network: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """As test.py without --eval calls it, one image a batch: batch norm in training mode. Dropout is left off."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.train()
    return torch.cat([network(image[None]) for image in arrays["image"]])


def _found(inputs: int, outputs: int, downs: int, norm: str) -> dict[str, Scalar]:
    return {"input_nc": inputs, "output_nc": outputs, "ngf": 4, "num_downs": downs, "norm": norm}


CASES = {
    "unet": Case(
        "unet",
        lambda: UnetGenerator(3, 3, 5, 4, "batch", dropout=True),
        _found(3, 3, 5, "batch"),
        (2, 64, 96, 3),
        sizes_px=((64, 96), (96, 32)),
    ),
    "unet-128-instance": Case(
        "unet",
        lambda: UnetGenerator(3, 3, 7, 4, "instance", dropout=True),
        _found(3, 3, 7, "instance"),
        (2, 128, 256, 3),
        sizes_px=((128, 256), (128, 128)),
    ),
    "unet-instance-tracked": Case(
        "unet",
        lambda: UnetGenerator(3, 1, 5, 4, "instance", tracks=True),
        _found(3, 1, 5, "instance"),
        (2, 64, 96, 1),
        sizes_px=((64, 96), (96, 32)),
    ),
    "unet-256-no-norm": Case(
        "unet",
        lambda: UnetGenerator(1, 3, 8, 4, "none"),
        _found(1, 3, 8, "none"),
        (2, 256, 256, 3),
        sizes_px=((256, 256), (256, 256)),
    ),
    "unet-colouring": Case(
        "unet",
        lambda: UnetGenerator(1, 2, 5, 4, "batch"),
        _found(1, 2, 5, "batch"),
        (2, 40, 56, 3),
        call=as_colours,
        overrides={"size": "32"},
        sizes_px=((40, 56), (20, 72)),
        graph=True,
    ),
    "unet-without-eval": Case(
        "unet",
        lambda: UnetGenerator(3, 3, 5, 4, "batch"),
        _found(3, 3, 5, "batch"),
        (2, 64, 96, 3),
        call=call_without_eval,
        overrides={"norm_statistics": "picture"},
        sizes_px=((64, 96), (96, 64)),
    ),
}
