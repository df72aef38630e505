"""`ganserve evaluate`: generated images, of a running model or in a folder, beside real ones."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ganserve.cli.change_options import (
    CenterOption,
    CutoffOption,
    EditOption,
    LayerTruncationOption,
    MixOption,
    RotateOption,
    TranslateOption,
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
)
from ganserve.cli.evaluated import ZOO_JUDGES, Made, of_folder, of_model, told
from ganserve.cli.files import VersionOption
from ganserve.cli.generate_options import BestOfOption, ThenOption
from ganserve.cli.media.write import write
from ganserve.cli.output import CommandError, Steps, print_json, steps
from ganserve.client.options import GenerateOptions
from ganserve.datasets.requests import Source
from ganserve.evaluation.features import features_of
from ganserve.evaluation.images import find, read
from ganserve.evaluation.report import Subject, in_words
from ganserve.evaluation.report import evaluate as all_figures

IN_FLIGHT = 256


class PixelsChoice(StrEnum):
    """What a graph of floats takes."""

    SIGNED = "-1..1"
    UNIT = "0..1"
    BYTES = "0..255"


EvaluatedArgument = Annotated[
    str | None, typer.Argument(metavar="[MODEL]", help="Name of the model, as `ganserve models` lists it.")
]
DataOption = Annotated[Path, typer.Option(metavar="DIR", help="Real images: a folder, or folders in it.")]
ImagesOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Generated images, likewise, in place of those of a MODEL.")
]
FeaturesOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|judge",
        help="Network whose features are compared: an ONNX graph, the standard Inception file, or the name of one of "
        f"the zoo's judges ({', '.join(ZOO_JUDGES)}). Default, and `judge`: the one beside the model.",
    ),
]
CountOption = Annotated[int, typer.Option(min=20, help="Images to generate, over all classes, and real ones at most.")]
FirstSeedOption = Annotated[int, typer.Option(min=0, help="Seed of the first image; the others follow.")]
PixelsOption = Annotated[PixelsChoice | None, typer.Option(help="Range of pixels that a graph of floats takes.")]
SizeOption = Annotated[
    int | None,
    typer.Option(min=8, max=2048, metavar="PX", help="Side that all images are resized to, for graphs of any size."),
]
TruncationOption = Annotated[float | None, typer.Option(metavar="PSI", help="Truncation psi of all images.")]
ResamplesOption = Annotated[int, typer.Option(min=0, max=1000, help="Bootstrap resamples for the spread.")]


def evaluate(
    data: DataOption,
    model: EvaluatedArgument = None,
    images: ImagesOption = None,
    features: FeaturesOption = None,
    count: CountOption = 5000,
    first_seed: FirstSeedOption = 0,
    truncation: TruncationOption = None,
    edit: EditOption = None,
    without: WithoutOption = None,
    mix: MixOption = None,
    layer_truncation: LayerTruncationOption = None,
    truncation_cutoff: CutoffOption = None,
    truncation_center: CenterOption = None,
    translate: TranslateOption = None,
    rotate: RotateOption = None,
    then: ThenOption = None,
    best_of: BestOfOption = None,
    pixels: PixelsOption = None,
    size: SizeOption = None,
    resamples: ResamplesOption = 10,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE.json", help="Also write it.")] = None,
    version: VersionOption = "",
    server: ServerOption = SERVER,
    deadline: DeadlineOption = DEADLINE_S,
    ca: AuthorityOption = None,
    api_key_file: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compares generated images with real ones: Frechet and kernel distance, precision and recall, diversity, copies.

    The figures are of one network's features, and compare only with figures of the same network, number and data. Says
    what points to mode collapse or memorisation. With --images the generated ones are a folder's, and no server is
    needed.
    """
    changes, several = read_changes(
        edit, without, mix, layer_truncation, truncation_cutoff, truncation_center, translate, rotate
    )
    if several > 1:
        raise CommandError("--edit, --mix, --rotate: give one strength, seed or angle, for all images")
    options: GenerateOptions = {**changes, "truncation": truncation, "then": then or [], "best_of": best_of}
    _require_one(model, images, options)
    found_data, about = find(data, count), (data, size, resamples, first_seed)
    with steps() as say:
        if images is not None:
            made = of_folder(images, features, count, pixels)
            report = _report(made, found_data, *about, say)
        else:
            with connect(server, deadline, ca, api_key_file) as client:
                source = Source(client, {**options, "version": version, "format": "raw"}, IN_FLIGHT, deadline, say)
                made = of_model(source, model or "", features, count, first_seed, pixels)
                report = _report(made, found_data, *about, say)
    if output is not None:
        write(output, (json.dumps(report, indent=2) + "\n").encode())
    if as_json:
        print_json(report)
        return
    print(f"{made.text}, {len(found_data)} of {data}; {made.extractor.name} features")
    print("\n".join(in_words(report)))


def _require_one(model: str | None, images: Path | None, options: GenerateOptions) -> None:
    """A model, or a folder, which has no options of generating."""
    if (model is None) == (images is None):
        raise CommandError("give a MODEL, or a folder of generated images with --images, and not both")
    given = [*described_options(options), *(["then"] if options["then"] else [])]
    if images is not None and given:
        raise CommandError(f"{', '.join(given)}: for images that a server makes, not with --images")


def _report(
    made: Made, files: list[Path], data: Path, size: int | None, resamples: int, seed: int, say: Steps
) -> dict[str, Any]:
    """Facts and figures of generated images beside those of `files`, below `data`."""
    extractor, square = made.extractor, None if size is None else (size, size)
    generated = features_of(extractor, told(made.images, made.count, made.text, say), made.count, square)
    channels = made.channels or extractor.channels
    real_images = told((read(path, channels) for path in files), len(files), f"{len(files)} real images", say)
    real = features_of(extractor, real_images, len(files), square)
    names = [path.relative_to(data).as_posix() for path in files]
    subject = Subject(
        extractor.name, extractor.is_inception, names, made.names, real, generated, made.named(len(files))
    )
    facts: dict[str, Any] = {
        **made.facts, "images": made.count, "data": str(data), "data_images": len(files),
        "extractor": extractor.name, "extractor_sha256": extractor.sha256,
        "resize": "Pillow bicubic, only if sizes differ",
    }  # fmt: skip
    return {**facts, **all_figures(subject, resamples, seed, say)}
