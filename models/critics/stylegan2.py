"""StyleGAN2's residual discriminator: Karras, Laine, Aittala, Hellsten, Lehtinen, Aila, 2019, arXiv:1912.04958.

Reads those of rosinality/stylegan2-pytorch (key `d` of its files: `convs.0.0.weight` ... `final_linear.1.bias`) and of
NVlabs/stylegan2-ada-pytorch and stylegan3 (key `D` of their pickles: `b<side>...`, also with classes, architecture
resnet), and of this repository's recipes `emoji-stylegan2` and `images`, whose last layer has an output for each
class. Differences: float32 throughout; gains are folded into the weights; the minibatch's standard deviation is that of
the image and fixed references (`Compares`).
"""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from artifact.spec import Scalar
from models.architecture import ArchitectureError, StateDict
from models.critics.critic import Critic, Judged, Layout, require_channels, require_classes, require_side
from models.critics.stylegan2_layers import Conv, LabelMapping, Linear, OneOf, Residual, StyleCritic
from models.state_dict import require_shapes, shape

GROUP = 4
TAPS = 4
MAPPING_RATE = 0.01
# conv_clamp of NVIDIA's scripts.
CLAMP = 256.0


# rosinality


def _rosinality_blocks(state: StateDict) -> int:
    """How many residual blocks there are."""
    return len({key.split(".")[1] for key in state if re.match(r"convs\.[1-9]\d*\.", key)})


def _rosinality_shapes(state: StateDict) -> dict[str, tuple[int, ...]]:
    """Every tensor's shape, from those of the biases."""
    first, channels = shape(state, "convs.0.0.weight", 4)[:2]
    shapes: dict[str, tuple[int, ...]] = {"convs.0.0.weight": (first, channels, 1, 1), "convs.0.1.bias": (first,)}
    before = first
    for number in range(1, _rosinality_blocks(state) + 1):
        block, after = f"convs.{number}", shape(state, f"convs.{number}.conv2.1.weight", 4)[0]
        shapes |= {
            f"{block}.conv1.0.weight": (before, before, 3, 3),
            f"{block}.conv1.1.bias": (before,),
            f"{block}.conv2.0.kernel": (TAPS, TAPS),
            f"{block}.conv2.1.weight": (after, before, 3, 3),
            f"{block}.conv2.2.bias": (after,),
            f"{block}.skip.0.kernel": (TAPS, TAPS),
            f"{block}.skip.1.weight": (after, before, 1, 1),
        }
        before = after
    last = shape(state, "final_conv.0.weight", 4)[0]
    return shapes | {
        "final_conv.0.weight": (last, before + 1, 3, 3),
        "final_conv.1.bias": (last,),
        "final_linear.0.weight": (last, last * 16),
        "final_linear.0.bias": (last,),
        "final_linear.1.weight": (1, last),
        "final_linear.1.bias": (1,),
    }


def _is_rosinality(state: StateDict) -> bool:
    return "convs.0.0.weight" in state and "final_linear.1.bias" in state and "final_conv.1.bias" in state


def _build_rosinality(state: StateDict, judged: Judged, config: Mapping[str, object]) -> Critic:
    require_shapes(state, _rosinality_shapes(state))
    blocks = _rosinality_blocks(state)
    require_channels(state["convs.0.0.weight"].shape[1], judged)
    require_side(4 * 2**blocks, judged)
    body: list[nn.Module] = [Conv(state["convs.0.0.weight"], state["convs.0.1.bias"], None)]
    for number in range(1, blocks + 1):
        block = f"convs.{number}"
        kernel, beside = state[f"{block}.conv2.0.kernel"], state[f"{block}.skip.0.kernel"]
        first = Conv(state[f"{block}.conv1.0.weight"], state[f"{block}.conv1.1.bias"], None)
        second = Conv(state[f"{block}.conv2.1.weight"], state[f"{block}.conv2.2.bias"], kernel)
        body.append(Residual(first, second, Conv(state[f"{block}.skip.1.weight"], None, beside)))
    conv = Conv(state["final_conv.0.weight"], state["final_conv.1.bias"], None)
    linears = [
        Linear(state[f"final_linear.{i}.weight"], state[f"final_linear.{i}.bias"], activated=not i) for i in (0, 1)
    ]
    return _critic(StyleCritic(nn.Sequential(*body), conv, linears, GROUP), blocks)


# NVIDIA


def _nvidia_sides(state: StateDict) -> list[int]:
    """Sides of the blocks, the largest first; 4 is left out."""
    found = {int(match[1]) for key in state if (match := re.match(r"b(\d{1,4})\.conv1\.", key))}
    return sorted(found, reverse=True)


