"""`ganserve inspect` and `ganserve export`: from a checkpoint to a model that can be served."""

from collections.abc import Iterator
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ganserve.cli.connect import JsonOption
from ganserve.cli.graph_options import (
    ChannelOrderOption,
    ClassesOption,
    FixOption,
    GraphOptions,
    ImageOption,
    InputRangeOption,
    LabelOption,
    LatentOption,
    LayoutOption,
    MappingOption,
    MeanOption,
    NoiseOption,
    RangeOption,
    ReferenceOption,
    StdOption,
    TaskOption,
    TruncationOption,
)  # fmt: skip
from ganserve.cli.output import CommandError, needing, print_json, steps

if TYPE_CHECKING:
    from artifact.spec import Spec
    from export.pipeline import Exported, Progress, Request


class Precision(StrEnum):
    """Type of the weights and of the computation."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


class Tensors(StrEnum):
    """Inputs and outputs of the served graph: pixels, or the network's own tensors."""

    UINT8 = "uint8"
    FLOAT32 = "float32"


class Directions(StrEnum):
    """How directions in the latent space are found."""

    AUTO = "auto"
    JACOBIAN = "jacobian"
    SEFA = "sefa"
    PCA = "pca"
    NONE = "none"


class Variant(StrEnum):
    """Which TensorRT builds the engine: TensorRT for RTX, which needs no GPU to build, or classic TensorRT."""

    RTX = "rtx"
    CLASSIC = "classic"


CheckpointArgument = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT|ZOO_NAME", help="A file, a folder with its config, or a name from `ganserve zoo list`."
    ),
]


ArchOption = Annotated[
    str, typer.Option(metavar="auto|NAME", help="Architecture (default: detected from the weights).")
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key", metavar="NAME", help="Which network, where the file holds several: its key, as errors say it."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Hyper-parameter that cannot be inferred. Repeatable."),
]
CacheOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder for downloaded weights and built engines.")
]
TensorrtOption = Annotated[
    Variant | None, typer.Option("--tensorrt", help="Also build a TensorRT engine, model.plan, next to the ONNX graph.")
]
ProfileOption = Annotated[
    list[str] | None,
    typer.Option(
        "--profile",
        metavar="MIN,OPT,MAX[:SIZE,...]",
        help="Batch sizes, and input image sizes HxW or HxW-HxW, that the engine is built for. Repeatable.",
    ),
]
CapabilityOption = Annotated[
    str | None,
    typer.Option(
        "--compute-capability",
        metavar="8.9,12.0",
        help="GPUs that the engine is built for, or `current` (rtx default: a portable engine).",
    ),
]

TensorsOption = Annotated[Tensors, typer.Option(help="uint8: pixels in and out; float32: the network's own tensors.")]
DirectionsOption = Annotated[
    Directions,
    typer.Option(
        help="How directions in the latent space are found, for edits. auto: sefa and pca for a StyleGAN, jacobian for "
        "other generators if it takes less than a minute."
    ),
]
DirectionFileOption = Annotated[
    list[str] | None,
    typer.Option(
        "--direction", metavar="NAME=FILE", help="Direction from a file (.npy, .npz, .pt, .safetensors). Repeatable."
    ),
]
DiscriminatorOption = Annotated[
    str,
    typer.Option(
        metavar="auto|same|none|FILE",
        help="Discriminator that is exported beside the generator, for scores. auto: the one in the checkpoint's file "
        "or in NAME-discriminator.safetensors beside it, if there is one.",
    ),
]
JudgeOption = Annotated[
    str,
    typer.Option(
        metavar="auto|none|FILE.onnx",
        help="Network that says what images show, exported beside the generator, for drift and `evaluate`: a "
        "classifier, or one that gives features. auto: NAME-judge.onnx beside the checkpoint, or the zoo's for its "
        "digits and emoji.",
    ),
]
JudgeClassesOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Names of the judge's classes, one per line, in place of its own.")
]
JudgePixelsOption = Annotated[
    str | None, typer.Option(metavar="-1..1|0..1|0..255", help="Range of pixels that a judge of floats takes.")
]

CentersOption = Annotated[
    int,
    typer.Option(
        metavar="N", help="Centres that truncation can draw images towards (multi-modal truncation), of w; 0: none."
    ),
]


