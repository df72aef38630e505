"""SRVGGNetCompact: Wang, Xie, Dong, Shan, "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic
Data", 2021, arXiv:2107.10833; the compact VGG-style network of the 0.2.5 release.

Reads the checkpoints of xinntao/Real-ESRGAN (BasicSR's `SRVGGNetCompact`): keys `body.<i>`; realesr-animevideov3 has 16
inner convs, realesr-general-x4v3 32. Differences: none; ReLU and LeakyReLU variants leave no key of their activation in
the file, so the user says which one it is.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from artifact.spec import Scalar, Task
from models.architecture import Architecture, ArchitectureError, Generator, Setting, StateDict, Tiling
from models.state_dict import load

ACTIVATION = Setting(
    "unknown", "the activation between convs, which leaves no key in the file unless it is PReLU", ("relu", "leakyrelu")
)


class SrvggNet(nn.Module):
    """`convs` 3x3 convs (first and last included) with an activation after each but the last, then pixel shuffle."""

    def __init__(self, channels: int, features: int, convs: int, scale: int, activation: str) -> None:
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = []
        for index in range(convs - 1):
            layers += [nn.Conv2d(channels if index == 0 else features, features, 3, 1, 1)]
            layers += [_activation(activation, features)]
        self.body = nn.Sequential(*layers, nn.Conv2d(features, channels * scale**2, 3, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, scale*H, scale*W) float32, about [0, 1] but unbounded, from `image` (N, C, H, W) float32 in [0, 1]."""
        detail = F.pixel_shuffle(self.body(image), self.scale)
        return detail + F.interpolate(image, scale_factor=float(self.scale), mode="nearest")


def _activation(name: str, features: int) -> nn.Module:
    if name == "prelu":
        return nn.PReLU(features)
    return nn.ReLU(inplace=True) if name == "relu" else nn.LeakyReLU(0.1, inplace=True)


def _convs(state: StateDict) -> list[torch.Tensor]:
    return [state[key] for key in sorted(state, key=_position) if key.endswith(".weight") and state[key].ndim == 4]


def _position(key: str) -> int:
    part = key.split(".")[1] if key.count(".") == 2 else ""
    return int(part) if part.isdigit() else -1


def _matches(state: StateDict) -> bool:
    if not state or not all(key.startswith("body.") and _position(key) >= 0 for key in state):
        return False
    convs = _convs(state)
    if len(convs) < 2 or any(tuple(conv.shape[2:]) != (3, 3) for conv in convs):
        return False
    channels, features, out = convs[0].shape[1], convs[0].shape[0], convs[-1].shape[0]
    scale = math.isqrt(out // channels)
    return (
        all(tuple(conv.shape[:2]) == (features, features) for conv in convs[1:-1])
        and convs[-1].shape[1] == features
        and out == channels * scale**2
        and max(_position(key) for key in state) == 2 * (len(convs) - 1)
    )


def _build(state: StateDict, settings: Mapping[str, Scalar]) -> Generator:
    convs = _convs(state)
    features, channels = convs[0].shape[:2]
    scale = math.isqrt(convs[-1].shape[0] // channels)
    activation = "prelu" if "body.1.weight" in state else str(settings["activation"])
    if activation == "unknown":
        raise ArchitectureError(
            "srvgg without PReLU weights: the file does not say which activation it was trained with; "
            "pass --set activation=relu or --set activation=leakyrelu"
        )
    network = SrvggNet(channels, features, len(convs), scale, activation)
    return Generator(
        network=load(network, state),
        task=Task.SUPER_RESOLUTION,
        hyperparameters={
            "num_feat": features,
            "num_conv": len(convs) - 2,
            "upscale": scale,
            "channels": channels,
            "act_type": activation,
        },
        channels=channels,
        output_range=(0.0, 1.0),
        max_batch_size=8,
        scale=scale,
        tile=Tiling(size_px=256, overlap_px=min(48, len(convs)), multiple_px=1, receptive_field_px=len(convs)),
    )


ARCHITECTURE = Architecture(
    name="srvgg",
    reference="xinntao/Real-ESRGAN SRVGGNetCompact",
    matches=_matches,
    build=_build,
    settings={"activation": ACTIVATION},
)
