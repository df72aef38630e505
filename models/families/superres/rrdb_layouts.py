"""The keys of RRDBNet in five groups of repositories; the network itself is in `rrdb`."""

import re
from dataclasses import dataclass

from models.architecture import StateDict
from models.state_dict import Rules, rename


@dataclass(frozen=True)
class RrdbKeyLayout:
    """One group's keys, and what its code does that no key says.

    `rules` rename its keys to BasicSR's. `slope` is of the LeakyReLU, `unit` of the images: unit (0..1) or imagenet.
    With `shuffles` it doubles by pixel shuffle after a conv, without by nearest upsampling before one.
    """

    name: str
    rules: Rules
    slope: float = 0.2
    shuffles: bool = False
    unit: str = "unit"


BASICSR = RrdbKeyLayout(
    "basicsr",
    {
        r"(?:conv_first|body\.\d+\.rdb[1-3]\.conv(?:[1-5]|1x1)|conv_body|conv_up\d+|conv_hr|conv_last)\.\w+": r"\g<0>",
    },
)
KAIR = RrdbKeyLayout(
    "kair",
    {
        r"(?:conv_first|conv_last)\.\w+": r"\g<0>",
        r"RRDB_trunk\.(\d+)\.RDB([1-3])\.conv([1-5]|1x1)\.(\w+)": r"body.\1.rdb\2.conv\3.\4",
        r"upconv(\d+)\.(\w+)": r"conv_up\1.\2",
        r"trunk_conv\.(\w+)": r"conv_body.\1",
        r"HRconv\.(\w+)": r"conv_hr.\1",
    },
)
PYTORCH_GAN = RrdbKeyLayout(
    "pytorch-gan",
    {
        r"conv1\.(\w+)": r"conv_first.\1",
        r"res_blocks\.(\d+)\.dense_blocks\.([0-2])\.b([1-5])\.0\.(\w+)": lambda match: (
            f"body.{match[1]}.rdb{int(match[2]) + 1}.conv{match[3]}.{match[4]}"
        ),
        r"conv2\.(\w+)": r"conv_body.\1",
        r"upsampling\.(\d+)\.(\w+)": lambda match: f"conv_up{int(match[1]) // 3 + 1}.{match[2]}",
        r"conv3\.0\.(\w+)": r"conv_hr.\1",
        r"conv3\.2\.(\w+)": r"conv_last.\1",
    },
    slope=0.01,
    shuffles=True,
    unit="imagenet",
)
ALADDINPERSSON = RrdbKeyLayout(
    "aladdinpersson",
    {
        r"initial\.(\w+)": r"conv_first.\1",
        r"residuals\.(\d+)\.rrdb\.([0-2])\.blocks\.([0-4])\.cnn\.(\w+)": lambda match: (
            f"body.{match[1]}.rdb{int(match[2]) + 1}.conv{int(match[3]) + 1}.{match[4]}"
        ),
        r"conv\.(\w+)": r"conv_body.\1",
        r"upsamples\.(\d+)\.conv\.(\w+)": lambda match: f"conv_up{int(match[1]) + 1}.{match[2]}",
        r"final\.0\.(\w+)": r"conv_hr.\1",
        r"final\.2\.(\w+)": r"conv_last.\1",
    },
)
FIXED = (BASICSR, KAIR, PYTORCH_GAN, ALADDINPERSSON)


def find(state: StateDict) -> tuple[RrdbKeyLayout, StateDict] | None:
    """The layout and the weights under BasicSR's names; None if some key is of no layout."""
    old = _old(state)
    for layout in FIXED if old is None else (old,):
        if renamed := rename(state, layout.rules, strict=True):
            return layout, renamed
    return None


def _old(state: StateDict) -> RrdbKeyLayout | None:
    """The first release's `model.<i>`: positions depend on the count of blocks and of upsampling steps."""
    blocks = [int(match[1]) for key in state if (match := re.fullmatch(r"model\.1\.sub\.(\d+)\.weight", key))]
    tops = [int(match[1]) for key in state if (match := re.fullmatch(r"model\.(\d+)\.weight", key))]
    if len(blocks) != 1 or not tops or max(tops) < 4 or (max(tops) - 4) % 3:
        return None
    steps = (max(tops) - 4) // 3
    rules = {
        r"model\.0\.(\w+)": r"conv_first.\1",
        r"model\.1\.sub\.(\d+)\.RDB([1-3])\.conv([1-5])\.0\.(\w+)": r"body.\1.rdb\2.conv\3.\4",
        r"model\.1\.sub\.(\d+)\.RDB([1-3])\.conv1x1\.(\w+)": r"body.\1.rdb\2.conv1x1.\3",
        rf"model\.1\.sub\.{blocks[0]}\.(\w+)": r"conv_body.\1",
        **{rf"model\.{3 + 3 * step}\.(\w+)": rf"conv_up{step + 1}.\1" for step in range(steps)},
        rf"model\.{2 + 3 * steps}\.(\w+)": r"conv_hr.\1",
        rf"model\.{4 + 3 * steps}\.(\w+)": r"conv_last.\1",
    }
    return RrdbKeyLayout("esrgan", rules)
