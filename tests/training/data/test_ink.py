"""Emoji in ink: which code points a font draws, and how."""

import torch
from PIL import ImageFont

from training.data.ink import DRAWN_PX, _sign, drawn


def test_a_code_point_is_one_sign_and_a_sequence_is_none() -> None:
    assert [_sign(code) for code in ("1F600", "2764-FE0F", "0023-FE0F-20E3", "1F468-200D-1F9AF")] == [
        "\U0001f600",
        "\u2764",
        "",
        "",
    ]


def test_a_sign_is_black_on_white() -> None:
    font = ImageFont.load_default(200)
    assert isinstance(font, ImageFont.FreeTypeFont)
    picture = drawn(font, "I")
    assert (picture.shape, picture.dtype) == ((DRAWN_PX, DRAWN_PX), torch.uint8)
    assert (int(picture.min()), int(picture[0, 0])) == (0, 255)
