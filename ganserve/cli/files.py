"""What the subcommands that write images share: options, the file's format, and the report of a call."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ganserve.cli.output import CommandError
from ganserve.client.formats import FormatName, format_of
from ganserve.client.received import Timings

OutputOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="File to write: .png, .jpg or .webp.")
]
QualityOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=100,
        help="Quality 1..100 of JPEG and WebP (default: 90), compression level 0..9 of PNG (default: 1).",
    ),
]
VersionOption = Annotated[
    str, typer.Option("--version", help="Version of the model (default: the newest that is ready).")
]
ModelArgument = Annotated[str, typer.Argument(help="Name of the model, as `ganserve models` lists it.")]


def read_format(output: Path) -> FormatName:
    """The format of the file's suffix.

    Raises:
        CommandError: the folder does not exist.
        ValueError: another suffix.
    """
    if not output.parent.is_dir():
        raise CommandError(f"{output.parent}: no such folder")
    return format_of(output)


def facts_of(model: str, version: str, batch: int, timings: Timings) -> dict[str, object]:
    """The fields of every call's JSON report."""
    return {"model": model, "version": version, "largest_batch": batch, "timings": asdict(timings)}


def describe_timings(timings: Timings) -> str:
    """Such as `12.3 ms (queue 0.1, compute 10.9, encode 1.0)`."""
    return (
        f"{timings.total_s * 1e3:.1f} ms (queue {timings.queue_s * 1e3:.1f}, compute {timings.compute_s * 1e3:.1f}, "
        f"encode {timings.encode_s * 1e3:.1f})"
    )
