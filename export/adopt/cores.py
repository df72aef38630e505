"""From a graph that was read to one that can be wrapped: run on fixed inputs, with batches, sizes and ranges known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from artifact.spec import Task
from export.adopt.knobs import own_knobs, psi_forms, psi_range
from export.adopt.plain import (
    Plain,
    RunError,
    own_image,
    own_label,
    own_latent,
    require_image,
    to_pixels,
)
from export.adopt.probe import Sizes, find_sizes, free_batch, open_plain, scale_of
from export.adopt.roles import (
    CHANNELS,
    LAYOUTS,
    LEVELS,
    Adoption,
    Bounds,
    Range,
    Roles,
    Tensor,
    layout_of,
)
from export.adopt.told import USUAL, told_range
from export.adopt.wrap import TO_NHWC, Core, prefixed, with_free_axes
from export.errors import ExportError
from export.graph.parity import LIMITS
from export.graph.samples import synthetic_image

SEEDS = (0, 1, 2)
# Share of values beyond black and white that a graph may have.
MAX_OUTSIDE = 0.25
# Of an upscaled image, averaged over what each px became, from that px.
MAX_FROM_INPUT_LEVELS = 32.0
FIXED_BATCH = "serves a fixed batch of 1, since its batch axis is not free: "

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Found:
    """A graph ready to be wrapped.

    `shape`: (H, W, C) of what is drawn, (0, 0, C) of the image that goes in. `items`: inputs of single items in the
    graph's own form, `expected` what it gives for them as pixels. `sizes` is None for graphs that draw.
    """

    core: Core
    precision: str
    is_batched: bool
    shape: tuple[int, int, int]
    items: Sequence[Arrays]
    expected: Sequence[NDArray[np.uint8]]
    notes: tuple[str, ...]
    output_channels: int
    sizes: Sizes | None = None
    psi_range: tuple[float, float] | None = None


def find_core(proto: onnx.ModelProto, roles: Roles, said: Adoption) -> Found:
    """Probes a graph.

    Raises:
        ExportError: it does not run, or what is missing must be said.
    """
    told = told_range(proto, roles.output)
    proto, roles = prefixed(proto, roles)
    return _drawing(proto, roles, said, told) if roles.latent else _transforming(proto, roles, said, told)


def _drawing(proto: onnx.ModelProto, roles: Roles, said: Adoption, told: Range | None) -> Found:
    assert roles.latent is not None
    items: list[Arrays] = []
    for seed in SEEDS:
        item: Arrays = {roles.latent.name: own_latent(roles.latent, (seed,))}
        if roles.label is not None:
            item[roles.label.name] = own_label(roles.label, (seed % roles.classes,), roles.classes)
        items.append({**item, **own_knobs(roles, len(items), seed)})
    plain = open_plain(with_free_axes(proto, (0,), False), "the graph")
    singles = _singles(plain, items, roles)
    layout = layout_of(singles[0].shape, said.layout, "the image")
    bounds = said.output_range or told
    if bounds is None:
        raise ExportError(f"say what black and white are: --range LOW,HIGH; {_values(singles)}")
    _require_range(singles, bounds, said.output_range is not None)
    core = Core(proto, roles, layout, bounds, bgr=said.bgr)
    notes = [] if said.output_range else [_assumed("range", bounds)]
    found = _batched(core, items, singles, notes)
    height, width, channels = found.expected[0].shape[1:]
    psi = psi_range(plain, items[0], singles[0], roles) if roles.truncation else None
    return replace(found, shape=(height, width, channels), output_channels=channels, psi_range=psi)


def _transforming(proto: onnx.ModelProto, roles: Roles, said: Adoption, told: Range | None) -> Found:
    image = roles.image
    assert image is not None
    layout = layout_of(image.shape, said.layout, "the input image")
    channels = image.shape[layout.index("C")]
    if channels < 0:
        raise ExportError(f"the graph takes {image}; its number of channels must be fixed")
    if said.bgr and channels != 3:
        raise ExportError(f"--channel-order BGR: is for images of 3 channels, the graph takes {channels}")
    # Of an upscaler nearly all are trained on 0..1; what a translator takes nobody can tell.
    bounds = said.output_range or told or (None if roles.task is Task.IMAGE_TO_IMAGE else (0.0, 1.0))
    input_range = _input_bounds(image, said, bounds, channels)
    if bounds is None or input_range is None:
        raise ExportError(
            "say what black and white are: --range LOW,HIGH, and --input-range if it differs for the input"
        )
    core = Core(proto, roles, layout, bounds, layout, input_range, said.bgr)
    core, sizes = _sized(core, channels)
    task = roles.task or (Task.SUPER_RESOLUTION if sizes.scale > 1 else None)
    if task is None:
        raise ExportError(
            "the graph gives an image as large as the one it takes: say --task image-to-image or super-resolution"
        )
    if task is Task.IMAGE_TO_IMAGE and sizes.scale != 1:
        raise ExportError(f"--task {task}: the graph gives images {sizes.scale} times as large")
    core = replace(core, roles=replace(roles, task=task))
    if task is Task.SUPER_RESOLUTION and channels == 4:
        raise ExportError(
            "the graph takes 4 channels; upscalers of 1 and 3 are served, with alpha upscaled beside them"
        )
    if not (said.output_range or said.input_range or said.mean or said.std) and task is Task.SUPER_RESOLUTION:
        is_levels = image.element_type == TensorProto.UINT8
        taken, bounds = _likely_ranges(core, sizes, channels, LEVELS if is_levels else None, told)
        core = replace(core, output_range=bounds, input_range=_of_all_channels(taken))
    notes = [] if said.output_range else [_assumed("range", bounds)]
    notes += _size_notes(image, sizes, layout)
    height, width = sizes.only_px or (sizes.near(40), sizes.near(56))
    pictures = [synthetic_image(height, width, channels, seed)[None] for seed in SEEDS]
    items = [{image_name(core): own_image(core, picture)} for picture in pictures]
    singles = _singles(open_plain(core.proto, "the graph"), items, core.roles)
    if singles[0].shape[core.layout.index("C")] not in CHANNELS:
        shape = "x".join(map(str, singles[0].shape))
        raise ExportError(f"the graph gives {shape}; an image has {', '.join(map(str, CHANNELS))} channels")
    _require_range(singles, bounds, said.output_range is not None)
    found = _batched(core, items, singles, notes)
    only = sizes.only_px or (0, 0)
    return replace(found, shape=(*only, channels), sizes=sizes, output_channels=found.expected[0].shape[3])


def _size_notes(image: Tensor, sizes: Sizes, layout: str) -> list[str]:
    height, width = (image.shape[layout.index(axis)] for axis in "HW")
    if sizes.only_px:
        return [f"takes images of {width} x {height} px only; export it with free height and width for others"]
    if height > 0 or width > 0:
        declared = " x ".join("any" if side < 0 else str(side) for side in (width, height))
        return [f"exported for images of {declared} px; it runs at other sizes too, which nothing was compared with"]
    return []


def image_name(core: Core) -> str:
    """The graph's own name of its image input."""
    assert core.roles.image is not None
    return core.roles.image.name


