"""`ganserve upscale` and `ganserve translate`: an image file through a running server into another file."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

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
from ganserve.client.client import Client
from ganserve.client.results import Translated, Upscaled

ImageArgument = Annotated[Path, typer.Argument(metavar="IN", help="PNG, JPEG or WebP file.")]


class Alpha(StrEnum):
    """What happens to the alpha channel."""

    KEEP = "keep"
    DROP = "drop"


def _command(call: Callable[..., Upscaled | Translated], help: str, alpha_help: str) -> Callable[..., None]:
    """A subcommand named after the client's method `call`."""

    def transform(
        model: ModelArgument,
        image: ImageArgument,
        output: OutputOption,
        alpha: Annotated[Alpha, typer.Option(help=alpha_help)] = Alpha.KEEP,
        quality: QualityOption = None,
        version: VersionOption = "",
        server: ServerOption = SERVER,
        deadline: DeadlineOption = DEADLINE_S,
        ca: AuthorityOption = None,
        api_key_file: ApiKeyOption = None,
        as_json: JsonOption = False,
    ) -> None:
        format = read_format(output)
        with connect(server, deadline, ca, api_key_file) as client:
            result = call(client, model, image, alpha=alpha.value, format=format, quality=quality, version=version)
        output.write_bytes(result.data)
        _report(result, output, as_json)

    transform.__name__ = call.__name__
    transform.__doc__ = help
    return transform


upscale = _command(
    Client.upscale,
    "Enlarges an image with a super-resolution model.",
    "keep: enlarge the alpha channel too; drop: remove it.",
)
translate = _command(
    Client.translate,
    "Turns an image into another of the same size with an image-to-image model. Accepts any size.",
    "keep: return the alpha channel unchanged; drop: remove it.",
)


def _report(result: Upscaled | Translated, output: Path, as_json: bool) -> None:
    tiles: dict[str, Any] = {"tiles": result.tiles} if isinstance(result, Upscaled) else {}
    if as_json:
        facts = facts_of(result.model, result.version, result.batch_size, result.timings)
        print_json({**facts, "file": str(output), "width": result.width, "height": result.height, **tiles})
        return
    counts = "  ".join(f"{name} {count}" for name, count in {**tiles, "batch": result.batch_size}.items())
    print(f"{output}  {result.width}x{result.height}  {counts}  {describe_timings(result.timings)}")
