"""`ganserve verify`: whether a model makes exactly this image from a seed, which proves where the image is from."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from ganserve.cli.change_options import (
    CenterOption,
    CutoffOption,
    EditOption,
    MixOption,
    RotateOption,
    TranslateOption,
    WithoutOption,
    read_changes,
)
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
from ganserve.cli.generate_options import (
    LabelsOption,
    NoiseSeedsOption,
    SeedsOption,
    ThenOption,
    TruncationOption,
    read_generate_options,
)
from ganserve.cli.output import CommandError, counted, print_json
from ganserve.client.results import GeneratedImage


def verify(
    model: ModelArgument,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="PNG, lossless WebP, or another lossless file.")],
    seeds: SeedsOption = "0",
    labels: LabelsOption = None,
    truncation: TruncationOption = None,
    noise_seeds: NoiseSeedsOption = None,
    edit: EditOption = None,
    without: WithoutOption = None,
    mix: MixOption = None,
    truncation_cutoff: CutoffOption = None,
    truncation_center: CenterOption = None,
    translate: TranslateOption = None,
    rotate: RotateOption = None,
    then: ThenOption = None,
    version: VersionOption = "",
    server: ServerOption = SERVER,
    deadline: DeadlineOption = DEADLINE_S,
    ca: AuthorityOption = None,
    api_key_file: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Generates the images of --seeds again, with the same options, and compares every pixel with IMAGE.

    Exit code 0: one is the same, so that this model made IMAGE from that seed. Else 2, with the closest seed: IMAGE may
    be of another model, version, engine or option, or was changed since.
    """
    try:
        with Image.open(image) as opened:
            wanted = np.asarray(opened)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise CommandError(f"{image}: cannot be read as an image: {error}") from None
    changes = read_changes(edit, without, mix, None, truncation_cutoff, truncation_center, translate, rotate)
    options, n = read_generate_options(seeds, None, None, None, labels, truncation, noise_seeds, changes)
    options |= {"then": then or [], "version": version, "format": "raw"}
    closest: tuple[float, GeneratedImage] | None = None
    with connect(server, deadline, ca, api_key_file) as client, counted(n, model) as advance:
        for made in client.generate_stream(model, **options):
            difference = _difference(made.array, wanted, image)
            if closest is None or difference < closest[0]:
                closest = difference, made
            advance()
    assert closest is not None, "at least one image is generated"
    difference, made = closest
    if as_json:
        facts = {"seed": made.seed, "label": made.label, "model": made.model, "version": made.version}
        print_json({"identical": difference == 0, "mean_difference_levels": difference, **facts})
    if difference:
        raise CommandError(
            f"{image}: none of {n} images is the same; the closest, of seed {made.seed}, differs by {difference:.3g} "
            "levels on average"
        )
    if not as_json:
        print(f"{image}  identical to seed {made.seed} of {made.model} version {made.version}")


def _difference(made: NDArray[np.uint8], wanted: NDArray[Any], image: Path) -> float:
    """Mean difference in levels."""
    pixels = wanted[:, :, None] if wanted.ndim == 2 else wanted
    if pixels.shape != made.shape or pixels.dtype != np.uint8:
        has, makes = (" x ".join(map(str, array.shape)) for array in (pixels, made))
        raise CommandError(f"{image}: is {has} {pixels.dtype}, the model makes {makes} uint8; it did not make this one")
    return float(np.abs(pixels.astype(int) - made).mean())