def image_runner(core: Core, plain: Plain) -> Callable[[NDArray[np.uint8]], NDArray[np.generic]]:
    """Runs the graph on images (N, H, W, C) uint8 and gives its values in the same order of axes."""

    def run(images: NDArray[np.uint8]) -> NDArray[np.generic]:
        values = plain.run({image_name(core): own_image(core, images)}, core.roles.output.name)
        if values.ndim != 4:
            raise RunError(f"it gives {values.ndim} axes")
        if len(values) != len(images):  # a size of the image went into the batch
            raise RunError(f"it gives {len(values)} images for {len(images)}")
        laid = values.transpose(TO_NHWC) if core.layout == "NCHW" else values
        return laid[..., ::-1] if core.bgr else laid

    return run


def _sized(core: Core, channels: int) -> tuple[Core, Sizes]:
    """The graph with free heights and widths, its output's layout, and the sizes that it runs at."""
    assert core.roles.image is not None
    height, width = (core.roles.image.shape[core.input_layout.index(axis)] for axis in "HW")
    axes = [0, *(core.input_layout.index(axis) for axis in "HW")]
    failure = ""
    for reshapes in (False, True):
        found = replace(core, proto=with_free_axes(core.proto, axes, reshapes))
        try:
            plain = Plain(found.proto)
        except RunError as error:
            failure = failure or str(error)
            continue
        for layout in LAYOUTS:
            laid = replace(found, layout=layout)
            sizes = find_sizes(image_runner(laid, plain), channels)
            if sizes is not None:
                return laid, sizes
    if height > 0 and width > 0:
        return _at_one_size(core, channels, (height, width))
    raise ExportError(f"the graph runs at no size from 40 to 768 px, or not by a whole number of times larger{failure}")


