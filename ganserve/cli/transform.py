"""`ganserve upscale` and `ganserve translate`: a picture file through a running server into another file."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ganserve.cli.connect import DEADLINE_S, SERVER, AuthorityOption, DeadlineOption, JsonOption, ServerOption, connect
from ganserve.cli.files import (
    ModelArgument,
    OutputOption,
    QualityOption,
    VersionOption,
    describe_timings,
    facts_of,
    read_format,
)
from ganserve.cli.output import print_json
from ganserve.client.results import Translated, Upscaled

PictureArgument = Annotated[Path, typer.Argument(metavar="IN", help="PNG, JPEG or WebP.")]


class Alpha(StrEnum):
    """What happens to the alpha channel."""

    KEEP = "keep"
    DROP = "drop"


def upscale(
    model: ModelArgument,
    picture: PictureArgument,
    output: OutputOption,
    alpha: Annotated[Alpha, typer.Option(help="Enlarge the alpha channel too, or leave it out.")] = Alpha.KEEP,
    quality: QualityOption = None,
    version: VersionOption = "",
    server: ServerOption = SERVER,
    deadline: DeadlineOption = DEADLINE_S,
    ca: AuthorityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enlarges a picture with the model."""
    chosen = read_format(output)
    with connect(server, deadline, ca) as client:
        result = client.upscale(model, picture, alpha=alpha.value, format=chosen, quality=quality, version=version)
    output.write_bytes(result.data)
    _report(result, output, as_json, {"tiles": result.tiles})


def translate(
    model: ModelArgument,
    picture: PictureArgument,
    output: OutputOption,
    alpha: Annotated[Alpha, typer.Option(help="Put the alpha channel back as it was, or leave it out.")] = Alpha.KEEP,
    quality: QualityOption = None,
    version: VersionOption = "",
    server: ServerOption = SERVER,
    deadline: DeadlineOption = DEADLINE_S,
    ca: AuthorityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turns a picture into another of its size with the model; any size will do."""
    chosen = read_format(output)
    with connect(server, deadline, ca) as client:
        result = client.translate(model, picture, alpha=alpha.value, format=chosen, quality=quality, version=version)
    output.write_bytes(result.data)
    _report(result, output, as_json, {})


def _report(result: Upscaled | Translated, output: Path, as_json: bool, more: dict[str, int]) -> None:
    if as_json:
        size = {"width": result.width, "height": result.height, **more}
        facts = facts_of(result.model, result.version, result.batch_size, result.timings)
        print_json({**facts, "file": str(output), **size})
        return
    counts = {**more, "batch": result.batch_size}
    told = "  ".join(f"{name} {count}" for name, count in counts.items())
    print(f"{output}  {result.width}x{result.height}  {told}  {describe_timings(result.timings)}")
