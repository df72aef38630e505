"""The tree of subcommands. Each imports `export`, `models` or `server` only when it runs."""

from importlib.metadata import version
from typing import Annotated

import typer

from ganserve.cli.animate import animate
from ganserve.cli.architectures import architectures
from ganserve.cli.dataset import dataset
from ganserve.cli.directions import directions
from ganserve.cli.evaluate import evaluate
from ganserve.cli.exit_codes import EXIT_CODES
from ganserve.cli.export import export, inspect
from ganserve.cli.generate import generate
from ganserve.cli.models import models
from ganserve.cli.project import project
from ganserve.cli.score import score
from ganserve.cli.serve import ServeCommand, serve
from ganserve.cli.transform import restore, translate, upscale
from ganserve.cli.verify import verify
from ganserve.cli.zoo import zoo

EPILOG = "Exit codes: " + "; ".join(f"{code} {text}" for code, text in EXIT_CODES.items()) + "."

app = typer.Typer(
    help="Serve trained GAN generators: export a checkpoint, serve it over gRPC, generate images.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},  # of every subcommand too
    epilog=EPILOG,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ganserve {version('ganserve')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show the traceback of an error; goes before the subcommand.")
    ] = False,
) -> None:
    """`main` reads `--traceback` itself, because it also handles errors in the options."""


def _example(text: str) -> str:
    return f"Example: {text}"


app.add_typer(zoo, name="zoo")
app.command(epilog=_example("ganserve architectures"))(architectures)
app.command(epilog=_example("ganserve inspect netG.pth"))(inspect)
app.command(epilog=_example("ganserve export faces --repository repository --name faces"))(export)
app.command(cls=ServeCommand, epilog=_example("ganserve serve --repository repository --grpc-port 8001"))(serve)
app.command(epilog=_example("ganserve generate faces --seeds 0-15 --grid -o faces.png"))(generate)
app.command(epilog=_example("ganserve directions faces"))(directions)
app.command(epilog=_example("ganserve animate faces --seeds 1,2,3 -o faces.webp"))(animate)
app.command(epilog=_example("ganserve dataset digits --per-class 0=500,7=2000 --out set"))(dataset)
app.command(epilog=_example("ganserve evaluate digits --data real --features judge"))(evaluate)
app.command(epilog=_example("ganserve project faces photo.png -o z.npz"))(project)
app.command(epilog=_example("ganserve score digits 7.png --labels 7"))(score)
app.command(epilog=_example("ganserve verify faces face.png --seeds 0-999"))(verify)
app.command(epilog=_example("ganserve upscale realesr-animevideov3 small.png -o large.png"))(upscale)
app.command(epilog=_example("ganserve translate NAME sketch.png -o photo.png"))(translate)
app.command(epilog=_example("ganserve restore gfpgan family.jpg -o family-restored.jpg"))(restore)
app.command(epilog=_example("ganserve models --server localhost:8001"))(models)
