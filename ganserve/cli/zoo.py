"""`ganserve zoo`: trained generators by name."""

from pathlib import Path
from typing import Annotated

import typer

from ganserve.cli.connect import JsonOption
from ganserve.cli.output import CommandError, print_json, steps

zoo = typer.Typer(help="Trained generators by name: list and download them.")


@zoo.callback(invoke_without_command=True)
def _help_alone(context: typer.Context) -> None:
    """Without a subcommand: the help."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@zoo.command("list", epilog="Example: ganserve zoo list --json")
def list_entries(as_json: JsonOption = False) -> None:
    """Lists the trained generators: architecture, task, size, licence, source, sha256."""
    from models.zoo.entries import ENTRIES

    entries = [
        {
            "name": entry.name,
            "architecture": entry.architecture,
            "task": str(entry.task),
            "summary": entry.summary,
            "size_bytes": entry.size_bytes,
            "licence": entry.licence,
            "source": entry.source,
            "sha256": entry.sha256,
            "labels": list(entry.labels),
            "example": entry.example,
        }
        for entry in ENTRIES.values()
    ]
    if as_json:
        print_json(entries)
        return
    for entry in ENTRIES.values():
        print(f"{entry.name}: {entry.summary}")
        print(f"    {entry.architecture}, {entry.task}, {entry.size_bytes / 1e6:.1f} MB, {entry.licence}")
        print(f"    {entry.source}")
        print(f"    sha256 {entry.sha256}")


@zoo.command(epilog="Example: ganserve zoo pull faces digits")
def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names from `ganserve zoo list`.")],
    cache: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for downloaded weights.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Downloads trained weights, checks their sha256 and prints their paths."""
    from models.zoo.fetch import ZooError, find
    from models.zoo.fetch import pull as fetch

    try:
        for name in names:
            find(name)  # a misspelt name is refused before anything is downloaded
        with steps() as progress:
            paths = {name: fetch(name, cache_dir=cache, progress=progress) for name in names}
    except ZooError as error:
        raise CommandError(str(error)) from None
    if as_json:
        print_json({name: str(path) for name, path in paths.items()})
        return
    for path in paths.values():
        print(path)
