"""`ganserve dataset`: a running generator's images as a data set that trainers read."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ganserve.cli.change_options import (
    CutoffOption,
    EditOption,
    LayerTruncationOption,
    MixOption,
    WithoutOption,
    described_options,
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
    served_model,
)
from ganserve.cli.dataset_options import read_contents
from ganserve.cli.files import ModelArgument, QualityOption, VersionOption
from ganserve.cli.generate_options import BestOfOption, ThenOption
from ganserve.cli.output import CommandError, Steps, needing, print_json, steps
from ganserve.client.client import Client
from ganserve.client.options import GenerateOptions
from ganserve.client.results import GeneratedImage, ServedModel
from ganserve.datasets.contents import Contents, class_text
from ganserve.datasets.description import FORMATS, NVLABS, Description
from ganserve.datasets.folder import DataSetFolder
from ganserve.datasets.formats.nvlabs import CHANNELS
from ganserve.datasets.requests import Source
from ganserve.datasets.shards import join_shards, make_shard

SHARD_IMAGES = 10_000
IN_FLIGHT = 256


class FormatChoice(StrEnum):
    """Of the data set."""

    IMAGEFOLDER = "imagefolder"
    WEBDATASET = "webdataset"
    NVLABS_ZIP = NVLABS
    PARQUET = "parquet"


class ImageChoice(StrEnum):
    """Of an image."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"


OutOption = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the data set.")]
CountOption = Annotated[
    int | None, typer.Option(min=1, help="Number of images, spread evenly over the classes, if there are any.")
]
PerClassOption = Annotated[
    list[str] | None,
    typer.Option(metavar="CLASS=N,...", help="Images of each class: 0=500,7=2000 or cat=10 or 0-9=100. Repeatable."),
]
BalanceOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|DIR",
        help='Images that you have, {"0": 500, "7": 20} or a folder for each class: each of these classes is filled up '
        "to the largest.",
    ),
]
FormatOption = Annotated[FormatChoice, typer.Option(help="Form of the data set.")]
ShardsOption = Annotated[
    int | None, typer.Option(min=1, max=99_999, help=f"Parts (default: one for each {SHARD_IMAGES} images).")
]
ShardIndexOption = Annotated[
    int | None, typer.Option(min=0, metavar="K", help="Make only this part, 0 to shards - 1 (default: all).")
]
FirstSeedOption = Annotated[int, typer.Option(min=0, help="Seed of the first image; the others follow.")]
ImageFormatOption = Annotated[ImageChoice, typer.Option(help="Form of each image; png loses nothing.")]
TruncationOption = Annotated[float | None, typer.Option(metavar="PSI", help="Truncation psi of all images.")]
InFlightOption = Annotated[int, typer.Option(min=1, max=4096, help="Images requested at a time.")]


