"""`ganserve serve`: a server in the foreground until SIGTERM or Ctrl-C."""

import asyncio
import inspect
import json
import os
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ganserve.cli.output import CommandError, needing

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from server.app import Serving
    from server.settings import Settings


def serve() -> None:
    """Serves a model repository over gRPC. Every option can also be set as GANSERVE_<NAME> in the environment."""


class ServeCommand(TyperCommand):
    """`serve` with an option for each setting of the server.

    The options are added when the command is used: the help of the other commands must not need the server's packages.
    """

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parses the options."""
        built = _command_from_settings()
        self.params, self.callback = built.params, built.callback
        return super().make_context(info_name, args, parent, **extra)


@cache
def _command_from_settings() -> Any:
    with needing("cpu"):
        from server.settings import Settings

    def run(as_json: bool, **given: object) -> None:
        _serve(given, as_json)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(name, keyword, default=None, annotation=_option(name, field))
        for name, field in Settings.model_fields.items()
    ]
    as_json = Annotated[bool, typer.Option("--json", help="Print the ready line as JSON.")]
    parameters.append(inspect.Parameter("as_json", keyword, default=False, annotation=as_json))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    app = typer.Typer(add_completion=False)
    app.command()(run)
    return typer.main.get_command(app)


def _option(name: str, field: "FieldInfo") -> Any:
    """The annotation of a setting's option. Without the option the environment counts, then the default."""
    from server.setting_texts import default_text, panel_of

    default = default_text(name, field)
    text = f"{field.description} {f'Default: {default}.' if default else 'Required.'}"
    return Annotated[field.annotation | None, typer.Option(help=text, rich_help_panel=panel_of(field).value)]  # type: ignore[operator]


def _serve(given: dict[str, object], as_json: bool) -> None:
    with needing("cpu"):
        from server.app import serve as run
        from server.environment import read_settings
        from server.errors import StartError
        from server.shared_loop import new_loop
    # gRPC's own lines would stand between the log's, and quote what callers send, line breaks included.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        settings = read_settings(**given)
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(run(settings, lambda serving: _announce(settings, serving, as_json)))
    except StartError as error:
        raise CommandError(str(error)) from None


def _announce(settings: "Settings", serving: "Serving", as_json: bool) -> None:
    """The one line on stdout that says the server is ready."""
    if as_json:
        print(json.dumps(asdict(serving)), flush=True)
        return
    missing = f", {serving.unavailable} unavailable" if serving.unavailable else ""
    print(
        f"ready: gRPC {settings.address}:{serving.grpc_port} ({serving.frontend}), "
        f"{f'HTTP API {settings.address}:{serving.rest_port}, ' if serving.rest_port >= 0 else ''}"
        f"probes and metrics {settings.address}:{serving.http_port}, device {serving.device}, "
        f"{serving.models} models{missing} from {settings.repository}; {serving.exposed}",
        flush=True,
    )
