"""What stands in the `blocks` of a residual generator's state dict, for ajbrock/BigGAN-PyTorch and StudioGAN."""

import itertools
import math
import re
from dataclasses import dataclass

import torch

from models.architecture import ArchitectureError, StateDict
from models.families.residual.conditional_norm import linear_weights, table_weights


@dataclass(frozen=True)
class Entry:
    """One module of `blocks`: its prefix, its widths, and which kind it is.

    `bottleneck` blocks have four convs, `projected` ones of them a 1x1 conv next to them; attention has one width.
    """

    prefix: str
    before: int
    after: int
    attention: bool = False
    bottleneck: bool = False
    projected: bool = False


def entries(state: StateDict, names: str, attention: str) -> list[Entry]:
    """The modules `blocks.<i>.<j>` in order, where weights are folded already.

    Args:
        state: the whole state dict.
        names: what a block's convs are called before their number: "conv" (1 to 2 or 4) or "conv2d".
        attention: what the attention's first conv is called.

    Raises:
        ArchitectureError: an entry that is neither, or blocks whose widths do not chain.
    """
    places = {(int(found[1]), int(found[2])) for key in state if (found := re.match(r"blocks\.(\d+)\.(\d+)\.", key))}
    listed = [_entry(state, f"blocks.{i}.{j}.", names, attention) for i, j in sorted(places)]
    for one, two in itertools.pairwise(listed):
        if one.after != two.before:
            raise ArchitectureError(f"{one.prefix} gives {one.after} channels and {two.prefix} takes {two.before}")
    return listed


def _entry(state: StateDict, prefix: str, names: str, attention: str) -> Entry:
    if (query := state.get(f"{prefix}{attention}.weight")) is not None:
        return Entry(prefix, query.shape[1], query.shape[1], attention=True)
    convs = {int(key.removeprefix(prefix + names).split(".")[0]) for key in state if _is_conv(key, prefix + names)}
    bottleneck = 4 in convs
    first, last = state.get(f"{prefix}{names}1.weight"), state.get(f"{prefix}{names}{4 if bottleneck else 2}.weight")
    if first is None or last is None or first.ndim != 4 or last.ndim != 4:
        raise ArchitectureError(f"{prefix} is neither a residual block nor attention")
    return Entry(prefix, first.shape[1], last.shape[0], bottleneck=bottleneck, projected=bottleneck and 0 in convs)


def _is_conv(key: str, start: str) -> bool:
    return re.fullmatch(re.escape(start) + r"\d+\.weight", key) is not None


def joined_norms(state: StateDict, table: bool) -> dict[str, torch.Tensor]:
    """The state with every pair `<norm>.gain.weight`, `<norm>.bias.weight` made one `<norm>.affine`, gain = 1 + `gain`.

    `table`: they are embeddings (classes, C), not linear (C, D).
    """
    joined = dict(state)
    for key in state:
        prefix = key.removesuffix("gain.weight")
        if prefix == key or f"{prefix}bias.weight" not in state:
            continue
        gain, bias = joined.pop(key), joined.pop(f"{prefix}bias.weight")
        parts = table_weights(gain, bias) if table else linear_weights(gain, bias)
        joined.update({prefix + name: tensor for name, tensor in parts.items()})
    return joined


def side_px(stem: torch.Tensor | None, width: int) -> int:
    """Side of the square first map of `width` channels, from the stem's weight; 0 if it is none."""
    if stem is None or stem.ndim != 2 or not width or stem.shape[0] % width:
        return 0
    side = math.isqrt(stem.shape[0] // width)
    return side if side**2 * width == stem.shape[0] else 0
