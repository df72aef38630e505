"""checkpoint -> ONNX -> model repository: the one function behind `ganserve export`."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version as installed
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from artifact.repository import CONFIG, PLAN, ArtifactError, check_target, next_version, read_manifest, write_version
from artifact.spec import Spec, TensorRTPlan, Tile
from artifact.tensorrt import NAMES
from export.config_pbtxt import config_pbtxt
from export.engine.build import build, gpu_at_hand, installed_library
from export.engine.profiles import Profile, Taken, largest_batch, profiles_of
from export.engine.targets import capabilities
from export.errors import ExportError
from export.graph.parity import Figures, run
from export.graph.samples import encoded, levelled
from export.graph.seams import seam_levels
from export.graph.tensors import tensor_specs
from export.graph.trace import OPSET
from export.graph.write import Graphs, write_graphs
from export.progress import Progress, silent
from export.source import Source, open_source
from models.architecture import Generator

__all__ = ["ExportError", "Exported", "Request", "export"]

PRECISIONS = ("fp32", "fp16", "bf16")
TENSORS = ("uint8", "float32")
TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Request:
    """What to export and where to. `version` None: the next free one. `checkpoint`: a path or a zoo name."""

    checkpoint: Path | str
    repository: Path
    name: str
    arch: str = "auto"
    overrides: Mapping[str, str] = field(default_factory=dict)
    precision: str = "fp32"
    tensors: str = "uint8"
    version: int | None = None
    labels: Path | None = None
    cache_dir: Path | None = None
    tensorrt: str | None = None  # "rtx" or "classic": an engine beside the graph
    profiles: tuple[str, ...] = ()  # "min,opt,max[:SIZE,...]", see export.profiles
    compute_capabilities: tuple[str, ...] = ()  # "8.9"


@dataclass(frozen=True)
class Exported:
    """The version's folder, what it says, and what the user should know."""

    folder: Path
    spec: Spec
    notes: tuple[str, ...]


def export(request: Request, progress: Progress = silent) -> Exported:
    """Writes one version into the model repository, after every graph in it was found equal to torch.

    Raises:
        ExportError: anything that is not as it should be; nothing was written.
    """
    _require_choices(request)
    version = _checked_version(request)
    source = open_source(request.checkpoint, request.arch, request.overrides, request.cache_dir, progress)
    labels = _labels(request.labels, source)
    generator = source.generator
    profiles = _profiles(request, generator)
    facts = ", ".join(f"{key} {value}" for key, value in generator.hyperparameters.items())
    progress(f"{source.architecture}: {facts}")
    with tempfile.TemporaryDirectory(prefix="ganserve-export-") as name:
        folder = Path(name)
        graphs = write_graphs(generator, request.tensors, request.precision, folder, progress)
        tile = _tile(graphs.session, generator, request.tensors, progress)
        plan = _plan(request, graphs, folder / PLAN, profiles, progress)
        spec = _spec(request, source, labels, graphs.figures, tile, plan)
        largest = largest_batch(profiles) if profiles else generator.max_batch_size
        config = config_pbtxt(request.name, spec, min(largest, generator.max_batch_size), _config_before(request))
        files = {**graphs.files, **({PLAN: folder / PLAN} if plan else {})}
        try:
            target = write_version(request.repository, request.name, version, spec, files, config)
        except (ArtifactError, OSError) as error:
            raise ExportError(str(error)) from None
    progress(f"wrote {target}")
    written = read_manifest(target) or spec  # with the files' hashes
    return Exported(target, written, (*source.checkpoint.notes, *graphs.notes, *_seam_notes(tile)))


def _config_before(request: Request) -> str:
    path = request.repository / request.name / CONFIG
    try:
        return path.read_text() if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: {error}") from None


def _profiles(request: Request, generator: Generator) -> tuple[Profile, ...]:
    """The shapes to build an engine for; none where none is asked for. What cannot be built fails here, not after
    minutes of tracing."""
    if request.tensorrt is None:
        return ()
    library = installed_library(request.tensorrt)
    capabilities(request.tensorrt, request.compute_capabilities, request.precision, library, gpu_at_hand)
    ins, _ = tensor_specs(generator, request.tensors)
    tile_px = generator.tile.size_px if generator.tile else None
    taken = Taken(ins, generator.max_batch_size, generator.multiple_px, generator.least_px, tile_px)
    return profiles_of(request.profiles, taken)


