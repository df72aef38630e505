"""checkpoint -> ONNX -> model repository: the one function behind `ganserve export`."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version as installed
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from export.config import config_pbtxt
from export.errors import ExportError
from export.parity import Figures, measure, open_session, run
from export.reduced import reduced
from export.samples import encoded, inputs, levelled
from export.seams import seam_levels
from export.source import Source, open_source
from export.tensors import tensor_specs
from export.to_onnx import OPSET, save, to_onnx
from export.wrapping import wrap
from models.architecture import Generator
from models.artifact import ONNX, ArtifactError, read_manifest, write_version
from models.spec import Spec, Tile

__all__ = ["ExportError", "Exported", "Request", "export"]

PRECISIONS = ("fp32", "fp16")
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


def export(request: Request, progress: Callable[[str], None] = lambda line: None) -> Exported:
    """Writes one version into the model repository, after the graph was found equal to torch.

    Raises:
        ExportError: anything that is not as it should be; nothing was written.
    """
    _require_choice("--precision", request.precision, PRECISIONS)
    _require_choice("--tensors", request.tensors, TENSORS)
    version = request.version or _next_version(request.repository / request.name)
    if (request.repository / request.name / str(version)).exists():
        raise ExportError(f"{request.name} has a version {version}; pass another --version or delete it")
    source = open_source(request.checkpoint, request.arch, request.overrides, request.cache_dir, progress)
    labels = _labels(request.labels, source)
    facts = ", ".join(f"{key} {value}" for key, value in source.generator.hyperparameters.items())
    progress(f"{source.architecture}: {facts}")
    with tempfile.TemporaryDirectory(prefix="ganserve-export-") as folder:
        path = Path(folder) / ONNX
        figures, tile = _write_graph(request, source.generator, path, progress)
        spec = _spec(request, source, labels, figures, tile)
        config = config_pbtxt(request.name, spec, source.generator.max_batch_size)
        try:
            target = write_version(request.repository, request.name, version, spec, {ONNX: path}, config)
        except (ArtifactError, OSError) as error:
            raise ExportError(str(error)) from None
    progress(f"wrote {target}")
    written = read_manifest(target) or spec  # with the files' hashes
    return Exported(target, written, (*source.checkpoint.notes, *_figures(figures, tile, request)))


def _write_graph(
    request: Request, generator: Generator, path: Path, progress: Callable[[str], None]
) -> tuple[Figures, Tile | None]:
    """The graph at `path`, compared with torch; with the tile facts of networks that are run in tiles."""
    module = wrap(generator, request.tensors)
    progress(f"tracing to ONNX, opset {OPSET}")
    proto = to_onnx(module, generator, request.tensors, inputs(generator, request.tensors, (0, 1)))
    save(reduced(proto, "fp16") if request.precision == "fp16" else proto, path)
    session = open_session(path)
    figures = measure(session, module, generator, request.tensors, request.precision)
    parity = figures.parity
    progress(
        f"ONNX Runtime agrees with torch: largest difference {parity.max_difference:.3g} "
        f"(tolerance {parity.tolerance:.3g}), batches of {' and '.join(map(str, parity.batch_sizes))}"
    )
    tile = _tile(session, generator, request.tensors)
    if tile:
        progress(
            f"tiles of {tile.size_px} px, overlap {tile.overlap_px} px: "
            f"at most {tile.seam_levels:g} level(s) from the whole picture"
        )
    return figures, tile


def _tile(session: onnxruntime.InferenceSession, generator: Generator, tensors: str) -> Tile | None:
    plan = generator.tile
    if plan is None:
        return None

    def upscale(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if tensors == "uint8":
            return np.asarray(run(session, {"image": image}), dtype=np.uint8)
        return levelled(run(session, {"image": encoded(image, generator)}), generator.output_range)

    measured = seam_levels(upscale, plan, generator.picture_channels, generator.scale)
    return Tile(plan.size_px, plan.overlap_px, plan.multiple_px, plan.receptive_field_px, measured)


def _spec(request: Request, source: Source, labels: tuple[str, ...], figures: Figures, tile: Tile | None) -> Spec:
    generator = source.generator
    ins, outs = tensor_specs(generator, request.tensors)
    return Spec(
        task=generator.task,
        architecture=source.architecture,
        hyperparameters=generator.hyperparameters,
        tensors=request.tensors,
        precision=request.precision,
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


def _figures(figures: Figures, tile: Tile | None, request: Request) -> tuple[str, ...]:
    parity = figures.parity
    notes: tuple[str, ...] = (f"parity: largest difference {parity.max_difference:.3g}, PSNR {figures.psnr_db:.1f} dB",)
    if request.precision == "fp16":
        notes += ("fp16 was checked with ONNX Runtime on the CPU, which may compute parts of it in float32",)
    if tile and tile.overlap_px < tile.receptive_field_px:
        notes += (
            f"a pixel can see {tile.receptive_field_px} px, tiles overlap by {tile.overlap_px}: "
            f"{tile.seam_levels:g} level(s) measured at the seam",
        )
    return notes


def _require_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ExportError(f"{option} {value}: must be one of {', '.join(choices)}")


def _next_version(model: Path) -> int:
    taken = [int(folder.name) for folder in model.glob("*") if folder.is_dir() and folder.name.isdigit()]
    return max(taken, default=0) + 1
