"""The units that images are in for a network: (low, high) for black and white, one number or one a channel."""

from collections.abc import Mapping

from models.architecture import Bounds

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

UNITS: Mapping[str, Bounds] = {
    "unit": (0.0, 1.0),
    "signed": (-1.0, 1.0),
    # (x - mean) / std per channel, as networks trained next to a torchvision classifier take images.
    "imagenet": (
        tuple((0 - mean) / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)),
        tuple((1 - mean) / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)),
    ),
}
