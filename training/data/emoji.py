"""Emoji: the same 1,636 things drawn by two hands, as npm packages carry them in 64 px.

Google's Noto Emoji (Apache-2.0) from `emoji-datasource-google`, Twitter's Twemoji (CC BY 4.0) from
`emoji-datasource-twitter` (the packages' own text is MIT). Each archive is fetched once and verified; its pictures are
kept as one array under ~/.cache/ganserve, verified again at each load.
"""

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from training.data import packages
from training.data.packages import CACHE, DataError, Package
from training.loop import Data

CATEGORIES = (
    "Smileys & Emotion",
    "People & Body",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
    "Symbols",
    "Flags",
)
TABLE = "emoji.json"
TABLE_SHA256 = "1d602e65be88772bf8cc368ce16b855d719eeddbafe128d471b80203f494d29f"
PICTURES = "pictures.npy"
DRAWN_PX = 64
FETCHED = CACHE / "emoji"


@dataclass(frozen=True)
class Style:
    """One hand's drawings: its name in the package, the package, and the sha256 of the array made of its pictures."""

    name: str
    package: Package
    pictures_sha256: str
    table_sha256: str = TABLE_SHA256


GOOGLE = Style(
    "google",
    Package("emoji-datasource-google", "16.0.0", "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"),
    "de154f9920c768859dae4952e29ea112518058f9991d5b5843283f76152d9cc9",
)
TWITTER = Style(
    "twitter",
    Package("emoji-datasource-twitter", "16.0.0", "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877"),
    "452e5956d77e06d54faf199f2f5adf423e88468424abf174d56c814b8caa1161",
)


@dataclass(frozen=True)
class Emoji:
    """Pictures (N, 3, S, S) uint8, sRGB on white, their categories (N,) int64 and, for each, what it is.

    `labels` index CATEGORIES; `codes` are code points such as "1F600"; `names` are Unicode's; `groups` are Unicode's
    finer categories, such as "face-smiling".
    """

    pictures: Tensor
    labels: Tensor
    codes: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...]

    @property
    def data(self) -> Data:
        """Pictures and labels, as `training.loop.learn` takes them."""
        return Data(self.pictures, self.labels)

    def only(self, rows: Sequence[int]) -> "Emoji":
        """These rows, in this order."""
        kept = torch.tensor(rows, dtype=torch.int64)
        codes, names, groups = (tuple(of[row] for row in rows) for of in (self.codes, self.names, self.groups))
        return Emoji(self.pictures[kept], self.labels[kept], codes, names, groups)


def load(
    style: Style, size_px: int = 32, *, folder: Path | None = None, flags: bool = False, tones: bool = False
) -> Emoji:
    """One hand's emoji, in the order of the package's table; fetched where `folder` is not given.

    Args:
        style: GOOGLE or TWITTER.
        size_px: side of the pictures, up to 64; smaller ones are means over areas.
        folder: where `fetch` left them.
        flags: with the 270 flags.
        tones: with the variants of people in five skin tones.

    Raises:
        DataError: the data cannot be fetched, is incomplete, or has another sha256.
    """
    held = folder or fetch(style)
    packages.verify(held / TABLE, style.table_sha256)
    packages.verify(held / PICTURES, style.pictures_sha256)
    rows = list(_rows(json.loads((held / TABLE).read_text(encoding="utf-8"))))
    pictures: NDArray[np.uint8] = np.load(held / PICTURES)
    chosen = [
        at
        for at, row in enumerate(rows)
        if row["category"] in CATEGORIES and (flags or row["category"] != "Flags") and (tones or not row["toned"])
    ]
    kept = [rows[at] for at in chosen]
    return Emoji(
        shrink(torch.from_numpy(pictures[chosen]).permute(0, 3, 1, 2), size_px),
        torch.tensor([CATEGORIES.index(row["category"]) for row in kept]),
        tuple(row["unified"] for row in kept),
        tuple(row["name"] for row in kept),
        tuple(row["subcategory"] for row in kept),
    )


def pairs(
    size_px: int = 32, *, folder: Path | None = None, flags: bool = False, tones: bool = False
) -> tuple[Emoji, Emoji]:
    """Google's and Twitter's drawings of the same code points, in the same order; as `load` gives them.

    `folder` holds a folder of each style's name; both are fetched where it is not given.

    Raises:
        DataError: as `load`.
    """
    google, twitter = (
        load(style, size_px, folder=folder and folder / style.name, flags=flags, tones=tones)
        for style in (GOOGLE, TWITTER)
    )
    if google.codes != twitter.codes:
        raise DataError("the packages' tables list different emoji")
    return google, twitter


def fetch(style: Style, folder: Path | None = None) -> Path:
    """`folder` (default: one of the style's name in the cache) with the table and the array of all pictures in it.

    Raises:
        DataError: npm is missing or fails, or the package has another sha256.
    """
    held = folder or FETCHED / style.name
    if not (held / PICTURES).is_file():
        held.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".emoji-", dir=held.parent) as staging:
            members = (f"package/{TABLE}", f"package/img/{style.name}/{DRAWN_PX}/*.png")
            packages.fetch(style.package, members, Path(staging))
            gather(Path(staging), held)
    return held


def gather(unpacked: Path, folder: Path) -> None:
    """Writes the table and one array (N, 64, 64, 3) uint8 of its pictures, on white, into `folder`."""
    rows = _rows(json.loads((unpacked / TABLE).read_text(encoding="utf-8")))
    pictures = np.stack([on_white(unpacked / row["image"]) for row in rows])
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(unpacked / TABLE, folder / TABLE)
    staging = folder / f".{PICTURES}"
    with staging.open("wb") as file:
        np.save(file, pictures)
    staging.replace(folder / PICTURES)


def on_white(path: Path) -> NDArray[np.uint8]:
    """The picture (H, W, 3) uint8 of a PNG, with white behind what is transparent."""
    with Image.open(path) as picture:
        levels = np.asarray(picture.convert("RGBA")).astype(np.uint32)
    opacity = levels[..., 3:]
    return ((levels[..., :3] * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)


def shrink(pictures: Tensor, size_px: int) -> Tensor:
    """Pictures (N, C, H, W) uint8 -> (N, C, size_px, size_px) uint8: each pixel the mean of the area that it covers."""
    if pictures.shape[2:] == (size_px, size_px):
        return pictures.contiguous()
    return functional.interpolate(pictures.float(), (size_px, size_px), mode="area").round().to(torch.uint8)


def _rows(table: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """One row per picture: each emoji, then its variants in skin tones, which share its name and category."""
    for emoji in table:
        yield {**emoji, "toned": False}
        for variant in emoji.get("skin_variations", {}).values():
            yield {**emoji, **variant, "toned": True}
