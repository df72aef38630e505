"""Every model of the zoo shown as its task asks: drawn from seeds and labels, or a picture in and a picture out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo.contact_sheet import CELL_PX, Panel
from ganserve.cli.grid import compose_grid
from ganserve.client.client import Client
from ganserve.client.results import ServedModel, Timings

PICTURES = Path(__file__).resolve().parent / "pictures"
PORTRAIT = "../../export/pictures/astronaut.png"
DRAWN = 16
COLUMNS = 4

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Exhibit:
    """`sheet`: (H, W, C) uint8, what the model made; `panel`: its part of the contact sheet; `line`: what to say."""

    sheet: Pixels
    panel: Panel
    line: str


def show(client: Client, model: ServedModel, example: str) -> Exhibit:
    """What the model makes; of `example`, a file of ganserve/pictures (empty: the portrait), where it takes pictures.

    Raises:
        ServerError: the server refused or failed.
    """
    if model.task == "super-resolution":
        return _upscale(client, model, example or PORTRAIT)
    if model.task == "image-to-image":
        return _translate(client, model, example or PORTRAIT)
    return _draw(client, model)


def _draw(client: Client, model: ServedModel) -> Exhibit:
    """A sheet of seeds from 0 on, the classes in turn."""
    labels = [index % len(model.labels) for index in range(DRAWN)] if model.labels else None
    images = client.generate(model.name, seeds=range(DRAWN), labels=labels, format="raw")
    sheet = compose_grid([image.array for image in images], COLUMNS)
    line = f"{DRAWN} pictures of {model.width}x{model.height}, largest batch {images[0].batch_size}"
    return Exhibit(sheet, Panel(model.name, (images[0].array,)), f"{line}, {_milliseconds(images[0].timings)}")


def _upscale(client: Client, model: ServedModel, example: str) -> Exhibit:
    """The picture enlarged; on the contact sheet its middle, pixel by pixel, before and after."""
    sent = _pixels(example, 3)
    made = client.upscale(model.name, sent, format="raw")
    before = _middle(sent, max(1, CELL_PX // model.scale))
    after = _middle(made.array, before.shape[0] * model.scale)
    line = f"{example} to {made.width}x{made.height}, {made.tiles} tile(s), {_milliseconds(made.timings)}"
    return Exhibit(made.array, Panel(f"{model.name} x{model.scale}", (before, after)), line)


def _translate(client: Client, model: ServedModel, example: str) -> Exhibit:
    sent = _pixels(example, model.input_channels)
    made = client.translate(model.name, sent, format="raw")
    line = f"{example} to {made.width}x{made.height}, {_milliseconds(made.timings)}"
    return Exhibit(made.array, Panel(model.name, (sent, made.array)), line)


def _pixels(name: str, channels: int) -> Pixels:
    """A picture of this package with so many channels: (H, W, channels) uint8."""
    with Image.open(PICTURES / name) as picture:
        image = picture.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
    return np.asarray(image).reshape(image.height, image.width, channels)


def _middle(picture: Pixels, side_px: int) -> Pixels:
    """The square in the middle, or as much of it as there is."""
    side_px = min(side_px, *picture.shape[:2])
    top, left = ((length - side_px) // 2 for length in picture.shape[:2])
    return picture[top : top + side_px, left : left + side_px]


def _milliseconds(timings: Timings) -> str:
    return f"{timings.total_s * 1e3:.0f} ms on the server"
