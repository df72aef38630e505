"""Test-time augmentation: an image flipped and turned by right angles in all eight ways, and the mean of what a network
makes of them.

Each tile is turned by itself, so that a tile takes as long as eight and the image as much memory as ever. Overlaps are
alike on all sides of a tile: turning the tile is cutting the turned image.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.shapes import tile_sizes
from artifact.spec import REFERENCE, Spec
from server.errors import InvalidRequest
from server.images.channels import ChannelPlan
from server.images.sizes import TransformPlan

TURNS = 8


def turn(pixels: NDArray[Any], number: int) -> NDArray[Any]:
    """A view of (H, W, C): way 0 is as it is, the bits are for exchanged sides, rows upwards, columns leftwards."""
    if number & 1:
        pixels = pixels.transpose(1, 0, 2)
    if number & 2:
        pixels = pixels[::-1]
    if number & 4:
        pixels = pixels[:, ::-1]
    return pixels


def turn_back(pixels: NDArray[Any], number: int) -> NDArray[Any]:
    """The inverse of `turn`."""
    if number & 4:
        pixels = pixels[:, ::-1]
    if number & 2:
        pixels = pixels[::-1]
    return pixels.transpose(1, 0, 2) if number & 1 else pixels


def mean(outputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Of what the network gave for each way, floats in [0, 1] or uint8, as floats in [0, 1]. In one order, whichever
    came first, since sums of floats depend on it."""
    top = 255 if outputs[0].dtype == np.uint8 else 1
    total = np.zeros(outputs[0].shape, np.float32)
    for number, output in enumerate(outputs):
        total += turn_back(output, number)
    total /= np.float32(top * len(outputs))
    return total


def in_all_turns(plan: TransformPlan, spec: Spec, takes_floats: bool) -> TransformPlan:
    """The plan with every tile run in all ways. `takes_floats`: the network gives values that are not rounded yet.

    Raises:
        InvalidRequest: the engine takes tiles of that size in one direction only; the network draws what the image does
            not show, each time differently.
    """
    drawn = (
        "label maps" if spec.input_classes else "styles" if {"latent", REFERENCE} & set(plan.passes[0].others) else ""
    )
    if drawn:
        raise InvalidRequest(
            f"tta: the model draws images from {drawn}, and the mean of eight is blurred; leave it unset"
        )
    for each in plan.passes:
        _check_sides(each, spec)
    return replace(
        plan,
        passes=tuple(replace(each, turns=TURNS, is_float=each.is_float or takes_floats) for each in plan.passes),
    )


def _check_sides(plan: ChannelPlan, spec: Spec) -> None:
    height, width = plan.grid.tile_width, plan.grid.tile_height
    if height == width:
        return
    sizes = tile_sizes(spec)
    is_only = any(spec.image_shape[:2])
    if is_only or not any(s.min[0] <= height <= s.max[0] and s.min[1] <= width <= s.max[1] for s in sizes):
        raise InvalidRequest(
            f"tta: tiles of {height} x {width} px are turned to {width} x {height}, which the model's engine does not "
            "take; leave it unset, or export the model for both"
        )
