"""What a served generator is, as `manifest.json` says it. Torch-free: both export and server read it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

SCHEMA_VERSION = 2

# Inputs of a generator's graph that a request for tensors may leave out.
OPTIONAL_INPUTS = ("noise", "truncation_psi", "w", "w_given")
# Output (N,) bool of graphs that may compute in less than float32: whether every value of the item's image is finite.
# The server reads it and does not send it.
FINITE = "finite"
# Truncation psi: 1 = none, 0 = mean image, below 0 = its opposite; beyond 2 nothing is recognisable.
TRUNCATION_RANGE = (-2.0, 2.0)

Scalar = bool | int | float | str


class SpecError(ValueError):
    """A manifest that cannot be read; the text names the field, what was found and what was expected."""


class Task(StrEnum):
    """What a generator does; decides which RPC serves it."""

    UNCONDITIONAL = "unconditional"
    CLASS_CONDITIONAL = "class-conditional"
    SUPER_RESOLUTION = "super-resolution"
    IMAGE_TO_IMAGE = "image-to-image"

    @property
    def draws(self) -> bool:
        """Whether images come from a latent (Generate) rather than from an image (Upscale, Translate)."""
        return self in (Task.UNCONDITIONAL, Task.CLASS_CONDITIONAL)


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of the graph, without the batch axis.

    `dtype` is KServe's name (UINT8, INT64, FP32, FP16 ...); a free axis in `shape` is -1, as in Triton.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Tile:
    """How an image larger than one tile is cut for a fully convolutional network.

    `size_px`: side of the square input tile. `overlap_px`: margin of each tile that is computed and discarded.
    `multiple_px`: the network's heights and widths must be multiples of this.
    `receptive_field_px`: radius that one output pixel can see, by arithmetic over the layers.
    `seam_levels`: largest difference in uint8 levels between the tiled and the whole image, measured at export.
    """

    size_px: int
    overlap_px: int
    multiple_px: int
    receptive_field_px: int
    seam_levels: float


@dataclass(frozen=True)
class Parity:
    """What the export measured: ONNX Runtime against torch, fixed seeds.

    Differences are in the units of the graph's output (uint8 levels, or the network's own units).
    """

    tolerance: float
    max_difference: float
    batch_sizes: tuple[int, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Provenance:
    """Where the weights come from. `sha256` is of the checkpoint file as it was read."""

    source: str
    licence: str
    sha256: str
    exported_with: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ShapeRange:
    """The shapes that one input may have, batch axis included: smallest, the one it is tuned for, largest
    (TensorRT's names)."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def contains(self, shape: Sequence[int]) -> bool:
        """Whether `shape` is within the range, axis by axis."""
        return len(shape) == len(self.min) and all(
            low <= size <= high for low, size, high in zip(self.min, shape, self.max, strict=True)
        )


@dataclass(frozen=True)
class TensorRTPlan:
    """The TensorRT engine `model.plan` next to the graph: what it was built from, with and for.

    `variant`: "rtx" (TensorRT for RTX) or "classic". `version`: of the library that built it.
    `compute_capabilities`: GPUs it was built for, as "8.9"; none: every GPU that the variant's portable engines run on.
    `precision`: fp32, fp16 or bf16. `onnx_sha256`: of the graph it was built from. `profiles`: each an input's name to
    the shapes it may have; a batch runs in one of them.
    """

    variant: str
    version: str
    compute_capabilities: tuple[str, ...]
    precision: str
    onnx_sha256: str
    profiles: tuple[Mapping[str, ShapeRange], ...]


@dataclass(frozen=True)
class Spec:
    """A served generator.

    Generators (`task.draws`) have the input `latent` (N, latent_size) float32, then those that apply of: `label` (N,)
    int64; `noise` (N, noise_size) float32, standard normal; `truncation_psi` (N,) float32; `w` (N, *w_shape) float32
    with `w_given` (N,) float32, 1 for items that are generated from `w` instead of the latent. Their output is `image`
    (N, H, W, C) uint8 with `image_shape` = (H, W, C).
    The others have the input `image` (N, H, W, C) uint8 and one output of the same kind, `scale` times larger; in ONNX
    an output cannot have its input's name, so `outputs` has its name. Translators support heights and widths that are
    multiples of `multiple_px` and not below `least_px`.
    With `tensors` = "float32" the graph has the network's own tensors instead (NCHW, the training repository's ranges).
    """

    task: Task
    architecture: str
    hyperparameters: Mapping[str, Scalar]
    tensors: str
    precision: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    image_shape: tuple[int, int, int]  # (H, W, C) generated; (0, 0, C of the input) if the input is an image
    provenance: Provenance
    parity: Parity
    latent_size: int = 0
    labels: tuple[str, ...] = ()
    noise_size: int = 0  # 0: the graph has no noise input
    truncation_default: float | None = None  # None: the graph has no truncation input
    truncation_range: tuple[float, float] = TRUNCATION_RANGE  # min and max of a request
    w_shape: tuple[int, int] | None = None  # (layers, length); None: the graph has no w input
    scale: int = 1
    tile: Tile | None = None
    multiple_px: int = 1
    least_px: int = 1
    plan: TensorRTPlan | None = None  # None: no TensorRT engine
    files: Mapping[str, str] = field(default_factory=dict)  # file name next to the manifest -> sha256

    def to_json(self) -> str:
        """The manifest's text, keys in a fixed order."""
        return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(self)}, indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> "Spec":
        """Reads a manifest.

        Raises:
            SpecError: not JSON, another schema version, or a field missing, unknown or of another type.
        """
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            raise SpecError(f"manifest is not JSON: {error}") from None
        version = found.pop("schema_version", None) if isinstance(found, dict) else type(found).__name__
        if version not in (1, SCHEMA_VERSION):
            raise SpecError(f"manifest has schema_version {version!r}; this version reads 1 and {SCHEMA_VERSION}")
        try:
            return _build(_from_version_1(found) if version == 1 else found)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SpecError(f"manifest: {type(error).__name__}: {error}") from None