def dataset(
    model: ModelArgument,
    out: OutOption,
    count: CountOption = None,
    per_class: PerClassOption = None,
    balance_from: BalanceOption = None,
    format: FormatOption = FormatChoice.IMAGEFOLDER,
    shards: ShardsOption = None,
    shard_index: ShardIndexOption = None,
    first_seed: FirstSeedOption = 0,
    image_format: ImageFormatOption = ImageChoice.PNG,
    quality: QualityOption = None,
    truncation: TruncationOption = None,
    edit: EditOption = None,
    without: WithoutOption = None,
    mix: MixOption = None,
    layer_truncation: LayerTruncationOption = None,
    truncation_cutoff: CutoffOption = None,
    then: ThenOption = None,
    best_of: BestOfOption = None,
    in_flight: InFlightOption = IN_FLIGHT,
    version: VersionOption = "",
    server: ServerOption = SERVER,
    deadline: DeadlineOption = DEADLINE_S,
    ca: AuthorityOption = None,
    api_key_file: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Generates a data set: images by seed and class in DIR, with a manifest that says how each was made.

    A shard is a range of seeds, so that any number of processes can make shards of one data set without knowing of each
    other. Run again, whole shards are verified and skipped. A shard is whole or not there.
    """
    changes, several = read_changes(edit, without, mix, layer_truncation, truncation_cutoff)
    if several > 1:
        raise CommandError("--edit and --mix: give one strength or seed, for all images")
    if shards is not None and shard_index is not None:
        _check_index(shard_index, shards)
    if format is FormatChoice.PARQUET:
        with needing("parquet"):
            import pyarrow.parquet  # noqa: F401
    options: GenerateOptions = {**changes, "truncation": truncation, "then": then or [], "best_of": best_of}
    options |= {"version": version, **_encoding(format, image_format, quality)}
    with steps() as say, connect(server, deadline, ca, api_key_file) as client:
        served = _generator(client, model, version)
        contents = read_contents(served.labels, count, per_class, balance_from, first_seed)
        parts = _count_shards(shards, shard_index, contents.total)
        say(f"{served.name} version {served.version}: {contents.total} images, {parts} shards")
        folder = DataSetFolder(out, _describe(client, served, contents, parts, format, options))
        source = Source(client, {**options, "version": served.version}, in_flight, deadline, say)
        wanted = list(range(parts) if shard_index is None else [shard_index])
        made = [shard for shard in wanted if _make(folder, shard, source, say)]
        joined = join_shards(folder)
    _report(folder, wanted, made, joined, as_json)


def _count_shards(shards: int | None, index: int | None, images: int) -> int:
    """As asked for, else one for each SHARD_IMAGES."""
    if shards is not None and shards > images:
        raise CommandError(f"--shards {shards}: more than there are images, {images}")
    parts = shards or -(-images // SHARD_IMAGES)
    if index is not None:
        _check_index(index, parts)
    return parts


def _check_index(index: int, shards: int) -> None:
    if index >= shards:
        raise CommandError(f"--shard-index {index}: must be 0..{shards - 1}, for {shards} shards")


def _encoding(format: FormatChoice, image_format: ImageChoice, quality: int | None) -> GenerateOptions:
    """How the server encodes each image."""
    if format is not FormatChoice.NVLABS_ZIP:
        return {"format": image_format.value, "quality": quality}
    if image_format is not ImageChoice.PNG or quality not in (None, 0):
        raise CommandError(f"--format {NVLABS}: its images are uncompressed PNGs; leave out --image-format, --quality")
    return {"format": "png", "quality": 0}


def _generator(client: Client, model: str, version: str) -> ServedModel:
    served = served_model(client, model, version)
    if "condition" not in served.task:  # unconditional, class-conditional
        raise CommandError(f"{model}: is for {served.task or 'plain tensors'}; data sets are made by generators")
    return served


def _describe(
    client: Client, served: ServedModel, contents: Contents, shards: int, format: FormatChoice, options: GenerateOptions
) -> Description:
    """The data set, once the server has made its first image with all options: it refuses what it does not have."""
    label = contents.label(0)
    first: GenerateOptions = {**options, "version": served.version, "seeds": contents.first_seed}
    if label is not None:
        first["labels"] = class_text(served.labels, label)
    (image,) = client.generate(served.name, **first)
    size = image.width, image.height, image.channels
    if format is FormatChoice.NVLABS_ZIP and (image.width != image.height or image.channels not in CHANNELS):
        raise CommandError(
            f"--format {NVLABS}: NVIDIA's tools take square images of 1 or 3 channels; these are "
            f"{image.width}x{image.height} of {image.channels}"
        )
    return Description(
        served.name, served.version, served.sha256, size, served.labels, contents, shards,
        next(each for each in FORMATS if each == format.value), options["format"], options["quality"],
        _parameters(options, image), served.licence, served.source,
    )  # fmt: skip


def _parameters(options: GenerateOptions, image: GeneratedImage) -> dict[str, Any]:
    """What is set for all images, as the manifest has it; the models of further steps with their versions."""
    then = [{"model": step.model, "version": step.version} for step in image.then]
    return {**described_options(options), **({"then": then} if then else {})}


def _make(folder: DataSetFolder, shard: int, source: Source, say: Steps) -> bool:
    about = folder.about
    n, done = len(about.contents.shard(shard, about.shards)), 0
    name = folder.name_of(shard)
    said = f"{name}: {n} images"
    say(said)

    def advance() -> None:
        nonlocal done
        done += 1
        say(said, done / n)

    made = make_shard(folder, shard, source, lambda: served_model(source.client, about.model, about.version), advance)
    if not made:
        say(f"{name}: there already, verified")
    return made


def _report(folder: DataSetFolder, wanted: list[int], made: list[int], joined: Path | None, as_json: bool) -> None:
    about, missing = folder.about, folder.missing()
    if as_json:
        print_json(
            {
                "folder": str(folder.path), "model": about.model, "version": about.version, "sha256": about.sha256,
                "format": about.format, "images": about.contents.total, "shards": about.shards, "made": made,
                "verified": [shard for shard in wanted if shard not in made], "missing": missing,
                "joined": None if joined is None else str(joined),
            }
        )  # fmt: skip
        return
    print(joined or folder.path)
    state = f"{about.shards - len(missing)} of {about.shards} shards are whole" if missing else "whole"
    print(f"{about.contents.total} images of {about.model} version {about.version} as {about.format}: {state}")
