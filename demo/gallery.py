"""Every model of the zoo shown by its task: generated from seeds and labels, or an image in and an image out."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo import OUT, ROOT
from demo.contact_sheet import CELL_PX, Panel, compose_contact_sheet
from ganserve import Client, ServedModel, Timings
from ganserve.cli.grid import compose_grid

EXAMPLES = Path(__file__).resolve().parent / "pictures"
PORTRAIT = ROOT / "export" / "pictures" / "astronaut.png"
SEEDS = range(16)
COLUMNS = 4
BLOCK = 2  # rows and columns of what a generator has on the contact sheet

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Exhibit:
    """A model's output.

    Attributes:
        sheet: (H, W, C) uint8, all of it.
        panel: its part of the contact sheet.
        line: what to print.
    """

    sheet: Pixels
    panel: Panel
    line: str


def write_images(client: Client, models: Iterable[tuple[ServedModel, str]]) -> list[Path]:
    """Requests images of each model; writes a sheet for each and the contact sheet with some of each; their paths.

    Args:
        client: of the server that serves them.
        models: each with a file of demo/pictures as its input, empty: the portrait.

    Raises:
        ServerError: the server refused or failed.
    """
    paths, panels = [], []
    for model, example in models:
        exhibit = show(client, model, EXAMPLES / example if example else PORTRAIT)
        print(f"{model.name}: {exhibit.line}", flush=True)
        paths.append(OUT / f"{model.name}.png")
        sheet = exhibit.sheet.squeeze(2) if exhibit.sheet.shape[2] == 1 else exhibit.sheet
        Image.fromarray(sheet).save(paths[-1])
        panels.append(exhibit.panel)
    compose_contact_sheet(panels).save(OUT / "contact-sheet.png", optimize=True)
    return [*paths, OUT / "contact-sheet.png"]


def show(client: Client, model: ServedModel, example: Path) -> Exhibit:
    """The output of a model; `example` is the input of upscalers and translators.

    Raises:
        ServerError: the server refused or failed.
    """
    if model.task == "super-resolution":
        return _upscale(client, model, example)
    if model.task == "image-to-image":
        return _translate(client, model, example)
    return _generate(client, model)


def _generate(client: Client, model: ServedModel) -> Exhibit:
    """A sheet of seeds from 0 on, the classes in turn; on the contact sheet the first four of them."""
    labels = [index % len(model.labels) for index in SEEDS] if model.labels else None
    images = client.generate(model.name, seeds=SEEDS, labels=labels, format="raw")
    sheet = compose_grid([image.array for image in images], COLUMNS)
    line = f"{len(images)} images of {model.width}x{model.height}, largest batch {images[0].batch_size}"
    shown = [image.array for image in images[: BLOCK**2]]
    rows = [np.concatenate(shown[row : row + BLOCK], 1) for row in range(0, len(shown), BLOCK)]
    panel = Panel(f"{model.name}, seeds 0-{len(shown) - 1}", (np.concatenate(rows),))
    return Exhibit(sheet, panel, f"{line}, {_milliseconds(images[0].timings)}")


def _upscale(client: Client, model: ServedModel, example: Path) -> Exhibit:
    """The image enlarged; on the contact sheet its middle, pixel by pixel, before and after."""
    given = _read(example, 3)
    output = client.upscale(model.name, given, format="raw")
    before = _middle(given, max(1, CELL_PX // model.scale))
    after = _middle(output.array, before.shape[0] * model.scale)
    line = f"{example.name} to {output.width}x{output.height}, {output.tiles} tile(s), {_milliseconds(output.timings)}"
    return Exhibit(output.array, Panel(f"{model.name} x{model.scale}", (before, after)), line)


def _translate(client: Client, model: ServedModel, example: Path) -> Exhibit:
    given = _read(example, model.input_channels)
    output = client.translate(model.name, given, format="raw")
    line = f"{example.name} to {output.width}x{output.height}, {_milliseconds(output.timings)}"
    return Exhibit(output.array, Panel(model.name, (given, output.array)), line)


def _read(path: Path, channels: int) -> Pixels:
    """The file with so many channels: (H, W, channels) uint8."""
    with Image.open(path) as opened:
        image = opened.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
    return np.asarray(image).reshape(image.height, image.width, channels)


def _middle(image: Pixels, side_px: int) -> Pixels:
    """The square in the middle, or as much of it as there is."""
    side_px = min(side_px, *image.shape[:2])
    top, left = ((length - side_px) // 2 for length in image.shape[:2])
    return image[top : top + side_px, left : left + side_px]


def _milliseconds(timings: Timings) -> str:
    return f"{timings.total_s * 1e3:.0f} ms on the server"
