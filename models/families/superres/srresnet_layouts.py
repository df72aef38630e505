"""The keys of SRResNet in five repositories; the network is in `srresnet.py` next to it."""

from dataclasses import dataclass

from models.state_dict import Rules

IN_BLOCK = {"conv1": 0, "bn1": 1, "prelu": 2, "conv2": 3, "bn2": 4}
IN_CONV_BLOCK = {"cnn": 0, "bn": 1, "act": 2}


@dataclass(frozen=True)
class SrResNetKeyLayout:
    """One repository's keys, and what its code does that no key says.

    `rules` rename its keys to ours. `unit_in` and `unit_out` are the units of images: unit (0..1), signed (-1..1) or
    imagenet. `output` is what follows the last conv: clamp, tanh, half-tanh or none.
    """

    name: str
    rules: Rules
    unit_in: str
    unit_out: str
    output: str
    eps: float = 1e-5


LEFTTHOMAS = SrResNetKeyLayout(
    name="leftthomas",
    rules={
        r"block1\.([01])\.(\w+)": r"conv1.\1.\2",
        r"block([2-6])\.(conv1|bn1|prelu|conv2|bn2)\.(\w+)": lambda match: (
            f"trunk.{int(match[1]) - 2}.rcb.{IN_BLOCK[match[2]]}.{match[3]}"
        ),
        r"block7\.([01])\.(\w+)": r"conv2.\1.\2",
        r"block8\.(\d+)\.conv\.(\w+)": r"upsampling.\1.upsample_block.0.\2",
        r"block8\.(\d+)\.prelu\.(\w+)": r"upsampling.\1.upsample_block.2.\2",
        r"block8\.\d+\.(\w+)": r"conv3.\1",
    },
    unit_in="unit",
    unit_out="unit",
    output="half-tanh",
)
LORNATANG = SrResNetKeyLayout(
    name="lornatang",
    rules={
        r"(?:conv[12]\.[01]|trunk\.\d+\.rcb\.[0-4]|upsampling\.\d+\.upsample_block\.[02]|conv3)\.\w+": r"\g<0>",
    },
    unit_in="unit",
    unit_out="unit",
    output="clamp",
)
PYTORCH_GAN = SrResNetKeyLayout(
    name="pytorch-gan",
    rules={
        r"conv[12]\.[01]\.\w+": r"\g<0>",
        r"res_blocks\.(\d+)\.conv_block\.([0-4])\.(\w+)": r"trunk.\1.rcb.\2.\3",
        r"upsampling\.(\d+)\.(\w+)": lambda match: (
            f"upsampling.{int(match[1]) // 4}.upsample_block.{int(match[1]) % 4}.{match[2]}"
        ),
        r"conv3\.0\.(\w+)": r"conv3.\1",
    },
    unit_in="imagenet",
    unit_out="signed",
    output="tanh",
    eps=0.8,
)
AITORZIP = SrResNetKeyLayout(
    name="aitorzip",
    rules={
        r"conv1\.(\w+)": r"conv1.0.\1",
        r"residual_block(\d+)\.(conv1|bn1|conv2|bn2)\.(\w+)": lambda match: (
            f"trunk.{int(match[1]) - 1}.rcb.{IN_BLOCK[match[2]]}.{match[3]}"
        ),
        r"conv2\.(\w+)": r"conv2.0.\1",
        r"bn2\.(\w+)": r"conv2.1.\1",
        r"upsample(\d+)\.conv\.(\w+)": lambda match: f"upsampling.{int(match[1]) - 1}.upsample_block.0.{match[2]}",
        r"conv3\.\w+": r"\g<0>",
    },
    unit_in="imagenet",
    unit_out="imagenet",
    output="none",
)
ALADDINPERSSON = SrResNetKeyLayout(
    name="aladdinpersson",
    rules={
        r"initial\.cnn\.(\w+)": r"conv1.0.\1",
        r"initial\.act\.(\w+)": r"conv1.1.\1",
        r"residuals\.(\d+)\.block1\.(cnn|bn|act)\.(\w+)": lambda match: (
            f"trunk.{match[1]}.rcb.{IN_CONV_BLOCK[match[2]]}.{match[3]}"
        ),
        r"residuals\.(\d+)\.block2\.(cnn|bn)\.(\w+)": lambda match: (
            f"trunk.{match[1]}.rcb.{3 + IN_CONV_BLOCK[match[2]]}.{match[3]}"
        ),
        r"convblock\.(cnn|bn)\.(\w+)": lambda match: f"conv2.{IN_CONV_BLOCK[match[1]]}.{match[2]}",
        r"(?:residuals\.\d+\.block2|convblock)\.act\.\w+": None,  # saved, never run
        r"upsamples\.(\d+)\.conv\.(\w+)": r"upsampling.\1.upsample_block.0.\2",
        r"upsamples\.(\d+)\.act\.(\w+)": r"upsampling.\1.upsample_block.2.\2",
        r"final\.(\w+)": r"conv3.\1",
    },
    unit_in="unit",
    unit_out="signed",
    output="tanh",
)
LAYOUTS = (LEFTTHOMAS, LORNATANG, PYTORCH_GAN, AITORZIP, ALADDINPERSSON)
