"""`ganserve evaluate`: a running generator's images beside real ones."""

import json
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ganserve.cli.animate import served_model
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
from ganserve.cli.dataset_options import read_contents
from ganserve.cli.files import ModelArgument, VersionOption
from ganserve.cli.media.write import write
from ganserve.cli.output import CommandError, Steps, needing, print_json, steps
from ganserve.client.results import ServedModel
from ganserve.datasets.contents import Contents
from ganserve.datasets.description import Description
from ganserve.datasets.requests import Source
from ganserve.evaluation.features import Extractor, features_of, open_extractor
from ganserve.evaluation.images import find, read
from ganserve.evaluation.report import Subject, in_words
from ganserve.evaluation.report import evaluate as all_figures

JUDGE = "judge"
IN_FLIGHT = 256


class PixelsChoice(StrEnum):
    """What a graph of floats takes."""

    SIGNED = "-1..1"
    UNIT = "0..1"
    BYTES = "0..255"


DataOption = Annotated[Path, typer.Option(metavar="DIR", help="Real images: a folder, or folders in it.")]
FeaturesOption = Annotated[
    str,
    typer.Option(
        metavar="FILE|judge",
        help="Network whose features are compared: an ONNX graph, the standard Inception file, or `judge`, the zoo's "
        "own for its digits and emoji.",
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
    model: ModelArgument,
    data: DataOption,
    features: FeaturesOption,
    count: CountOption = 5000,
    first_seed: FirstSeedOption = 0,
    truncation: TruncationOption = None,
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
    what points to mode collapse or memorisation.
    """
    found_data = find(data, count)
    with steps() as say, connect(server, deadline, ca, api_key_file) as client:
        served = served_model(client, model, version)
        if not served.task or served.task.startswith(("super", "image")):
            raise CommandError(f"{model}: is for {served.task or 'plain tensors'}; generators are evaluated")
        extractor = _extractor(features, served, pixels)
        contents = read_contents(served.labels, count, None, None, first_seed)
        source = Source(
            client, {"truncation": truncation, "version": served.version, "format": "raw"}, IN_FLIGHT, deadline, say
        )
        made = features_of(extractor, _generated(source, served, contents, say), count, _square(size))
        real = features_of(extractor, _real(found_data, served.channels, say), len(found_data), _square(size))
        names = [path.relative_to(data).as_posix() for path in found_data]
        seeds = [f"seed {first_seed + index}" for index in range(count)]
        subject = Subject(extractor.name, extractor.is_inception, names, seeds, real, made)
        figures = all_figures(subject, resamples, first_seed, say)
    facts: dict[str, Any] = {
        "model": served.name, "version": served.version, "sha256": served.sha256, "truncation": truncation,
        "images": count, "first_seed": first_seed, "data": str(data), "data_images": len(found_data),
        "extractor": extractor.name, "extractor_sha256": extractor.sha256,
        "resize": "Pillow bicubic, only if sizes differ",
    }  # fmt: skip
    report = {**facts, **figures}
    if output is not None:
        write(output, (json.dumps(report, indent=2) + "\n").encode())
    if as_json:
        print_json(report)
        return
    print(f"{count} images of {model} version {served.version}, {len(found_data)} of {data}; {extractor.name} features")
    print("\n".join(in_words(figures)))


def _square(side: int | None) -> tuple[int, int] | None:
    return None if side is None else (side, side)


def _extractor(features: str, served: ServedModel, pixels: PixelsChoice | None) -> Extractor:
    path, name = Path(features), Path(features).name
    if features == JUDGE:
        from models.zoo.judges import judge_of

        path = judge_of(served.source)
        name = path.stem
    with needing("evaluate"):
        return open_extractor(path, name, None if pixels is None else pixels.value)


def _generated(source: Source, served: ServedModel, contents: Contents, say: Steps) -> Iterator[NDArray[np.uint8]]:
    size = served.width, served.height, served.channels
    about = Description(served.name, served.version, served.sha256, size, served.labels, contents, 1, "imagefolder")
    text = f"{contents.total} images of {served.name} version {served.version}"
    return _told(source.images(about, range(contents.total)), contents.total, text, lambda image: image.array, say)


def _real(paths: list[Path], channels: int, say: Steps) -> Iterator[NDArray[np.uint8]]:
    return _told(iter(paths), len(paths), f"{len(paths)} real images", lambda path: read(path, channels), say)


def _told(
    of: Iterator[Any], total: int, text: str, make: Callable[[Any], NDArray[np.uint8]], say: Steps
) -> Iterator[NDArray[np.uint8]]:
    say(text)
    for done, each in enumerate(of):
        yield make(each)
        say(text, (done + 1) / total)
