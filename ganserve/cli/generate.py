"""`ganserve generate`: images by seed, latent or w from a running server into files."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
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
from ganserve.cli.files import (
    ModelArgument,
    OutputOption,
    QualityOption,
    VersionOption,
    describe_timings,
    facts_of,
    read_format,
)
from ganserve.cli.generate_options import (
    BestOfOption,
    CountOption,
    DrsOption,
    LabelsOption,
    LatentsOption,
    MaxTriesOption,
    MinPercentileOption,
    NoiseSeedsOption,
    SeedsOption,
    ThenOption,
    TruncationOption,
    WOption,
    read_generate_options,
    read_selection,
)
from ganserve.cli.generated_files import GeneratedFiles
from ganserve.cli.output import CommandError, counted, print_json
from ganserve.client.client import Client
from ganserve.client.formats import SUFFIXES
from ganserve.client.options import GenerateOptions
from ganserve.client.received import Timings
from ganserve.client.results import GeneratedImage, StepReport

SaveWOption = Annotated[
    Path | None,
    typer.Option(
        "--save-w", metavar="FILE.npz", help="Also write the images' w, key `w` (n, layers, size): --w reads it again."
    ),
]

SizeOption = Annotated[
    int | None, typer.Option(min=1, metavar="PX", help="Longer side of the images, which are resampled.")
]
GridOption = Annotated[
    bool, typer.Option("--grid", help="Write one image with all images in a grid instead of one file for each.")
]


def generate(
    model: ModelArgument,
    output: OutputOption,
    seeds: SeedsOption = None,
    count: CountOption = None,
    latents: LatentsOption = None,
    w: WOption = None,
    labels: LabelsOption = None,
    truncation: TruncationOption = None,
    noise_seeds: NoiseSeedsOption = None,
    edit: EditOption = None,
    without: WithoutOption = None,
    mix: MixOption = None,
    layer_truncation: LayerTruncationOption = None,
    truncation_cutoff: CutoffOption = None,
    truncation_center: CenterOption = None,
    translate: TranslateOption = None,
    rotate: RotateOption = None,
    best_of: BestOfOption = None,
    min_percentile: MinPercentileOption = None,
    drs_percentile: DrsOption = None,
    max_tries: MaxTriesOption = None,
    save_w: SaveWOption = None,
    then: ThenOption = None,
    size: SizeOption = None,
    grid: GridOption = False,
    columns: Annotated[int | None, typer.Option(min=1, help="Images per row of the grid.")] = None,
    quality: QualityOption = None,
    version: VersionOption = "",
    server: ServerOption = SERVER,
    deadline: DeadlineOption = DEADLINE_S,
    ca: AuthorityOption = None,
    api_key_file: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Generates images; the same seed always gives the same image.

    A single image is written to FILE, several to FILE-<seed> or, with --grid, to FILE as one image. A single seed is
    repeated for each of several labels, truncations, noise seeds, strengths, angles or mixed seeds. `ganserve models`
    lists what a model supports.
    """
    format = read_format(output)
    changes = read_changes(
        edit, without, mix, layer_truncation, truncation_cutoff, truncation_center, translate, rotate
    )
    options, n = read_generate_options(seeds, count, latents, w, labels, truncation, noise_seeds, changes)
    options |= read_selection(best_of, min_percentile, drs_percentile, max_tries)
    if columns is not None and not grid:
        raise CommandError("--columns goes with --grid")
    options |= {"return_w": save_w is not None, "version": version, "size": size, "then": then or []}
    options["format"] = "raw" if grid else format
    options["quality"] = None if grid or output.suffix.lower() not in SUFFIXES else quality
    with GeneratedFiles(output, quality, grid, columns) as files:
        with connect(server, deadline, ca, api_key_file) as client:
            _receive(client, model, options, n, files)
        _finish(files, save_w, as_json)


def _receive(client: Client, model: str, options: GenerateOptions, n: int, files: GeneratedFiles) -> None:
    with counted(n, model) as advance:
        for image in client.generate_stream(model, **options):
            files.add(image)
            advance()


def _finish(files: GeneratedFiles, save_w: Path | None, as_json: bool) -> None:
    images, paths = files.images, files.finish()
    if save_w is not None:
        np.savez(save_w, w=np.stack([image.w for image in images if image.w is not None]))
    _report(images, paths, as_json)


def _steps(images: Sequence[GeneratedImage]) -> list[StepReport]:
    """What all images went through, with the largest batches."""
    return [max(reports, key=lambda step: step.batch_size) for reports in zip(*(i.then for i in images), strict=True)]


def _report(images: Sequence[GeneratedImage], paths: Sequence[Path], as_json: bool) -> None:
    longest = Timings(*(max(getattr(image.timings, name) for image in images) for name in Timings.__dataclass_fields__))
    largest = max(image.batch_size for image in images)
    if as_json:
        files = [
            {
                "file": str(path),
                "seed": image.seed,
                "label": image.label,
                "noise_seed": image.noise_seed,
                "batch_size": image.batch_size,
                **({} if image.choice is None else {"choice": asdict(image.choice)}),
            }
            for image, path in zip(images, paths, strict=True)
        ]
        facts = facts_of(images[0].model, images[0].version, largest, longest)
        print_json({**facts, "then": [asdict(step) for step in _steps(images)], "images": files})
        return
    for path in dict.fromkeys(paths):
        print(path)
    if choices := [image.choice for image in images if image.choice is not None]:
        middle = sorted(each.percentile for each in choices)[len(choices) // 2]
        taken, tried = sum(each.accepted for each in choices), sum(each.candidates for each in choices)
        print(f"{taken} of {len(choices)} accepted, {tried} candidates, median percentile {middle:.1f}")
    model = f"{images[0].model} version {images[0].version}"
    for step in images[0].then:
        model += f", then {step.model} version {step.version}"
    print(f"{len(images)} from {model}, batch {largest}, {describe_timings(longest)}")
