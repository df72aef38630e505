"""Google's emoji in ink: the font Noto Emoji, black on white, for those that `training.data.emoji` has in colour.

OFL-1.1, copyright Google LLC; from the npm package `@expo-google-fonts/noto-emoji` (MIT and OFL-1.1), whose font is
kept under ~/.cache/ganserve and verified again at each load. Both are by one hand: the shapes are nearly the same.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from training.data import packages
from training.data.emoji import FETCHED, GOOGLE, Emoji, load, shrink
from training.data.packages import Package

PACKAGE = Package(
    "@expo-google-fonts/noto-emoji", "0.4.7", "6a25fd5a4da5bb34bbc2d300531bbf32de86afd866e119314d7e358f61a6104d"
)
NAME = "ink"
FONT = "NotoEmoji_400Regular.ttf"
FONT_SHA256 = "24aaa2a20c9c06ffe9bf04284bfd1f14376a329d10122f902abe2770817eb504"
DRAWN_PX, EM_PX = 256, 200
CORNER_PX = (1, 10)  # where the font's square of 254 px lies in the picture
SELECTOR = "-FE0F"  # says that a code point is meant as a picture
NOT_IN_FONT = "\ue000"


def pairs(size_px: int, *, folder: Path | None = None) -> tuple[Emoji, Tensor]:
    """Google's emoji of one code point each, and the same in ink (N, 3, S, S) uint8; without flags and skin tones.

    `folder` holds the folders `google` and `ink`; both are fetched where it is not given.

    Raises:
        DataError: the data cannot be fetched, is incomplete, or has another sha256.
    """
    colour = load(GOOGLE, size_px, folder=folder and folder / GOOGLE.name)
    held = folder / NAME if folder else fetch()
    packages.verify(held / FONT, FONT_SHA256)
    font = ImageFont.truetype(held / FONT, EM_PX, layout_engine=ImageFont.Layout.BASIC)
    missing = bytes(font.getmask(NOT_IN_FONT))
    signs = {row: _sign(code) for row, code in enumerate(colour.codes)}
    rows = [row for row, sign in signs.items() if sign and bytes(font.getmask(sign)) != missing]
    ink = torch.stack([drawn(font, signs[row]) for row in rows])
    return colour.only(rows), shrink(ink[:, None], size_px).expand(-1, 3, -1, -1).contiguous()


def fetch(folder: Path = FETCHED / NAME) -> Path:
    """`folder` with the font in it.

    Raises:
        DataError: npm is missing or fails, or the package has another sha256.
    """
    if not (folder / FONT).is_file():
        packages.fetch(PACKAGE, [f"package/400Regular/{FONT}"], folder)
    return folder


def drawn(font: ImageFont.FreeTypeFont, sign: str) -> Tensor:
    """(DRAWN_PX, DRAWN_PX) uint8: `sign` in black on white."""
    paper = Image.new("L", (DRAWN_PX, DRAWN_PX), 255)
    ImageDraw.Draw(paper).text(CORNER_PX, sign, font=font, fill=0)
    return torch.from_numpy(np.array(paper))


def _sign(code: str) -> str:
    """The character of a code point such as "1F600"; none of a sequence of several."""
    bare = code.removesuffix(SELECTOR)
    return "" if "-" in bare else chr(int(bare, 16))
