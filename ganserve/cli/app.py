"""The command's tree. `export`, `models` and `server` are imported only by the subcommand that needs them."""

from typing import Annotated

import typer

from ganserve.cli.architectures import architectures
from ganserve.cli.export import export, inspect
from ganserve.cli.generate import generate
from ganserve.cli.models import models
from ganserve.cli.serve import ServeCommand, serve
from ganserve.cli.transform import translate, upscale
from ganserve.cli.zoo import zoo

app = typer.Typer(
    help="Serve trained GAN generators: export a checkpoint, serve it over gRPC, ask it for pictures.",
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _options(
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Before the subcommand: show where an error arose.")
    ] = False,
) -> None:
    """`main` looks for `--traceback` itself, because it catches what happens while options are read."""


def _example(text: str) -> str:
    return f"Example: {text}"


app.add_typer(zoo, name="zoo")
app.command(epilog=_example("ganserve architectures"))(architectures)
app.command(epilog=_example("ganserve inspect netG.pth"))(inspect)
app.command(epilog=_example("ganserve export faces --repository repository --name faces"))(export)
app.command(cls=ServeCommand, epilog=_example("ganserve serve --repository repository --grpc-port 8001"))(serve)
app.command(epilog=_example("ganserve generate faces --seeds 0-15 --grid -o faces.png"))(generate)
app.command(epilog=_example("ganserve upscale realesr-animevideov3 small.png -o large.png"))(upscale)
app.command(epilog=_example("ganserve translate NAME sketch.png -o photo.png"))(translate)
app.command(epilog=_example("ganserve models --server localhost:8001"))(models)