def _nvidia_shapes(state: StateDict, sides: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Every tensor's shape but the label's."""
    first, channels = shape(state, f"b{sides[0]}.fromrgb.weight", 4)[:2]
    shapes: dict[str, tuple[int, ...]] = {
        f"b{sides[0]}.fromrgb.weight": (first, channels, 1, 1),
        f"b{sides[0]}.fromrgb.bias": (first,),
        f"b{sides[0]}.fromrgb.resample_filter": (TAPS, TAPS),
    }
    before = first
    for side in sides:
        after = shape(state, f"b{side}.conv1.weight", 4)[0]
        shapes |= {
            f"b{side}.resample_filter": (TAPS, TAPS),
            f"b{side}.conv0.weight": (before, before, 3, 3),
            f"b{side}.conv0.bias": (before,),
            f"b{side}.conv0.resample_filter": (TAPS, TAPS),
            f"b{side}.conv1.weight": (after, before, 3, 3),
            f"b{side}.conv1.bias": (after,),
            f"b{side}.conv1.resample_filter": (TAPS, TAPS),
            f"b{side}.skip.weight": (after, before, 1, 1),
            f"b{side}.skip.resample_filter": (TAPS, TAPS),
        }
        before = after
    mapped = shape(state, "b4.out.weight", 2)[0]
    return shapes | {
        "b4.conv.weight": (before, before + 1, 3, 3),
        "b4.conv.bias": (before,),
        "b4.conv.resample_filter": (TAPS, TAPS),
        "b4.fc.weight": (before, before * 16),
        "b4.fc.bias": (before,),
        "b4.out.weight": (mapped, before),
        "b4.out.bias": (mapped,),
    }


def _is_nvidia(state: StateDict) -> bool:
    return "b4.out.weight" in state and "b4.fc.weight" in state and bool(_nvidia_sides(state))


def _build_nvidia(state: StateDict, judged: Judged, config: Mapping[str, object]) -> Critic:
    sides = _nvidia_sides(state)
    if f"b{sides[0]}.skip.weight" not in state or (f"b{sides[-1]}.fromrgb.weight" in state and len(sides) > 1):
        raise ArchitectureError("a discriminator of another architecture than resnet, the only one that is read")
    mapping = _nvidia_mapping(state, judged)
    own = {key: tensor for key, tensor in state.items() if not key.startswith("mapping.")}
    # All its filters are the same, and which of the layers have one differs between releases.
    filters = {key: tensor for key, tensor in own.items() if key.endswith("resample_filter")}
    expected = {
        key: size
        for key, size in _nvidia_shapes(state, sides).items()
        if not key.endswith("resample_filter") or key in filters
    }
    require_shapes(own, expected)
    if not filters:
        raise ArchitectureError("it has no resample_filter")
    kernel = next(iter(filters.values()))
    if any(not torch.equal(kernel, each) for each in filters.values()):
        raise ArchitectureError("its resample_filters differ")
    require_channels(state[f"b{sides[0]}.fromrgb.weight"].shape[1], judged)
    require_side(sides[0], judged)
    if sides != [sides[0] // 2**step for step in range(len(sides))] or sides[-1] != 8:
        raise ArchitectureError(f"its blocks are of {', '.join(map(str, sides))} px, each must have half the side")
    assumed: dict[str, Scalar] = {}
    clamp = _fact(config, "b4.conv.conv_clamp", CLAMP, assumed)
    group = int(_fact(config, "b4.mbstd.group_size", GROUP, assumed))
    body: list[nn.Module] = [
        Conv(state[f"b{sides[0]}.fromrgb.weight"], state[f"b{sides[0]}.fromrgb.bias"], None, clamp)
    ]
    for side in sides:
        first = Conv(state[f"b{side}.conv0.weight"], state[f"b{side}.conv0.bias"], None, clamp)
        second = Conv(state[f"b{side}.conv1.weight"], state[f"b{side}.conv1.bias"], kernel, clamp)
        body.append(Residual(first, second, Conv(state[f"b{side}.skip.weight"], None, kernel)))
    conv = Conv(state["b4.conv.weight"], state["b4.conv.bias"], None, clamp)
    linears = [
        Linear(state["b4.fc.weight"], state["b4.fc.bias"], activated=True),
        Linear(state["b4.out.weight"], state["b4.out.bias"], activated=False),
    ]
    network = StyleCritic(nn.Sequential(*body), conv, linears, group, mapping)
    return _critic(network, len(sides), judged.classes if mapping else 0, assumed)


def _nvidia_mapping(state: StateDict, judged: Judged) -> LabelMapping | None:
    """The label's network; None without classes."""
    named = {key: tensor for key, tensor in state.items() if key.startswith("mapping.")}
    if not named:
        if len(state["b4.out.weight"]) != 1:
            raise ArchitectureError("its last layer has several outputs, and it has no mapping of labels")
        return None
    length, classes = shape(state, "mapping.embed.weight", 2)
    require_classes(classes, judged)
    count = sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", key)) for key in named)
    shapes: dict[str, tuple[int, ...]] = {"mapping.embed.weight": (length, classes), "mapping.embed.bias": (length,)}
    for number in range(count):
        shapes |= {f"mapping.fc{number}.weight": (length, length), f"mapping.fc{number}.bias": (length,)}
    require_shapes(named, shapes)
    embed = Linear(named["mapping.embed.weight"], named["mapping.embed.bias"], activated=False)
    layers = [
        Linear(named[f"mapping.fc{i}.weight"], named[f"mapping.fc{i}.bias"], activated=True, rate=MAPPING_RATE)
        for i in range(count)
    ]
    return LabelMapping(embed, layers, classes)


def _fact(config: Mapping[str, object], name: str, default: float, assumed: dict[str, Scalar]) -> float:
    """What a pickle says; else the scripts' own value, noted in `assumed`."""
    if name in config:
        value = config[name]
        return float(value) if isinstance(value, int | float) else 0.0
    assumed[name.rpartition(".")[2]] = default
    return default


# this repository


def _is_own(state: StateDict) -> bool:
    return {"main.0.weight", "main.0.bias", "last.weight", "score.1.weight", "score.2.weight"} <= state.keys()


def _build_own(state: StateDict, judged: Judged, config: Mapping[str, object]) -> Critic:
    first, channels = shape(state, "main.0.weight", 4)[:2]
    shapes: dict[str, tuple[int, ...]] = {"main.0.weight": (first, channels, 4, 4), "main.0.bias": (first,)}
    body: list[nn.Module] = [Conv(state["main.0.weight"], state["main.0.bias"], None, stride=2)]
    blocks, before = len({key.split(".")[1] for key in state if key.startswith("main.")}) - 1, first
    for number in range(1, blocks + 1):
        block, after = f"main.{number}", shape(state, f"main.{number}.convs.1.weight", 4)[0]
        shapes |= {
            f"{block}.convs.0.weight": (before, before, 3, 3),
            f"{block}.convs.0.bias": (before,),
            f"{block}.convs.1.weight": (after, before, 4, 4),
            f"{block}.convs.1.bias": (after,),
            f"{block}.skip.weight": (after, before, 1, 1),
        }
        before = after
    shapes |= {"last.weight": (before, before + 1, 3, 3), "last.bias": (before,)}
    shapes |= {"score.1.weight": (before, before * 16), "score.1.bias": (before,)}
    classes = judged.classes if len(state["score.2.weight"]) > 1 else 0
    if classes:
        require_classes(len(state["score.2.weight"]), judged)
    shapes |= {"score.2.weight": (max(1, classes), before), "score.2.bias": (max(1, classes),)}
    require_shapes(state, shapes)
    require_channels(channels, judged)
    require_side(8 * 2**blocks, judged)
    for number in range(1, blocks + 1):
        part = {key.removeprefix(f"main.{number}."): value for key, value in state.items()}
        one = Conv(part["convs.0.weight"], part["convs.0.bias"], None)
        two = Conv(part["convs.1.weight"], part["convs.1.bias"], None, stride=2)
        body.append(Residual(one, two, Conv(part["skip.weight"], None, None), pooled=True))
    conv = Conv(state["last.weight"], state["last.bias"], None)
    linears = [Linear(state[f"score.{i}.weight"], state[f"score.{i}.bias"], activated=i == 1) for i in (1, 2)]
    mapping = OneOf(classes) if classes else None
    return _critic(StyleCritic(nn.Sequential(*body), conv, linears, GROUP, mapping), blocks, classes)


def _critic(network: StyleCritic, blocks: int, classes: int = 0, assumed: Mapping[str, Scalar] | None = None) -> Critic:
    network.eval().requires_grad_(False)
    return Critic(network, classes, network.group, {"blocks": blocks, "group": network.group}, assumed or {})


ROSINALITY = Layout("stylegan2", "rosinality/stylegan2-pytorch", _is_rosinality, _build_rosinality)
NVIDIA = Layout("stylegan2-ada", "NVlabs/stylegan2-ada-pytorch, stylegan3", _is_nvidia, _build_nvidia)
OWN = Layout("emoji-stylegan2", "ganserve training/", _is_own, _build_own)
