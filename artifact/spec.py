"""What a served generator is, as `manifest.json` says it. Torch-free: both export and server read it."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from artifact.golden import Golden
from artifact.json_types import JsonTypeError, build, parse

SCHEMA_VERSION = 2

# Inputs of a generator's graph that a request for tensors may leave out.
OPTIONAL_INPUTS = ("noise", "truncation_psi", "w", "w_given", "transform")
# Input of an image-to-image graph: (N, K) float32, 1 for each of the K labels that the image shall have.
ATTRIBUTES = "attributes"
# Inputs of an image-to-image graph: (N, H, W, C) uint8, an image whose style is wanted, and (N,) float32, 1 for items
# whose style is the reference's, 0 for those whose style is the latent's.
REFERENCE, REFERENCE_GIVEN = "reference", "reference_given"
# Output (N,) bool of graphs that may compute in less than float32: whether every value of the item's image is finite.
# The server reads it and does not send it.
FINITE = "finite"
# Truncation psi: 1 = none, 0 = mean image, below 0 = its opposite; beyond 2 nothing is recognisable.
TRUNCATION_RANGE = (-2.0, 2.0)

# Of one item's latent, noise or w: 64 MiB.
MAX_VALUES = 1 << 24
# Sizes beyond this fit into no message.
MAX_SIZE = (1 << 31) - 1

Scalar = bool | int | float | str


class SpecError(ValueError):
    """A manifest that cannot be read; the text names the field, what was found and what was expected."""


class Task(StrEnum):
    """What a generator does; decides which RPC serves it."""

    UNCONDITIONAL = "unconditional"
    CLASS_CONDITIONAL = "class-conditional"
    SUPER_RESOLUTION = "super-resolution"
    IMAGE_TO_IMAGE = "image-to-image"
    ENCODER = "encoder"

    @property
    def draws(self) -> bool:
        """Whether images come from a latent (Generate) rather than something from an image (Upscale, Translate)."""
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

    `size_px`: largest side of an input tile. `overlap_px`: smallest margin of a tile that is computed and discarded.
    `multiple_px`: the network's heights and widths must be multiples of this.
    `receptive_field_px`: radius that one output pixel can see, by arithmetic over the layers.
    `seam_levels`: largest difference in uint8 levels between tiled and whole images, as export measured it over cuts
    through images of different kinds.
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
    """Where the weights come from. `sha256` is of the checkpoint file as it was read; `notes` say which network of it
    was taken, what was done to its weights, and what was assumed of it."""

    source: str
    licence: str
    sha256: str
    exported_with: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


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
class CriticSpec:
    """The generator's discriminator, `critic.onnx`: `image` (N, H, W, C) uint8 as the generator gives it, and with
    `takes_label` `label` (N,) int64 -> `score` (N,) float32, higher for images more like the training data.

    `reference_seeds`: of the images that every image is compared with, where the network looks at a batch's spread.
    `quantiles`: of the scores of the generator's own images, rising and evenly spaced from the lowest to the highest;
    one row, or one for each label. `images`: how many each row is of. `parity` is in units of the score.
    """

    architecture: str
    hyperparameters: Mapping[str, Scalar]
    takes_label: bool
    provenance: Provenance
    parity: Parity
    images: int
    quantiles: tuple[tuple[float, ...], ...]
    reference_seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class JudgeSpec:
    """A network that says what the generator's images show, `judge.onnx`: `image` (N, H, W, C) uint8 as the generator
    gives it -> `features` (N, features) float32 and `scores` (N, number of classes) float32, of which the highest names
    the class.

    `grouped`: the classes are groups, which the features of the model's own images were found to fall into.
    `provenance`: of the file that the graph was made from.
    """

    classes: tuple[str, ...]
    features: int
    grouped: bool
    provenance: Provenance


@dataclass(frozen=True)
class Spec:
    """A served generator.

    Generators (`task.draws`) have the input `latent` (N, latent_size) float32, then those that apply of: `label` (N,)
    int64; `noise` (N, noise_size) float32, standard normal; `truncation_psi` (N,) float32; `w` (N, *w_shape) float32
    with `w_given` (N,) float32, 1 for items that are generated from `w` instead of the latent; with `takes_transform`,
    `transform` (N, 3) float32: how far what is drawn is moved to the right and down, in widths of the image, and turned
    counter-clockwise, in degrees. Their output is `image` (N, H, W, C) uint8 with `image_shape` = (H, W, C).
    The others have the input `image` (N, H, W, C) uint8 and one output of the same kind, `scale` times larger; in ONNX
    an output cannot have its input's name, so `outputs` has its name. Translators support heights and widths that are
    multiples of `multiple_px` and not below `least_px`, or only those of `image_shape` where they are not 0. With
    `labels` they have the input `attributes` (N, number of labels) float32 after the image, 1 for each label that the
    image shall have; or `label` (N,) int64, the domain that it shall be in, followed by `latent` (N, latent_size)
    float32, `reference` (N, H, W, C) uint8 of one size, or both and `reference_given` (N,) float32: a style in it.
    A second graph for images of 16 bits (`float_parity`) takes and gives float32 in [0, 1] instead of uint8.
    Encoders have the input `image` (N, C, H, W) float32 in [-1, 1] and the output `w` (N, *w_shape) float32, as a
    generator takes it; their `tensors` are "float32".
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
    image_shape: tuple[int, int, int]  # (H, W, C) generated; of the input, if it is an image; 0, 0: any size
    provenance: Provenance
    parity: Parity
    latent_size: int = 0
    labels: tuple[str, ...] = ()
    noise_size: int = 0  # 0: the graph has no noise input
    truncation_default: float | None = None  # None: the graph has no truncation input
    truncation_range: tuple[float, float] = TRUNCATION_RANGE  # min and max of a request
    w_shape: tuple[int, int] | None = None  # (layers, length); None: the graph has no w input
    takes_transform: bool = False
    truncation_cutoff: int = 0  # of w's layers, how many truncation_psi acts on; 0: all
    scale: int = 1
    tile: Tile | None = None
    multiple_px: int = 1
    least_px: int = 1
    input_classes: int = 0  # of a label map: numbers 0.. in its first channel; 0: the image is none
    input_unknown: int | None = None  # a number beside them that means none of them; None: there is no such number
    plan: TensorRTPlan | None = None  # None: no TensorRT engine
    float_parity: Parity | None = None  # None: no graph for images of 16 bits
    critic: CriticSpec | None = None  # None: no discriminator
    judge: JudgeSpec | None = None  # None: no network says what its images show
    golden: Golden | None = None  # what its images are like; None: not measured
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
            found = parse(text)
            version = found.pop("schema_version", None) if isinstance(found, dict) else type(found).__name__
            if version not in (1, SCHEMA_VERSION):
                raise SpecError(f"manifest has schema_version {version!r}; this version reads 1 and {SCHEMA_VERSION}")
            for name in ("labels", "tile"):  # have a default only in code: a manifest says that there are none
                if name not in found:
                    raise SpecError(f"manifest: {name} is missing")
            spec: Spec = build(Spec, _from_version_1(found) if version == 1 else found)
        except JsonTypeError as error:
            raise SpecError(f"manifest: {error}") from None
        _check_sizes(spec)
        return spec


