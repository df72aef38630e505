"""Emoji: composited, chosen, shrunk; on a small table of made-up ones."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.data.emoji import GOOGLE, PICTURES, TABLE, Style, gather, load, on_white, shrink
from training.data.packages import DataError

ROWS = (
    {"unified": "1F600", "name": "GRINNING FACE", "category": "Smileys & Emotion", "subcategory": "face-smiling"},
    {
        "unified": "1F44B",
        "name": "WAVING HAND",
        "category": "People & Body",
        "subcategory": "hand-fingers-open",
        "skin_variations": {"1F3FB": {"unified": "1F44B-1F3FB", "image": "1f44b-1f3fb.png"}},
    },
    {"unified": "1F1E8-1F1ED", "name": "SWISS FLAG", "category": "Flags", "subcategory": "country-flag"},
    {"unified": "1F3FB", "name": "SKIN TONE", "category": "Component", "subcategory": "skin-tone"},
)


@pytest.fixture
def held(tmp_path: Path) -> tuple[Style, Path]:
    """The rows above, with pictures of one grey each: 10, 20, 30 (the toned hand), 40, 50."""
    table = [{**row, "image": f"{str(row['unified']).lower()}.png"} for row in ROWS]
    (tmp_path / TABLE).write_text(json.dumps(table))
    names = ["1f600", "1f44b", "1f44b-1f3fb", "1f1e8-1f1ed", "1f3fb"]
    for at, name in enumerate(names, 1):
        Image.new("RGBA", (64, 64), (10 * at, 10 * at, 10 * at, 255)).save(tmp_path / f"{name}.png")
    gather(tmp_path, tmp_path / "held")
    hashes = [hashlib.sha256((tmp_path / "held" / name).read_bytes()).hexdigest() for name in (PICTURES, TABLE)]
    style = dataclasses.replace(GOOGLE, pictures_sha256=hashes[0], table_sha256=hashes[1])
    return style, tmp_path / "held"


def test_flags_tones_and_swatches_are_left_out_by_default(held: tuple[Style, Path]) -> None:
    emoji = load(held[0], folder=held[1])
    assert emoji.codes == ("1F600", "1F44B")
    assert emoji.names == ("GRINNING FACE", "WAVING HAND")
    assert emoji.groups == ("face-smiling", "hand-fingers-open")
    assert emoji.labels.tolist() == [0, 1]
    assert emoji.pictures.shape == (2, 3, 32, 32)
    assert emoji.pictures.dtype == torch.uint8
    assert emoji.pictures[:, 0, 0, 0].tolist() == [10, 20]


def test_flags_and_tones_come_where_they_are_asked_for_each_with_its_own_picture(held: tuple[Style, Path]) -> None:
    emoji = load(held[0], 64, folder=held[1], flags=True, tones=True)
    assert emoji.codes == ("1F600", "1F44B", "1F44B-1F3FB", "1F1E8-1F1ED")
    assert emoji.labels.tolist() == [0, 1, 1, 8]
    assert emoji.pictures[:, 2, 63, 63].tolist() == [10, 20, 30, 40]


def test_rows_are_taken_in_the_order_asked_for(held: tuple[Style, Path]) -> None:
    emoji = load(held[0], folder=held[1], flags=True).only([2, 0])
    assert emoji.codes == ("1F1E8-1F1ED", "1F600")
    assert emoji.data.pictures[:, 0, 0, 0].tolist() == [40, 10]
    assert emoji.data.labels.tolist() == [8, 0]


def test_pictures_with_another_hash_are_refused(held: tuple[Style, Path]) -> None:
    np.save(held[1] / PICTURES, np.zeros((5, 64, 64, 3), np.uint8))
    with pytest.raises(DataError, match=r"pictures\.npy: sha256 is \w{64}, expected"):
        load(held[0], folder=held[1])


def test_what_is_transparent_becomes_white_by_its_share(tmp_path: Path) -> None:
    levels = np.array([[[0, 0, 0, 0], [200, 100, 0, 255], [0, 100, 255, 51]]], np.uint8)
    Image.fromarray(levels).save(tmp_path / "one.png")
    expected = [[[255, 255, 255], [200, 100, 0], [204, 224, 255]]]  # 255 - 51 of white, and a fifth of the colour
    assert on_white(tmp_path / "one.png").tolist() == expected


def test_a_shrunk_pixel_is_the_mean_of_its_area() -> None:
    picture = torch.tensor([[0, 10, 100, 100], [20, 30, 100, 100], [7, 7, 1, 2], [7, 7, 3, 4]], dtype=torch.uint8)
    assert shrink(picture[None, None], 2).tolist() == [[[[15, 100], [7, 2]]]]
    assert shrink(picture[None, None], 4).tolist() == [[picture.tolist()]]
