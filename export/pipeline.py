"""checkpoint -> ONNX (-> TensorRT) -> model repository: the one function behind `ganserve export`."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version as installed
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from artifact.repository import (
    ONNX,
    PLAN,
    ArtifactError,
    check_target,
    next_version,
    read_manifest,
    read_text,
    write_version,
)
from artifact.shapes import Profile, Sides
from artifact.spec import Spec, Task, TensorRTPlan, Tile
from artifact.tensorrt import NAMES
from export.beside import check_beside, write_beside
from export.config_pbtxt import config_pbtxt, read_config, require_compatible
from export.critic.find import check_option
from export.directions.make import parse_wanted
from export.engine.build import build, installed_library, local_compute_capability
from export.engine.profiles import NetworkShapes, largest_batch, parse_profiles
from export.engine.targets import target_capabilities
from export.errors import ExportError
from export.golden import add_golden
from export.graph.parity import run
from export.graph.samples import encode_images, to_uint8
from export.graph.seams import seam_levels
from export.graph.trace import OPSET, tensor_specs
from export.graph.write import Graphs, write_graphs
from export.judge.find import JudgeWanted, check_judge
from export.source import Source, open_source
from models.architecture import Generator

PRECISIONS = ("fp32", "fp16", "bf16")
TENSORS = ("uint8", "float32")
TOOLS = ("torch", "onnx", "onnxscript")


class Progress(Protocol):
    """Called with a line for each step; while a long one runs, also with the share of it that is done (0..1)."""

    def __call__(self, line: str, share: float | None = None, /) -> None:
        """Shows it; may be called from another thread than the export's."""


def silent(line: str, share: float | None = None, /) -> None:
    """Shows nothing."""


@dataclass(frozen=True)
class Request:
    """What to export and where to. `version` None: the next free one. `checkpoint`: a path or a zoo name."""

    checkpoint: Path | str
    repository: Path
    name: str
    arch: str = "auto"
    key: str | None = None  # which network, where the file holds several
    overrides: Mapping[str, str] = field(default_factory=dict)
    precision: str = "fp32"
    tensors: str = "uint8"
    version: int | None = None
    labels: Path | None = None
    cache_dir: Path | None = None
    tensorrt: str | None = None  # "rtx" or "classic": an engine in addition to the graph
    profiles: tuple[str, ...] = ()  # "min,opt,max[:SIZE,...]", see export.engine.profiles
    compute_capabilities: tuple[str, ...] = ()  # "8.9"
    directions: str = "none"  # the command's default is auto; see export.directions.make
    direction_files: tuple[str, ...] = ()  # NAME=FILE
    truncation_centers: int = 0  # see export.directions.centers
    discriminator: str = "none"  # the command's default is auto; see export.critic.find
    judge: JudgeWanted = field(default_factory=JudgeWanted)  # the command's default is auto; see export.judge.find


@dataclass(frozen=True)
class Exported:
    """The version's folder, its manifest, and what the user should know."""

    folder: Path
    spec: Spec
    notes: tuple[str, ...]


