"""The names that five repositories give SRResNet's layers; the network is in `srresnet.py` next to it."""

import re
from dataclasses import dataclass

from models.renaming import NOTHING, Names, to

IN_BLOCK = {"conv1": 0, "bn1": 1, "prelu": 2, "conv2": 3, "bn2": 4}
IN_CONV_BLOCK = {"cnn": 0, "bn": 1, "act": 2}


@dataclass(frozen=True)
class KeyLayout:
    """One repository's way.

    `names` maps patterns of its layers' names to ours; `unused` is a pattern of layers that it saves and never runs.
    `unit_in` and `unit_out` are pictures' units: unit (0..1), signed (-1..1) or imagenet.
    """

    name: str
    names: Names
    unit_in: str
    unit_out: str
    output: str
    eps: float = 1e-5
    unused: str = NOTHING


def _in_pytorch_gan_step(match: re.Match[str]) -> str:
    return f"upsampling.{int(match[1]) // 4}.upsample_block.{int(match[1]) % 4}"


LEFTTHOMAS = KeyLayout(
    name="leftthomas",
    names={
        r"block1\.([01])": to("conv1.{1}"),
        r"block([2-6])\.(conv1|bn1|prelu|conv2|bn2)": lambda match: (
            f"trunk.{int(match[1]) - 2}.rcb.{IN_BLOCK[match[2]]}"
        ),
        r"block7\.([01])": to("conv2.{1}"),
        r"block8\.(\d+)\.conv": to("upsampling.{1}.upsample_block.0"),
        r"block8\.(\d+)\.prelu": to("upsampling.{1}.upsample_block.2"),
        r"block8\.\d+": to("conv3"),
    },
    unit_in="unit",
    unit_out="unit",
    output="half-tanh",
)
LORNATANG = KeyLayout(
    name="lornatang",
    names={
        r"conv1\.[01]|trunk\.\d+\.rcb\.[0-4]|conv2\.[01]|upsampling\.\d+\.upsample_block\.[02]|conv3": to("{0}"),
    },
    unit_in="unit",
    unit_out="unit",
    output="clamp",
)
PYTORCH_GAN = KeyLayout(
    name="pytorch-gan",
    names={
        r"conv1\.[01]|conv2\.[01]": to("{0}"),
        r"res_blocks\.(\d+)\.conv_block\.([0-4])": to("trunk.{1}.rcb.{2}"),
        r"upsampling\.(\d+)": _in_pytorch_gan_step,
        r"conv3\.0": to("conv3"),
    },
    unit_in="imagenet",
    unit_out="signed",
    output="tanh",
    eps=0.8,
)
AITORZIP = KeyLayout(
    name="aitorzip",
    names={
        r"conv1": to("conv1.0"),
        r"residual_block(\d+)\.(conv1|bn1|conv2|bn2)": lambda match: (
            f"trunk.{int(match[1]) - 1}.rcb.{IN_BLOCK[match[2]]}"
        ),
        r"conv2": to("conv2.0"),
        r"bn2": to("conv2.1"),
        r"upsample(\d+)\.conv": lambda match: f"upsampling.{int(match[1]) - 1}.upsample_block.0",
        r"conv3": to("{0}"),
    },
    unit_in="imagenet",
    unit_out="imagenet",
    output="none",
)
ALADDINPERSSON = KeyLayout(
    name="aladdinpersson",
    names={
        r"initial\.cnn": to("conv1.0"),
        r"initial\.act": to("conv1.1"),
        r"residuals\.(\d+)\.block1\.(cnn|bn|act)": lambda match: f"trunk.{match[1]}.rcb.{IN_CONV_BLOCK[match[2]]}",
        r"residuals\.(\d+)\.block2\.(cnn|bn)": lambda match: f"trunk.{match[1]}.rcb.{3 + IN_CONV_BLOCK[match[2]]}",
        r"convblock\.(cnn|bn)": lambda match: f"conv2.{IN_CONV_BLOCK[match[1]]}",
        r"upsamples\.(\d+)\.conv": to("upsampling.{1}.upsample_block.0"),
        r"upsamples\.(\d+)\.act": to("upsampling.{1}.upsample_block.2"),
        r"final": to("conv3"),
    },
    unused=r"residuals\.\d+\.block2\.act|convblock\.act",
    unit_in="unit",
    unit_out="signed",
    output="tanh",
)
LAYOUTS = (LEFTTHOMAS, LORNATANG, PYTORCH_GAN, AITORZIP, ALADDINPERSSON)