def _from_version_1(found: dict[str, Any]) -> dict[str, Any]:
    """The same manifest with the keys of version 2, which differ for TensorRT engines."""
    plan = found.get("plan")
    try:
        profiles = [
            {name: {"min": ends["least"], "opt": ends["best"], "max": ends["most"]} for name, ends in profile.items()}
            for profile in plan["profiles"]  # type: ignore[index]
        ]
        renamed = {("variant" if key == "flavour" else key): value for key, value in plan.items()}  # type: ignore[union-attr]
    except (KeyError, TypeError, AttributeError):  # no plan, or `build` says what is wrong with it
        return found
    return {**found, "plan": {**renamed, "profiles": profiles}}


def _check_sizes(spec: Spec) -> None:
    """Checks what the types do not say.

    Raises:
        SpecError: a size that no graph and no image has.
    """
    least: dict[str, tuple[int, Sequence[int]]] = {  # by field: the smallest that it may be, and what it is
        "latent_size": (0, (spec.latent_size,)),
        "noise_size": (0, (spec.noise_size,)),
        "truncation_cutoff": (0, (spec.truncation_cutoff,)),
        "scale": (1, (spec.scale,)),
        "multiple_px": (1, (spec.multiple_px,)),
        "least_px": (1, (spec.least_px,)),
        "input_classes": (0, (spec.input_classes,)),
        "image_shape": (0, spec.image_shape),
        "w_shape": (1, spec.w_shape or ()),
        "inputs.shape": (-1, [axis for tensor in spec.inputs for axis in tensor.shape]),
        "outputs.shape": (-1, [axis for tensor in spec.outputs for axis in tensor.shape]),
    }
    if spec.tile is not None:
        least |= {
            "tile.size_px": (1, (spec.tile.size_px,)),
            "tile.overlap_px": (0, (spec.tile.overlap_px,)),
            "tile.multiple_px": (1, (spec.tile.multiple_px,)),
            "tile.receptive_field_px": (0, (spec.tile.receptive_field_px,)),
        }
    for name, (low, sizes) in least.items():
        for size in sizes:
            if not low <= size <= MAX_SIZE:
                raise SpecError(f"manifest: {name} has {size}, must be {low} to {MAX_SIZE}")
    psi, (lowest, highest) = spec.truncation_default or 0.0, spec.truncation_range
    if not lowest <= highest or max(map(abs, (psi, lowest, highest))) > 3.4e38:  # more than float32 holds
        raise SpecError(
            f"manifest: truncation_default {psi} and truncation_range {[lowest, highest]} are no float32 in order"
        )
    if spec.critic is not None:
        _check_critic(spec.critic, len(spec.labels))
    if spec.golden is not None and (problem := spec.golden.problem(len(spec.labels))):
        raise SpecError(f"manifest: golden: {problem}")
    if spec.judge is not None:
        _check_judge(spec.judge, spec.golden)
    if spec.tensors not in ("uint8", "float32"):
        raise SpecError(f"manifest: tensors is {spec.tensors!r}, must be uint8 or float32")
    for name, values in (
        ("latent_size", spec.latent_size), ("noise_size", spec.noise_size), ("w_shape", math.prod(spec.w_shape or ())),
    ):  # fmt: skip
        if values > MAX_VALUES:
            raise SpecError(f"manifest: {name} is {values} values an item, must be {MAX_VALUES} or fewer")


def _check_critic(critic: CriticSpec, labels: int) -> None:
    """Checks that there are rows of quantiles, and that they rise.

    Raises:
        SpecError: other than that.
    """
    rows = len(critic.quantiles)
    if rows not in (1, max(1, labels)):
        raise SpecError(f"manifest: critic.quantiles has {rows} rows, must be 1 or one for each of {labels} labels")
    for row in critic.quantiles:
        if len(row) < 2 or any(after < before for before, after in itertools.pairwise(row)):
            raise SpecError(
                "manifest: critic.quantiles: every row must have 2 numbers or more, none below the one before"
            )


def _check_judge(judge: JudgeSpec, golden: Golden | None) -> None:
    """Checks that there are classes, each once, and as many as golden statistics have.

    Raises:
        SpecError: other than that.
    """
    n = len(judge.classes)
    if n < 2 or len(set(judge.classes)) != n or judge.features < 1:
        raise SpecError("manifest: judge: must have 2 different classes or more, and 1 feature or more")
    if golden is not None and golden.judged and len(golden.judged[0]) != n:
        raise SpecError(f"manifest: golden: judged has {len(golden.judged[0])} classes, judge {n}")
