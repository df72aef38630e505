"""An ONNX graph of any origin -> model repository: what `ganserve export` does with a file that is called .onnx."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from artifact.repository import ONNX, read_manifest, sha256_of
from artifact.spec import TRUNCATION_RANGE, Parity, Provenance, Spec, Task, TensorSpec, Tile
from export.adopt.amend import fix_inputs
from export.adopt.cores import SEEDS, Found, find_core, image_runner
from export.adopt.float_variant import float_graph
from export.adopt.knobs import knob_specs, served_knobs
from export.adopt.mapping import SAMPLES, MappingGraph, join
from export.adopt.plain import Plain, RunError, latent_size, latents
from export.adopt.probe import REACH_PX, reach_px
from export.adopt.read import opset_of, read_graph
from export.adopt.reference import require_reference
from export.adopt.roles import Adoption, find_roles
from export.adopt.wrap import noise_sizes, wrapped
from export.adopt.write import Beside, write
from export.config_pbtxt import config_pbtxt, read_config, require_compatible
from export.critic.find import AUTO, NONE, check_option, find_in_file
from export.directions.centers import check_centers
from export.directions.make import check_wanted, parse_wanted
from export.errors import ExportError
from export.graph.finite_flag import add_finite_flag
from export.graph.parity import LIMITS
from export.graph.samples import synthetic_image
from export.graph.seams import seam_levels
from export.graph.trace import without_debug_info
from export.judge.find import check_judge
from export.pipeline import Exported, Progress, Request, read_labels, silent, target_version
from models.architecture import Tiling
from models.critics.critic import Judged

MAX_BATCH_SIZE = {Task.SUPER_RESOLUTION: 2, Task.IMAGE_TO_IMAGE: 4}
MAX_DRAWN = 16
TILE_PX = 224
# Tiles of a graph whose seams are larger are not joined: it looks at the whole image.
MAX_SEAM_LEVELS = 8.0
PARITY = "parity of the wrapped graph with the graph as it came and numpy"
NOT_FOR_ONNX = {
    "arch": "--arch", "key": "--key", "overrides": "--set", "tensorrt": "--tensorrt", "profiles": "--profile",
    "compute_capabilities": "--compute-capability",
}  # fmt: skip


def adopt(request: Request, said: Adoption, progress: Progress = silent) -> Exported:
    """Writes one version with the graph in `request.checkpoint`, pixels around it, compared with the graph as it came.

    Raises:
        ExportError: something is not as it should be; nothing was written.
    """
    path = Path(request.checkpoint)
    _require_options(request, said)
    version = target_version(request)
    existing = read_config(request.repository / request.name)
    names = read_labels(request)
    method, direction_files = parse_wanted(request.directions, request.direction_files)
    check_centers(request.truncation_centers, has_w=said.mapping is not None)
    check_option(request.discriminator)
    check_judge(request.judge)
    progress(f"reading {path.name}")
    fixed = said.fixed
    proto, said, mapping = _read(path, said, progress)
    roles = find_roles(proto, said)
    labels = _labels(request, names, roles.classes)
    progress("running the graph on fixed inputs")
    found = find_core(proto, roles, said)
    agreed = require_reference(said.reference, found) if said.reference else ()
    task = found.core.roles.task
    assert task is not None
    max_batch_size = MAX_BATCH_SIZE.get(task, MAX_DRAWN) if found.is_batched else 1
    require_compatible(existing, (ONNX,), max_batch_size)
    inputs, output = _specs(found, task)
    latent = found.core.roles.latent
    shape = mapping.shape if mapping else (1, latent_size(latent)) if latent else None
    wanted = check_wanted(method, direction_files, shape, has_w=mapping is not None)
    height, width, channels = found.shape
    criticised = Judged((channels, height, width), len(labels)) if latent else None
    critic = find_in_file(request.discriminator, path, criticised, progress)
    try:
        served = wrapped(found.core, inputs, output, None if found.is_batched else 1)
        if found.precision == "fp16":
            served = add_finite_flag(served)
    except Exception as error:  # the checker raises several kinds
        raise ExportError(f"{path.name} cannot be wrapped: {str(error).splitlines()[0][:300]}") from None
    parity = _parity(found, served, output)
    progress(f"wrapped graph agrees with the graph as it came: largest difference {parity.max_difference:g} level(s)")
    try:
        is_tiled = task is Task.SUPER_RESOLUTION and found.sizes and not found.sizes.only_px
        tile, tile_notes = _tile(found, progress) if is_tiled else (None, ())
    except RunError as error:
        raise ExportError(f"{path.name} runs on small images, and not on larger ones: {error}") from None
    mapped = (f"w is made by {said.mapping.name}, sha256 {sha256_of(said.mapping)}",) if said.mapping else ()
    notes = (*mapped, *found.notes, *tile_notes, *agreed)
    spec = _spec(path, found, labels, (inputs, output), parity, tile, notes, fixed)
    config = config_pbtxt(request.name, inputs, (output,), max_batch_size, existing)
    floats = float_graph(found, served, output.name, SEEDS)
    beside = Beside(wanted, request.truncation_centers, critic, found.core.output_range, floats, mapping)
    target, more = write(request, version, spec, served, config, beside, progress)
    progress(f"wrote {target}")
    said_parity = f"{PARITY}: largest difference {parity.max_difference:g}, batches of {parity.batch_sizes[-1]}"
    return Exported(target, read_manifest(target) or spec, (*notes, *more, said_parity))


def _read(path: Path, said: Adoption, progress: Progress) -> tuple[onnx.ModelProto, Adoption, MappingGraph | None]:
    """The graph with what is fixed in it, joined with its mapping graph if it has one; what is said of that.

    Raises:
        ExportError: it is no graph that is adopted, or the two do not fit.
    """
    proto = without_debug_info(read_graph(path))
    if said.mapping is None:
        fix_inputs(proto, said.fixed)
        return proto, said, None
    if said.reference is not None:
        raise ExportError(f"--reference {said.reference.name}: is for one graph, not for one with --mapping")
    progress(f"reading {said.mapping.name}, and w of {SAMPLES} latents")
    return join(proto, said)


def _require_options(request: Request, said: Adoption) -> None:
    blank = Request(request.checkpoint, request.repository, request.name)
    for field, option in NOT_FOR_ONNX.items():
        if getattr(request, field) != getattr(blank, field):
            raise ExportError(f"{option}: does not apply to an ONNX graph, which is served as it is")
    if said.bgr and request.discriminator not in (AUTO, NONE):
        raise ExportError(
            f"--discriminator {request.discriminator}: is shown images as they are served, red first, and was "
            "trained on blue first with --channel-order BGR; leave it out"
        )
    if request.directions == "sefa":
        raise ExportError("--directions sefa: needs to know which weights are the styles'; of an ONNX graph say pca")
    if request.precision != "fp32":
        raise ExportError(f"--precision {request.precision}: an ONNX graph is served in the precision that it has")
    if request.tensors != "uint8":
        raise ExportError(
            f"--tensors {request.tensors}: a graph with its own tensors needs no export: put it at "
            f"{request.repository}/{request.name}/1/{ONNX}"
        )


def _labels(request: Request, names: tuple[str, ...] | None, classes: int) -> tuple[str, ...]:
    if names is None:
        return tuple(map(str, range(classes)))
    if len(names) != classes or len(set(names)) != classes:
        raise ExportError(
            f"--labels {request.labels}: {len(set(names))} different names, the graph has {classes} classes"
        )
    return names


def _specs(found: Found, task: Task) -> tuple[tuple[TensorSpec, ...], TensorSpec]:
    """Inputs and output as they are served."""
    roles = found.core.roles
    if roles.latent is not None:
        label = (TensorSpec("label", "INT64", ()),) if roles.label else ()
        latent = TensorSpec("latent", "FP32", (latent_size(roles.latent),))
        return (latent, *label, *knob_specs(roles)), TensorSpec("image", "UINT8", found.shape)
    assert found.sizes is not None
    name = "upscaled" if task is Task.SUPER_RESOLUTION else "translated"
    height, width = found.sizes.only_px or (-1, -1)
    image = TensorSpec("image", "UINT8", (height, width, found.shape[2]))
    scaled = (side if side < 0 else side * found.sizes.scale for side in (height, width))
    return (image,), TensorSpec(name, "UINT8", (*scaled, found.output_channels))


def _served_inputs(found: Found, seeds: Sequence[int]) -> Mapping[str, NDArray[np.generic]]:
    """The same items as `found.items`, as clients send them."""
    roles = found.core.roles
    if roles.latent is not None:
        arrays: dict[str, NDArray[np.generic]] = {"latent": latents(seeds, latent_size(roles.latent))}
        if roles.label is not None:
            arrays["label"] = np.array([seed % roles.classes for seed in seeds], dtype=np.int64)
        return {**arrays, **served_knobs(roles, [found.items[SEEDS.index(seed)] for seed in seeds])}
    assert found.sizes is not None
    height, width = (size // found.sizes.scale for size in found.expected[0].shape[1:3])
    return {"image": np.stack([synthetic_image(height, width, found.shape[2], seed) for seed in seeds])}


def _parity(found: Found, served: onnx.ModelProto, output: TensorSpec) -> Parity:
    """The wrapped graph, as the server opens it, against the plain one."""
    tolerance = LIMITS[found.precision].levels
    batches = [[seed] for seed in SEEDS] + ([list(SEEDS)] if found.is_batched else [])
    largest = 0
    try:
        session = Plain(served, optimised=True)
        for batch in batches:
            pixels = session.run(dict(_served_inputs(found, batch)), output.name)
            expected = np.concatenate([found.expected[SEEDS.index(seed)] for seed in batch])
            if pixels.shape != expected.shape or pixels.dtype != np.uint8:
                raise ExportError(f"the wrapped graph gives {pixels.dtype} {pixels.shape}, expected {expected.shape}")
            largest = max(largest, int(np.abs(pixels.astype(int) - expected).max()))
    except RunError as error:
        raise ExportError(f"the wrapped graph does not run: {error}") from None
    if largest > tolerance:
        raise ExportError(
            f"the wrapped graph and the graph as it came differ by {largest} levels, tolerance {tolerance:g}; "
            "nothing was written"
        )
    return Parity(tolerance, float(largest), tuple(sorted({len(batch) for batch in batches})), SEEDS)


def _tile(found: Found, progress: Progress) -> tuple[Tile | None, tuple[str, ...]]:
    """How large images are cut, by how far a pixel was seen to reach; None if the graph must see an image whole."""
    sizes, core, channels = found.sizes, found.core, found.shape[2]
    assert sizes is not None
    plain = Plain(core.proto, optimised=True)
    run = image_runner(core, plain)
    progress("measuring the receptive field")
    reach = reach_px(run, sizes, channels)
    step = sizes.multiple_px
    overlap = min(reach, REACH_PX)
    plan = Tiling(max(1, TILE_PX // step) * step, overlap, step, reach)

    def upscale(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        low, high = core.output_range
        levels = np.rint((run(images).astype(np.float64) - low) * (255.0 / (high - low)))
        return np.asarray(np.clip(levels, 0, 255), dtype=np.uint8)

    progress(f"comparing tiles, overlap {overlap} px, with images upscaled whole")
    worst = max(seam_levels(upscale, plan, channels, sizes.scale).values())
    far = f"{reach} px" if reach <= REACH_PX else f"more than {REACH_PX} px"
    if worst > MAX_SEAM_LEVELS:
        return None, (
            f"not tileable: the receptive field is {far}, and tiles that overlap by {overlap} px differ by {worst:g} "
            "levels from the whole image; images are upscaled whole",
        )
    return Tile(plan.size_px, overlap, step, reach, worst), (
        f"receptive field {far}, measured; tiles of {plan.size_px} px overlap by {overlap} px: "
        f"seam of {worst:g} level(s)",
    )


def _spec(
    path: Path,
    found: Found,
    labels: tuple[str, ...],
    tensors: tuple[tuple[TensorSpec, ...], TensorSpec],
    parity: Parity,
    tile: Tile | None,
    notes: tuple[str, ...],
    fixed: Mapping[str, float],
) -> Spec:
    core, sizes = found.core, found.sizes
    assert core.roles.task is not None
    low, high = core.output_range
    hyperparameters: dict[str, str | int] = {"layout": core.layout, "range": f"{low:g},{high:g}"}
    if sizes is not None:
        ends = (" ".join(f"{one:g}" for one in bound) for bound in core.input_range)
        hyperparameters |= {"input_layout": core.input_layout, "input_range": ",".join(ends)}
    tools = {tool: installed(tool) for tool in ("onnx", "onnxruntime")}
    if fixed:
        hyperparameters["fixed"] = ", ".join(f"{name}={value:g}" for name, value in fixed.items())
    return Spec(
        task=core.roles.task,
        architecture="onnx",
        hyperparameters=hyperparameters,
        tensors="uint8",
        precision=found.precision,
        opset=opset_of(core.proto),
        inputs=tensors[0],
        outputs=(tensors[1],),
        image_shape=found.shape,
        provenance=Provenance(path.name, "not stated in the file", sha256_of(path), tools, notes),
        parity=parity,
        latent_size=latent_size(core.roles.latent) if core.roles.latent else 0,
        labels=labels,
        noise_size=sum(noise_sizes(core.roles)),
        truncation_default=1.0 if core.roles.truncation else None,
        truncation_range=found.psi_range or TRUNCATION_RANGE,
        w_shape=(core.roles.w.shape[1], core.roles.w.shape[2]) if core.roles.w else None,
        scale=sizes.scale if sizes else 1,
        tile=tile,
        multiple_px=sizes.multiple_px if sizes else 1,
        least_px=sizes.least_px if sizes else 1,
    )