def _at_one_size(core: Core, channels: int, size: tuple[int, int]) -> tuple[Core, Sizes]:
    """The graph as it is, at the size that it declares."""
    plain = open_plain(with_free_axes(core.proto, (), False), "the graph")
    for layout in LAYOUTS:
        laid = replace(core, layout=layout)
        if scale := scale_of(image_runner(laid, plain), *size, channels):
            return laid, Sizes(1, 1, scale, size)
    height, width = size
    raise ExportError(
        f"the graph takes images of {height}x{width} px (H x W), and gives none that is a whole number of times larger"
    )


def _input_bounds(image: Tensor, said: Adoption, bounds: Range | None, channels: int) -> Bounds | None:
    """The values of black and white in the input image."""
    if said.mean or said.std:
        mean, std = said.mean or (0.0,), said.std or (1.0,)
        for option, values in (("--mean", mean), ("--std", std)):
            if len(values) not in (1, channels):
                raise ExportError(f"{option}: {len(values)} numbers, the image has {channels} channel(s)")
        if said.input_range is not None:
            raise ExportError("--mean and --std stand in place of --input-range; give one of them")
        count = max(len(mean), len(std))
        pairs = [(mean[at % len(mean)], std[at % len(std)]) for at in range(count)]
        return tuple(-m / s for m, s in pairs), tuple((1 - m) / s for m, s in pairs)
    if image.element_type == TensorProto.UINT8:
        return _of_all_channels(LEVELS)
    found = said.input_range or bounds
    return found and _of_all_channels(found)


def _of_all_channels(bounds: Range) -> Bounds:
    return (bounds[0],), (bounds[1],)


def _likely_ranges(
    core: Core, sizes: Sizes, channels: int, taken: Range | None, given: Range | None
) -> tuple[Range, Range]:
    """The ranges of input and output with which an upscaler gives its input back, enlarged: nearly all are trained on
    0..1, some on 0..255. `taken`, `given`: those of them that are known."""
    plain = open_plain(core.proto, "the graph")
    height, width = sizes.only_px or (sizes.near(64), sizes.near(64))
    image = synthetic_image(height, width, channels)[None]
    pairs = [
        (one, given or one) for one in (given or (0.0, 1.0), (0.0, 1.0), LEVELS, *([] if given is None else USUAL))
    ]
    for inside, outside in [(taken, given or one) for one in ((0.0, 1.0), LEVELS)] if taken else pairs:
        tried = replace(core, output_range=outside, input_range=_of_all_channels(inside))
        try:
            found = image_runner(tried, plain)(image).astype(np.float64)[..., :channels]
        except RunError:
            continue
        means = found.reshape(height, sizes.scale, width, sizes.scale, -1).mean((1, 3))
        if means.shape[2] != channels:  # grey from colours
            continue
        levels = (means - outside[0]) * (255.0 / (outside[1] - outside[0]))
        if np.abs(levels - image[0]).mean() < MAX_FROM_INPUT_LEVELS:
            return inside, outside
    return taken or given or (0.0, 1.0), given or (0.0, 1.0)


