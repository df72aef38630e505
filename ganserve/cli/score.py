"""`ganserve score`: what a model's critic says of image files."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ganserve.cli.connect import (
    DEADLINE_S,
    SERVER,
    ApiKeyOption,
    AuthorityOption,
    DeadlineOption,
    JsonOption,
    ServerOption,
    connect,
)
from ganserve.cli.files import ModelArgument, VersionOption
from ganserve.cli.media.plan import READABLE
from ganserve.cli.output import CommandError, print_json, print_table
from ganserve.cli.parsing import parse_labels


class ScoreFit(StrEnum):
    """What becomes of an image of another size than the model's."""

    COVER = "cover"
    FILL = "fill"


def score(
    model: ModelArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Files, or folders of files.")],
    labels: Annotated[
        str | None,
        typer.Option(help="Class indices or names: one for all or one for each. Class-conditional critics need them."),
    ] = None,
    fit: Annotated[
        ScoreFit | None,
        typer.Option(
            help="Resizes images of another size: cover cuts what is beyond the model's ratio off, fill stretches. "
            "Default: they are refused."
        ),
    ] = None,
    best_first: Annotated[bool, typer.Option("--sort", help="The best first.")] = False,
    version: VersionOption = "",
    server: ServerOption = SERVER,
    deadline: DeadlineOption = DEADLINE_S,
    ca: AuthorityOption = None,
    api_key_file: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Scores images by the model's critic: how much they look like its training data, as its discriminator sees it.

    The percentile is the share of the model's own images that score lower. A critic knows the images of its own
    generator; it is no detector of generated images in general.
    """
    files = [file for path in images for file in _files(path)]
    given = None if labels is None else parse_labels(labels)
    with connect(server, deadline, ca, api_key_file) as client:
        found = client.score(model, files, labels=given, fit=None if fit is None else fit.value, version=version)
    rows = list(zip(files, found, strict=True))
    if best_first:
        rows.sort(key=lambda row: -row[1].score)
    if as_json:
        print_json([{"file": str(file), **asdict(each)} for file, each in rows])
        return
    print_table(
        ["score", "percentile", "file"], [(f"{each.score:.4g}", f"{each.percentile:.1f}", file) for file, each in rows]
    )


def _files(path: Path) -> list[Path]:
    """The file, or the images in the folder, by name."""
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.is_file() and file.suffix.lower() in READABLE)
    if not found:
        raise CommandError(f"{path}: a folder without images")
    return found
