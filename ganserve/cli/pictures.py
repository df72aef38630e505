"""`ganserve generate` and `ganserve upscale`: pictures from a running server into files."""

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

from ganserve.cli.connect import DEADLINE_S, SERVER, AuthorityOption, DeadlineOption, JsonOption, ServerOption, connect
from ganserve.cli.output import CommandError, counted, print_json
from ganserve.grid import compose_grid
from ganserve.messages import FormatName
from ganserve.ranges import parse_labels, parse_seeds
from ganserve.results import GeneratedImage, Timings, format_of

OutputOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write; .png, .jpg or .webp says the format.")
]
QualityOption = Annotated[
    int | None, typer.Option(min=0, max=100, help="1..100 for JPEG and WebP, compression level 0..9 for PNG.")
]
VersionOption = Annotated[str, typer.Option("--version", help="Version of the model; the newest where not given.")]


class Alpha(StrEnum):
    """What happens to the alpha channel."""

    KEEP = "keep"
    DROP = "drop"


def generate(
    model: Annotated[str, typer.Argument(help="Name of the model, as `ganserve models` lists it.")],
    output: OutputOption,
    seeds: Annotated[str | None, typer.Option(help="Seeds such as 0-15 or 0,3,7-9.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="This many, from seeds that the server draws.")] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Classes by index or name such as 3,7 or 0-9 or cat: one for all or one for each."),
    ] = None,
    truncation: Annotated[float | None, typer.Option(metavar="PSI", help="Truncation, where the model has it.")] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="One sheet with all pictures in place of one file for each.")
    ] = False,
    columns: Annotated[int | None, typer.Option(min=1, help="Pictures in a row of the sheet.")] = None,
    quality: QualityOption = None,
    version: VersionOption = "",
    server: ServerOption = SERVER,
    deadline: DeadlineOption = DEADLINE_S,
    ca: AuthorityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draws pictures: the same seed is always the same picture.

    One picture is written to FILE itself, several to FILE-<seed>, or with --grid to FILE as one sheet.
    """
    chosen = _format_of(output)
    wanted = _read_labels(labels)
    numbers = _read_seeds(seeds, count, wanted)
    if columns is not None and not grid:
        raise CommandError("--columns goes with --grid")
    with connect(server, deadline, ca) as client, counted(count or len(numbers or [0]), model) as advance:
        images = []
        for image in client.generate_stream(
            model, seeds=numbers, count=count or (None if numbers else 1), labels=wanted, truncation=truncation,
            format="raw" if grid else chosen, quality=None if grid else quality, version=version,
        ):  # fmt: skip
            images.append(image)
            advance()
    images.sort(key=lambda image: image.index)
    if grid:
        paths = [output] * len(images)
        _write_sheet(images, columns, output, chosen, quality)
    else:
        paths = file_names(output, images)
        for image, path in zip(images, paths, strict=True):
            path.write_bytes(image.data)
    _report(images, paths, as_json)


def upscale(
    model: Annotated[str, typer.Argument(help="Name of the model, as `ganserve models` lists it.")],
    picture: Annotated[Path, typer.Argument(metavar="IN", help="PNG, JPEG or WebP.")],
    output: OutputOption,
    alpha: Annotated[Alpha, typer.Option(help="Enlarge the alpha channel too, or leave it out.")] = Alpha.KEEP,
    quality: QualityOption = None,
    version: VersionOption = "",
    server: ServerOption = SERVER,
    deadline: DeadlineOption = DEADLINE_S,
    ca: AuthorityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enlarges a picture, or translates it, with the model."""
    chosen = _format_of(output)
    with connect(server, deadline, ca) as client:
        result = client.upscale(
            model, picture, alpha=alpha.value, format=chosen, quality=quality, version=version
        )  # fmt: skip
    output.write_bytes(result.data)
    if as_json:
        size = {"width": result.width, "height": result.height, "tiles": result.tiles}
        print_json(
            {**_facts(result.model, result.version, result.batch_size, result.timings), "file": str(output), **size}
        )
        return
    print(
        f"{output}  {result.width}x{result.height}  tiles {result.tiles}  batch {result.batch_size}  "
        f"{_milliseconds(result.timings)}"
    )


def file_names(output: Path, images: Sequence[GeneratedImage]) -> list[Path]:
    """A file for each image: FILE for a single one, else FILE-<seed>, made unique by label, then by index."""
    if len(images) == 1:
        return [output]
    by_seed = [f"{image.seed}" for image in images]
    by_label = [f"{image.seed}-{image.label}" for image in images]
    by_index = [f"{image.seed}-{image.index}" for image in images]
    names = next(names for names in (by_seed, by_label, by_index) if len(set(names)) == len(names))
    return [output.with_name(f"{output.stem}-{name}{output.suffix}") for name in names]


def _format_of(output: Path) -> FormatName:
    if not output.parent.is_dir():
        raise CommandError(f"{output.parent}: no such folder")
    name = format_of(output)
    return "jpeg" if name == "jpeg" else "webp" if name == "webp" else "png"


def _read_labels(labels: str | None) -> list[str] | None:
    try:
        return None if labels is None else parse_labels(labels)
    except ValueError as error:
        raise CommandError(f"--labels: {error}") from None


def _read_seeds(seeds: str | None, count: int | None, labels: list[str] | None) -> list[int] | None:
    """The seeds typed; a single one with several labels is drawn once for each label."""
    if seeds is None:
        return None
    if count is not None:
        raise CommandError("pass --seeds or --count, not both")
    try:
        numbers = parse_seeds(seeds)
    except ValueError as error:
        raise CommandError(f"--seeds: {error}") from None
    return numbers * len(labels) if labels and len(numbers) == 1 else numbers


def _write_sheet(
    images: Sequence[GeneratedImage], columns: int | None, output: Path, chosen: FormatName, quality: int | None
) -> None:
    sheet = compose_grid([image.array for image in images], columns)
    pixels = sheet.squeeze(2) if sheet.shape[2] == 1 else sheet
    settings: dict[str, Any] = {} if quality is None else {"compress_level" if chosen == "png" else "quality": quality}
    Image.fromarray(pixels).save(output, chosen, **settings)


def _facts(model: str, version: str, batch: int, timings: Timings) -> dict[str, object]:
    return {"model": model, "version": version, "largest_batch": batch, "timings": asdict(timings)}


def _milliseconds(timings: Timings) -> str:
    return (
        f"{timings.total_s * 1e3:.1f} ms (queue {timings.queue_s * 1e3:.1f}, compute {timings.compute_s * 1e3:.1f}, "
        f"encode {timings.encode_s * 1e3:.1f})"
    )


def _report(images: Sequence[GeneratedImage], paths: Sequence[Path], as_json: bool) -> None:
    longest = Timings(*(max(getattr(image.timings, name) for image in images) for name in Timings.__dataclass_fields__))
    largest = max(image.batch_size for image in images)
    if as_json:
        pictures = [
            {"file": str(path), "seed": image.seed, "label": image.label, "batch_size": image.batch_size}
            for image, path in zip(images, paths, strict=True)
        ]
        print_json({**_facts(images[0].model, images[0].version, largest, longest), "images": pictures})
        return
    for path in dict.fromkeys(paths):
        print(path)
    print(
        f"{len(images)} from {images[0].model} version {images[0].version}, batch {largest}, {_milliseconds(longest)}"
    )