def _from_version_1(found: dict[str, Any]) -> dict[str, Any]:
    """The same manifest with the keys of version 2, which differ for TensorRT engines."""
    plan = found.get("plan")
    if plan is None:
        return found
    profiles = [
        {name: {"min": ends["least"], "opt": ends["best"], "max": ends["most"]} for name, ends in profile.items()}
        for profile in plan["profiles"]
    ]
    renamed = {("variant" if key == "flavour" else key): value for key, value in plan.items()}
    return {**found, "plan": {**renamed, "profiles": profiles}}


def _build(found: dict[str, Any]) -> Spec:
    def tensors(entries: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(e["name"], e["dtype"], tuple(int(d) for d in e["shape"])) for e in entries)

    height, width, channels = (int(axis) for axis in found["image_shape"])
    parity = found["parity"]
    rebuilt = {
        "task": Task(found["task"]),
        "inputs": tensors(found["inputs"]),
        "outputs": tensors(found["outputs"]),
        "image_shape": (height, width, channels),
        "labels": tuple(str(label) for label in found["labels"]),
        "tile": None if found["tile"] is None else Tile(**found["tile"]),
        "truncation_range": _bounds(found.get("truncation_range", TRUNCATION_RANGE)),
        "w_shape": _pair(found.get("w_shape")),
        "plan": None if found.get("plan") is None else _plan(found["plan"]),
        "parity": Parity(**{**parity, "batch_sizes": tuple(parity["batch_sizes"]), "seeds": tuple(parity["seeds"])}),
        "provenance": Provenance(**found["provenance"]),
    }
    return Spec(**{**found, **rebuilt})


def _plan(found: dict[str, Any]) -> TensorRTPlan:
    def shapes(entry: dict[str, Any]) -> ShapeRange:
        return ShapeRange(**{end: tuple(int(size) for size in sizes) for end, sizes in entry.items()})

    rebuilt = {
        "compute_capabilities": tuple(str(capability) for capability in found["compute_capabilities"]),
        "profiles": tuple({name: shapes(entry) for name, entry in profile.items()} for profile in found["profiles"]),
    }
    return TensorRTPlan(**{**found, **rebuilt})


def _bounds(found: Sequence[Any]) -> tuple[float, float]:
    low, high = (float(bound) for bound in found)
    return low, high


def _pair(found: list[Any] | None) -> tuple[int, int] | None:
    if found is None:
        return None
    layers, length = (int(size) for size in found)
    return layers, length