def export(request: Request, progress: Progress = silent) -> Exported:
    """Writes one version into the model repository, after every graph in it was compared with torch.

    Whatever can be checked without running the network is checked before it is traced, most of it before the
    checkpoint is read.

    Raises:
        ExportError: something is not as it should be; nothing was written.
    """
    _require_options(request)
    version = target_version(request)
    existing = read_config(request.repository / request.name)
    label_names = read_labels(request)
    method, direction_files = parse_wanted(request.directions, request.direction_files)
    check_option(request.discriminator)
    check_judge(request.judge)
    source = open_source(request.checkpoint, request.arch, request.overrides, request.cache_dir, progress, request.key)
    generator = source.generator
    if generator.task is Task.ENCODER:
        request = _as_tensors(request)
    labels = _labels(request, label_names, source)
    beside = check_beside(
        source, request.tensors, (method, direction_files), request.truncation_centers, request.discriminator, progress
    )
    profiles = _profiles(request, generator)
    max_batch_size = min(generator.max_batch_size, largest_batch(profiles) if profiles else generator.max_batch_size)
    require_compatible(existing, (ONNX, PLAN) if profiles else (ONNX,), max_batch_size)
    config = config_pbtxt(request.name, *tensor_specs(generator, request.tensors), max_batch_size, existing)
    progress(
        f"{source.architecture}: {', '.join(f'{key} {value}' for key, value in generator.hyperparameters.items())}"
    )
    with tempfile.TemporaryDirectory(prefix="ganserve-export-") as name:
        folder = Path(name)
        graphs = write_graphs(generator, request.tensors, request.precision, folder, progress)
        tile, seam_notes = _tile(graphs.session, generator, request.tensors, progress)
        if profiles and tile is None:
            profiles = _profiles(request, replace(generator, tile=None))
        plan = _plan(request, graphs, folder / PLAN, profiles, progress) if profiles else None
        spec = _spec(request, source, labels, graphs, tile, plan)
        target, judge = (request.repository / request.name, version), (request.judge, source.path)
        spec, judged, said = add_golden(spec, graphs.session, target, judge, folder, progress)
        spec, found, notes = write_beside(beside, spec, graphs.session, source, folder, progress)
        files = {**graphs.files, **({PLAN: folder / PLAN} if plan else {}), **judged, **found}
        try:
            written_to = write_version(request.repository, request.name, version, spec, files, config)
        except (ArtifactError, OSError) as error:
            raise ExportError(str(error)) from None
    progress(f"wrote {written_to}")
    written = read_manifest(written_to) or spec  # with the files' hashes
    return Exported(written_to, written, (*source.notes, *graphs.notes, *notes, *seam_notes, *said))


def _require_options(request: Request) -> None:
    """Checks the options against each other and, for an engine, against the installed library and the local GPU."""
    _require_choice("--precision", request.precision, PRECISIONS)
    _require_choice("--tensors", request.tensors, TENSORS)
    if request.tensorrt is not None:
        _require_choice("--tensorrt", request.tensorrt, tuple(NAMES))
        library = installed_library(request.tensorrt)
        target_capabilities(
            request.tensorrt, request.compute_capabilities, request.precision, library, local_compute_capability
        )
        return
    if request.precision == "bf16":
        raise ExportError("--precision bf16: needs --tensorrt, since ONNX Runtime has no bfloat16 convolution")
    for option, values in (("--profile", request.profiles), ("--compute-capability", request.compute_capabilities)):
        if values:
            raise ExportError(f"{option} {' '.join(values)}: needs --tensorrt, since it is for the engine")


def _as_tensors(request: Request) -> Request:
    """What is asked for of an encoder, whose w is no image.

    Raises:
        ExportError: it has no such graph.
    """
    if request.precision != "fp32":
        raise ExportError(f"--precision {request.precision}: an encoder is exported as fp32")
    return replace(request, tensors="float32")


def _require_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ExportError(f"{option} {value}: must be one of {', '.join(choices)}")


def target_version(request: Request) -> int:
    """The version to write, which the repository is known to accept."""
    try:
        version = next_version(request.repository, request.name) if request.version is None else request.version
        check_target(request.repository, request.name, version)
    except ArtifactError as error:
        what = str(error)
        option = (
            "--name" if what.startswith("model name") else "--repository" if "cannot write" in what else "--version"
        )
        raise ExportError(f"{option}: {what}") from None
    return version


def read_labels(request: Request) -> tuple[str, ...] | None:
    """The class names in the user's file, one a line; None without a file."""
    if request.labels is None:
        return None
    try:
        text = read_text(request.labels)
    except ArtifactError as error:
        raise ExportError(f"--labels: {error}") from None
    if text is None:
        raise ExportError(f"--labels {request.labels}: no such file")
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _labels(request: Request, names: tuple[str, ...] | None, source: Source) -> tuple[str, ...]:
    """The names of the classes or attributes: the user's, the zoo's, the architecture's, or "0", "1", ..."""
    attributes, known = source.generator.attributes, source.generator.label_names
    classes = source.generator.classes or len(attributes)
    if names is None:
        return source.labels or attributes or known or tuple(str(label) for label in range(classes))
    if not classes:
        raise ExportError(f"--labels {request.labels}: {source.architecture} has no label input")
    if len(names) != classes or len(set(names)) != classes:
        found, what = len(set(names)), "attributes" if attributes else "classes"
        raise ExportError(f"--labels {request.labels}: {found} different names, the generator has {classes} {what}")
    return names


