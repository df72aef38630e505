"""`ganserve project`: an image -> the latent, or w, that a running generator makes its closest image of."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from ganserve.cli.connect import (
    DEADLINE_S,
    SERVER,
    ApiKeyOption,
    AuthorityOption,
    DeadlineOption,
    JsonOption,
    ServerOption,
    connect,
    served_model,
)
from ganserve.cli.files import ModelArgument, VersionOption
from ganserve.cli.output import CommandError, print_json, steps
from ganserve.client.projection import MAX_ROUNDS
from ganserve.client.projection import project as find


def project(
    model: ModelArgument,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Image file; its middle is cut to the model's shape.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE.npz", help="File for w (key `w`), or the latent (key `z`)."),
    ],
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the given image and the found one, side by side.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Class index or name, for class-conditional models.")] = None,
    rounds: Annotated[int, typer.Option(min=0, max=100, help="Rounds from each start; 0: the encoder's w alone.")] = (
        MAX_ROUNDS
    ),
    encoder: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Served encoder (pSp, e4e) whose w is the start.")
    ] = None,
    version: VersionOption = "",
    server: ServerOption = SERVER,
    deadline: DeadlineOption = DEADLINE_S,
    ca: AuthorityOption = None,
    api_key_file: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Finds the w, or the latent, whose image is closest to IMAGE. `generate --w` (`--latents`) makes it again.

    Says how close it is, and whether IMAGE seems to be one that the model can make at all.
    """
    if output.suffix != ".npz" or not output.parent.is_dir():
        raise CommandError(f"-o {output}: must be a .npz file in a folder that exists")
    if encoder is None and not rounds:
        raise CommandError("--rounds 0: is the encoder's w alone; needs --encoder MODEL")
    try:
        with Image.open(image) as opened:
            opened.load()
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise CommandError(f"{image}: cannot be read as an image: {error}") from None
    with connect(server, deadline, ca, api_key_file) as client, steps() as progress:
        served = served_model(client, model, version)
        w = None if encoder is None else client.encode(encoder, opened)
        found = find(client, served, opened, label=label, rounds=rounds, w=w, progress=progress)
    if found.space == "w":
        np.savez(output, w=found.point[None])
    else:
        np.savez(output, z=found.point[None])
    if picture is not None:
        both = np.concatenate([found.target, found.image], axis=1)
        Image.fromarray(both.squeeze(2) if both.shape[2] == 1 else both).save(picture)
    if as_json:
        print_json(
            {
                "file": str(output), "space": found.space, "psnr_db": found.psnr_db, "distance": found.distance,
                "inside": found.is_inside, "images": found.images,
            }
        )  # fmt: skip
        return
    domain = "inside" if found.is_inside else "OUTSIDE"
    print(f"{output}  {found.space}, {found.psnr_db:.1f} dB, {found.distance:.2f} standard deviations from the mean")
    print(f"the image seems to be {domain} the model's domain ({found.images} images generated)")