def inspect(
    checkpoint: CheckpointArgument,
    arch: ArchOption = "auto",
    key: KeyOption = None,
    settings: SetOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Shows what a checkpoint is: architecture, hyper-parameters, task, inputs, parameters. Writes nothing."""
    overrides = parse_settings(settings or [])
    with needing("export"):
        from export.errors import ExportError
        from export.inspection import inspect as look
    try:
        with steps() as progress:
            found = look(checkpoint, arch, overrides, cache, progress, key)
    except ExportError as error:
        raise CommandError(str(error)) from None
    if as_json:
        print_json(asdict(found))
        return
    for name, value in asdict(found).items():
        if name == "settings":
            unsaid = {assumed.partition("=")[0] for assumed in found.assumed}
            lines = [f"--set {setting}: {meaning}" for setting, meaning in value.items() if setting not in unsaid]
        elif name == "assumed":
            lines = [f"{setting} ({meaning})" for setting, meaning in value.items()]
        elif isinstance(value, dict):
            lines = [", ".join(f"{one}={setting}" for one, setting in value.items())]
        else:
            lines = list(value) if isinstance(value, tuple) else [value]
        for line in lines:
            print(f"{name:<16} {line}")


def export(
    checkpoint: CheckpointArgument,
    repository: Annotated[Path, typer.Option(metavar="DIR", help="Model repository to write to.")],
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the served model.")],
    arch: ArchOption = "auto",
    key: KeyOption = None,
    settings: SetOption = None,
    precision: Annotated[Precision, typer.Option(help="Type of the weights and of the computation.")] = Precision.FP32,
    tensors: TensorsOption = Tensors.UINT8,
    version: Annotated[int | None, typer.Option(min=1, help="Version (default: the next free one).")] = None,
    labels: Annotated[Path | None, typer.Option(metavar="FILE", help="Class names, one per line.")] = None,
    cache: CacheOption = None,
    tensorrt: TensorrtOption = None,
    profile: ProfileOption = None,
    compute_capability: CapabilityOption = None,
    task: TaskOption = None,
    latent: LatentOption = None,
    label: LabelOption = None,
    classes: ClassesOption = None,
    image: ImageOption = None,
    layout: LayoutOption = None,
    channel_order: ChannelOrderOption = None,
    output_range: RangeOption = None,
    input_range: InputRangeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    noise: NoiseOption = None,
    truncation: TruncationOption = None,
    mapping: MappingOption = None,
    fix: FixOption = None,
    reference: ReferenceOption = None,
    directions: DirectionsOption = Directions.AUTO,
    direction: DirectionFileOption = None,
    truncation_centers: CentersOption = 0,
    discriminator: DiscriminatorOption = "auto",
    judge: JudgeOption = "auto",
    judge_classes: JudgeClassesOption = None,
    judge_pixels: JudgePixelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Exports a checkpoint, or an ONNX graph (*.onnx), into a model repository, after comparing it with PyTorch."""
    ranges = (output_range, input_range, mean, std)
    knobs = (tuple(noise or ()), truncation, mapping, channel_order)
    graph = GraphOptions(task, latent, label, classes, image, layout, *ranges, tuple(fix or ()), reference, *knobs)
    capabilities = tuple(part.strip() for part in (compute_capability or "").split(",") if part.strip())
    with needing("export"):
        from export.judge.find import JudgeWanted
        from export.pipeline import Request
    request = Request(
        checkpoint=checkpoint, repository=repository, name=name, arch=arch, key=key,
        overrides=parse_settings(settings or []), precision=precision.value, tensors=tensors.value, version=version,
        labels=labels, cache_dir=cache, tensorrt=tensorrt and tensorrt.value, profiles=tuple(profile or ()),
        compute_capabilities=capabilities, directions=directions.value, direction_files=tuple(direction or ()),
        truncation_centers=truncation_centers, discriminator=discriminator,
        judge=JudgeWanted(judge, judge_classes, judge_pixels),
    )  # fmt: skip
    _show(_exported(request, graph), as_json)


def _exported(request: "Request", graph: GraphOptions) -> "Exported":
    from export.errors import ExportError

    try:
        with steps() as progress:
            return _export(request, graph, progress)
    except ExportError as error:
        raise CommandError(str(error)) from None


def _export(request: "Request", graph: GraphOptions, progress: "Progress") -> "Exported":
    """Adopts a graph that is an ONNX file, exports everything else."""
    from export.adopt.adopt import adopt
    from export.adopt.read import is_onnx
    from export.pipeline import export as run

    if is_onnx(Path(request.checkpoint)):
        return adopt(request, graph.parsed(), progress)
    graph.require_none()
    return run(request, progress)


def _show(exported: "Exported", as_json: bool) -> None:
    if as_json:
        print_json({"folder": str(exported.folder), "notes": list(exported.notes), "spec": asdict(exported.spec)})
        return
    spec = exported.spec
    for line in (*exported.notes, *_plan_facts(spec), *_critic_facts(spec), *_judge_facts(spec)):
        print(line)
    print(exported.folder)


def _plan_facts(spec: "Spec") -> Iterator[str]:
    """One line about the engine, if there is one."""
    from export.engine.profiles import profile_text

    if plan := spec.plan:
        gpus = f"for {', '.join(plan.compute_capabilities)}" if plan.compute_capabilities else "portable"
        profiles = " and ".join(profile_text(profile, spec.inputs) for profile in plan.profiles)
        yield f"model.plan: TensorRT {plan.variant} {plan.version}, {plan.precision}, {gpus}; profiles {profiles}"


def _critic_facts(spec: "Spec") -> Iterator[str]:
    """One line about the discriminator, if there is one."""
    if critic := spec.critic:
        rows, of = len(critic.quantiles), "by label " if len(critic.quantiles) > 1 else ""
        low, high = min(row[0] for row in critic.quantiles), max(row[-1] for row in critic.quantiles)
        yield (
            f"critic.onnx: {critic.architecture}; {rows * critic.images} own images {of}score {low:.3g} to {high:.3g}"
        )


def _judge_facts(spec: "Spec") -> Iterator[str]:
    """One line about the judge, if there is one."""
    if judge := spec.judge:
        yield f"judge.onnx: {judge.provenance.source}; {', '.join(judge.classes)}; {judge.features} features"


def parse_settings(settings: list[str]) -> dict[str, str]:
    """KEY=VALUE texts as a mapping.

    Raises:
        CommandError: no `=`, no key, or a key given twice.
    """
    found: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip()
        if not equals or not key:
            raise CommandError(f"--set {setting!r}: expected KEY=VALUE")
        if key in found:
            raise CommandError(f"--set {key}: given twice")
        found[key] = value.strip()
    return found