def _profiles(request: Request, generator: Generator) -> tuple[Profile, ...]:
    """The shapes to build an engine for; none without --tensorrt."""
    if request.tensorrt is None:
        return ()
    inputs, _ = tensor_specs(generator, request.tensors)
    tile_px = generator.tile.size_px if generator.tile else None
    sides = Sides(generator.multiple_px, generator.least_px, tile_px)
    network = NetworkShapes(inputs, generator.max_batch_size, sides)
    return parse_profiles(request.profiles, network)


def _plan(
    request: Request, graphs: Graphs, path: Path, profiles: tuple[Profile, ...], progress: Progress
) -> TensorRTPlan:
    """Builds the TensorRT engine at `path`."""
    assert request.tensorrt is not None
    return build(
        graphs.engine_source,
        path,
        variant=request.tensorrt,
        precision=request.precision,
        profiles=profiles,
        compute_capabilities=request.compute_capabilities,
        cache_dir=request.cache_dir,
        progress=progress,
    )


def _tools() -> dict[str, str]:
    """Versions of what exports. ONNX Runtime says its own: its package has another name where it is for GPUs."""
    return {**{tool: installed(tool) for tool in TOOLS}, "onnxruntime": onnxruntime.__version__}


def _tile(
    session: onnxruntime.InferenceSession, generator: Generator, tensors: str, progress: Progress
) -> tuple[Tile | None, tuple[str, ...]]:
    """How a network that is run in tiles is tiled, with the seam measured, and what the user should know of it; None
    for networks that see images whole."""
    plan = generator.tile
    if plan is None:
        return None, ()

    def upscale(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if tensors == "uint8":
            return np.asarray(run(session, {"image": image}), dtype=np.uint8)
        return to_uint8(run(session, {"image": encode_images(image, generator)}), generator.output_range)

    progress(f"comparing tiles, overlap {plan.overlap_px} px, with images upscaled whole")
    measured = seam_levels(upscale, plan, generator.image_channels, generator.scale)
    by_image = ", ".join(f"{levels:g} on {name}" for name, levels in measured.items())
    progress(f"tiles of up to {plan.size_px} px: largest difference in levels: {by_image}")
    worst = max(measured.values())
    tile = Tile(plan.size_px, plan.overlap_px, plan.multiple_px, plan.receptive_field_px, worst)
    far = f"the receptive field is {plan.receptive_field_px} px"
    if worst > plan.max_seam_levels:
        return None, (
            f"not tileable: {far}, and tiles that overlap by {plan.overlap_px} px differ by {worst:g} levels from the "
            f"whole image, at most {plan.max_seam_levels:g} are allowed; images are upscaled whole",
        )
    if plan.overlap_px >= plan.receptive_field_px:
        return tile, ()
    return tile, (f"{far}, tiles overlap by {plan.overlap_px} px: {worst:g} level(s) measured at the worst cut",)


def _spec(
    request: Request,
    source: Source,
    labels: tuple[str, ...],
    graphs: Graphs,
    tile: Tile | None,
    plan: TensorRTPlan | None,
) -> Spec:
    generator = source.generator
    inputs, outputs = tensor_specs(generator, request.tensors)
    return Spec(
        task=generator.task,
        architecture=source.architecture,
        hyperparameters=generator.hyperparameters,
        tensors=request.tensors,
        precision="fp32" if request.precision == "bf16" else request.precision,  # of model.onnx
        opset=OPSET,
        inputs=inputs,
        outputs=outputs,
        image_shape=(*generator.image_size_px, generator.image_channels),
        provenance=replace(source.provenance, exported_with=_tools()),
        parity=graphs.measured.parity,
        latent_size=generator.latent_size,
        labels=labels,
        noise_size=generator.noise_size,
        truncation_default=generator.truncation_default,
        truncation_range=generator.truncation_range,
        w_shape=generator.w_shape,
        truncation_cutoff=generator.truncation_cutoff,
        takes_transform=generator.takes_transform,
        scale=generator.scale,
        tile=tile,
        multiple_px=generator.multiple_px,
        least_px=generator.least_px,
        input_classes=generator.input_classes,
        input_unknown=generator.input_unknown,
        plan=plan,
        float_parity=graphs.float_parity,
    )