def _plan(
    request: Request, graphs: Graphs, path: Path, profiles: tuple[Profile, ...], progress: Progress
) -> TensorRTPlan | None:
    """The TensorRT engine at `path`, where one is asked for."""
    if request.tensorrt is None:
        return None
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


def _tile(session: onnxruntime.InferenceSession, generator: Generator, tensors: str, progress: Progress) -> Tile | None:
    """The tile facts of networks that are run in tiles."""
    plan = generator.tile
    if plan is None:
        return None

    def upscale(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if tensors == "uint8":
            return np.asarray(run(session, {"image": image}), dtype=np.uint8)
        return levelled(run(session, {"image": encoded(image, generator)}), generator.output_range)

    measured = seam_levels(upscale, plan, generator.picture_channels, generator.scale)
    progress(
        f"tiles of {plan.size_px} px, overlap {plan.overlap_px} px: "
        f"at most {measured:g} level(s) from the whole picture"
    )
    return Tile(plan.size_px, plan.overlap_px, plan.multiple_px, plan.receptive_field_px, measured)


def _spec(
    request: Request,
    source: Source,
    labels: tuple[str, ...],
    figures: Figures,
    tile: Tile | None,
    plan: TensorRTPlan | None,
) -> Spec:
    generator = source.generator
    ins, outs = tensor_specs(generator, request.tensors)
    return Spec(
        task=generator.task,
        architecture=source.architecture,
        hyperparameters=generator.hyperparameters,
        tensors=request.tensors,
        precision="fp32" if request.precision == "bf16" else request.precision,  # of model.onnx
        opset=OPSET,
        inputs=ins,
        outputs=outs,
        image_shape=(*generator.image_size_px, generator.picture_channels),
        provenance=replace(source.provenance, exported_with={tool: installed(tool) for tool in TOOLS}),
        parity=figures.parity,
        latent_size=generator.latent_size,
        labels=labels,
        noise_size=generator.noise_size,
        truncation_default=generator.truncation_default,
        truncation_range=generator.truncation_range,
        w_shape=generator.w_shape,
        scale=generator.scale,
        tile=tile,
        multiple_px=generator.multiple_px,
        least_px=generator.least_px,
        plan=plan,
    )


def _labels(path: Path | None, source: Source) -> tuple[str, ...]:
    """The names of the classes: the user's file, one a line; else the zoo's; else "0", "1", ..."""
    classes = source.generator.classes
    if path is None:
        return source.labels or tuple(str(label) for label in range(classes))
    if not classes:
        raise ExportError(f"--labels {path}: {source.architecture} takes no label")
    try:
        names = tuple(line.strip() for line in path.read_text().splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"--labels {path}: {error}") from None
    if len(names) != classes or len(set(names)) != classes:
        raise ExportError(f"--labels {path}: {len(set(names))} different names, the generator has {classes} classes")
    return names


def _seam_notes(tile: Tile | None) -> tuple[str, ...]:
    if tile is None or tile.overlap_px >= tile.receptive_field_px:
        return ()
    return (
        f"a pixel can see {tile.receptive_field_px} px, tiles overlap by {tile.overlap_px}: "
        f"{tile.seam_levels:g} level(s) measured at the seam",
    )


def _require_choices(request: Request) -> None:
    _require_choice("--precision", request.precision, PRECISIONS)
    _require_choice("--tensors", request.tensors, TENSORS)
    if request.tensorrt is not None:
        _require_choice("--tensorrt", request.tensorrt, tuple(NAMES))
        return
    if request.precision == "bf16":
        raise ExportError("--precision bf16 needs --tensorrt: ONNX Runtime has no bfloat16 convolution")
    if request.profiles or request.compute_capabilities:
        raise ExportError("--profile and --compute-capability are for TensorRT engines: pass --tensorrt as well")


def _require_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ExportError(f"{option} {value}: must be one of {', '.join(choices)}")


def _checked_version(request: Request) -> int:
    """The version to write, which the repository is known to accept."""
    try:
        version = next_version(request.repository, request.name) if request.version is None else request.version
        check_target(request.repository, request.name, version)
    except ArtifactError as error:
        raise ExportError(str(error)) from None
    return version