def _singles(plain: Plain, items: Sequence[Arrays], roles: Roles) -> list[NDArray[np.generic]]:
    """What the graph gives for each item alone; the same twice."""
    try:
        found = [require_image(plain.run(item, roles.output.name), roles.output, 1) for item in items]
        again = plain.run(items[0], roles.output.name)
    except RunError as error:
        raise ExportError(f"the graph does not run with one item: {error}") from None
    if not np.allclose(found[0].astype(np.float64), again.astype(np.float64), atol=1e-3 * max(1e-9, np.ptp(again))):
        raise ExportError("the graph gives another image each time for the same input; nothing was written")
    return found


def _batched(core: Core, items: Sequence[Arrays], singles: list[NDArray[np.generic]], notes: list[str]) -> Found:
    channels = singles[0].shape[core.layout.index("C")]
    if core.bgr and channels != 3:
        raise ExportError(f"--channel-order BGR: is for images of 3 channels, the graph gives {channels}")
    half = any(tensor.data_type == TensorProto.FLOAT16 for tensor in core.proto.graph.initializer)
    precision = "fp16" if half else "fp32"

    def close(one: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
        found = np.abs(to_pixels(core, one).astype(int) - to_pixels(core, other))
        return bool(found.max() <= LIMITS[precision].levels)

    free, reason = None, ""
    for form, own in psi_forms(core, items):
        free, why = free_batch(form.proto, core.roles.output, own, singles, close)
        if free is not None:
            core, items = replace(form, proto=free), own
            break
        reason = reason or why
    if free is None:
        notes.append(FIXED_BATCH + reason)
    expected = [to_pixels(core, single) for single in singles]
    return Found(core, precision, free is not None, (0, 0, 0), items, expected, tuple(notes), 0)


def _assumed(what: str, bounds: Range) -> str:
    low, high = bounds
    return f"assumed: {what} {low:g},{high:g}; --{what} LOW,HIGH changes it"


def _require_range(singles: Sequence[NDArray[np.generic]], bounds: Range, said: bool) -> None:
    """Checks that values are what black and white are said to be: a little beyond is usual, a quarter is not.

    Raises:
        ExportError: they contradict each other.
    """
    values = np.concatenate([single.astype(np.float64).ravel() for single in singles])
    low, high = bounds
    outside = float(np.mean((values < low - 0.01 * (high - low)) | (values > high + 0.01 * (high - low))))
    least, largest = float(values.min()), float(values.max())
    unsigned = low < 0 <= least and 0.2 < largest <= 1.05
    dark = high > 100 and least >= -1.05 and largest <= 1.05
    if outside <= MAX_OUTSIDE and not unsigned and not dark:
        return
    what = f"{outside:.0%} of its values lie outside of that" if outside > MAX_OUTSIDE else "that would be nearly flat"
    fits = [one for one in USUAL if one[0] - 0.05 <= least and largest <= one[1] * 1.05]
    hint = f"; --range {fits[0][0]:g},{fits[0][1]:g} fits" if fits else ""
    begins = "" if said else "say what black and white are: "
    raise ExportError(
        f"{begins}--range {low:g},{high:g}{'' if said else ', as assumed'}: {_values(singles)}, and {what}{hint}"
    )


def _values(singles: Sequence[NDArray[np.generic]]) -> str:
    low, high = min(float(one.min()) for one in singles), max(float(one.max()) for one in singles)
    return f"on fixed seeds the graph's values are from {low:.3g} to {high:.3g}"
