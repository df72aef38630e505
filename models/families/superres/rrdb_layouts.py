"""The names that five groups of repositories give RRDBNet's layers; the network itself is in `rrdb`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from models.architecture import StateDict
from models.renaming import Names, rename, to

ENDS = {"trunk_conv": "conv_body", "HRconv": "conv_hr"}


@dataclass(frozen=True)
class KeyLayout:
    """One group's way: names, slope of its LeakyReLU, how it doubles, and the unit of pictures (unit or imagenet)."""

    name: str
    names: Names
    slope: float = 0.2
    shuffles: bool = False
    unit: str = "unit"


BASICSR = KeyLayout(
    "basicsr",
    {
        r"conv_first|body\.\d+\.rdb[1-3]\.conv[1-5]|conv_body|conv_up\d+|conv_hr|conv_last": to("{0}"),
    },
)
KAIR = KeyLayout(
    "kair",
    {
        r"conv_first|conv_last": to("{0}"),
        r"RRDB_trunk\.(\d+)\.RDB([1-3])\.conv([1-5])": to("body.{1}.rdb{2}.conv{3}"),
        r"upconv(\d+)": to("conv_up{1}"),
        r"trunk_conv|HRconv": lambda match: ENDS[match[0]],
    },
)
PYTORCH_GAN = KeyLayout(
    "pytorch-gan",
    {
        r"conv1": to("conv_first"),
        r"res_blocks\.(\d+)\.dense_blocks\.([0-2])\.b([1-5])\.0": lambda match: (
            f"body.{match[1]}.rdb{int(match[2]) + 1}.conv{match[3]}"
        ),
        r"conv2": to("conv_body"),
        r"upsampling\.(\d+)": lambda match: f"conv_up{int(match[1]) // 3 + 1}",
        r"conv3\.0": to("conv_hr"),
        r"conv3\.2": to("conv_last"),
    },
    slope=0.01,
    shuffles=True,
    unit="imagenet",
)
ALADDINPERSSON = KeyLayout(
    "aladdinpersson",
    {
        r"initial": to("conv_first"),
        r"residuals\.(\d+)\.rrdb\.([0-2])\.blocks\.([0-4])\.cnn": lambda match: (
            f"body.{match[1]}.rdb{int(match[2]) + 1}.conv{int(match[3]) + 1}"
        ),
        r"conv": to("conv_body"),
        r"upsamples\.(\d+)\.conv": lambda match: f"conv_up{int(match[1]) + 1}",
        r"final\.0": to("conv_hr"),
        r"final\.2": to("conv_last"),
    },
)
FIXED = (BASICSR, KAIR, PYTORCH_GAN, ALADDINPERSSON)


def find(state: StateDict) -> tuple[KeyLayout, StateDict] | None:
    """The layout and the weights under BasicSR's names; None where some key is of no layout."""
    old = _old(state)
    for layout in FIXED if old is None else (old,):
        renamed = rename(state, layout.names)
        if renamed:
            return layout, renamed
    return None


def _old(state: StateDict) -> KeyLayout | None:
    """The first release's `model.<i>`: positions depend on the count of blocks and of upsampling steps."""
    blocks = [int(match[1]) for key in state if (match := re.fullmatch(r"model\.1\.sub\.(\d+)\.weight", key))]
    tops = [int(match[1]) for key in state if (match := re.fullmatch(r"model\.(\d+)\.weight", key))]
    if len(blocks) != 1 or not tops or max(tops) < 4 or (max(tops) - 4) % 3:
        return None
    steps = (max(tops) - 4) // 3
    names: Mapping[str, str] = {
        r"model\.0": "conv_first",
        r"model\.1\.sub\.(\d+)\.RDB([1-3])\.conv([1-5])\.0": "body.{1}.rdb{2}.conv{3}",
        rf"model\.1\.sub\.{blocks[0]}": "conv_body",
        **{rf"model\.{3 + 3 * step}": f"conv_up{step + 1}" for step in range(steps)},
        rf"model\.{2 + 3 * steps}": "conv_hr",
        rf"model\.{4 + 3 * steps}": "conv_last",
    }
    return KeyLayout("esrgan", {pattern: to(name) for pattern, name in names.items()})
