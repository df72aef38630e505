"""What the subcommands that write pictures share: their options, the file's format, and what they say about a call."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ganserve.cli.output import CommandError
from ganserve.client.formats import FormatName, format_of
from ganserve.client.results import Timings

OutputOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write; .png, .jpg or .webp says the format.")
]
QualityOption = Annotated[
    int | None, typer.Option(min=0, max=100, help="1..100 for JPEG and WebP, compression level 0..9 for PNG.")
]
VersionOption = Annotated[str, typer.Option("--version", help="Version of the model; the newest where not given.")]
ModelArgument = Annotated[str, typer.Argument(help="Name of the model, as `ganserve models` lists it.")]


def read_format(output: Path) -> FormatName:
    """The format that the file's suffix asks for.

    Raises:
        CommandError: the folder does not exist.
        ValueError: another suffix.
    """
    if not output.parent.is_dir():
        raise CommandError(f"{output.parent}: no such folder")
    name = format_of(output)
    return "jpeg" if name == "jpeg" else "webp" if name == "webp" else "png"


def facts_of(model: str, version: str, batch: int, timings: Timings) -> dict[str, object]:
    """What every call tells a script."""
    return {"model": model, "version": version, "largest_batch": batch, "timings": asdict(timings)}


def describe_timings(timings: Timings) -> str:
    """Such as `12.3 ms (queue 0.1, compute 10.9, encode 1.0)`."""
    return (
        f"{timings.total_s * 1e3:.1f} ms (queue {timings.queue_s * 1e3:.1f}, compute {timings.compute_s * 1e3:.1f}, "
        f"encode {timings.encode_s * 1e3:.1f})"
    )
