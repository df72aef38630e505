"""What the inputs and outputs of a graph are: told by the user, else by their shapes; asked for where neither tells."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import TensorProto

from artifact.spec import MAX_VALUES, Task
from export.errors import ExportError

CHANNELS = (1, 3, 4)
LAYOUTS = ("NCHW", "NHWC")
REALS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
INTEGERS = (TensorProto.INT64, TensorProto.INT32)
LEVELS = (0.0, 255.0)
# Inputs of a graph that was joined with its mapping network.
W, W_GIVEN, PSI = "w", "w_given", "truncation_psi"

Range = tuple[float, float]
# Values of black and of white, one for all channels or one for each.
Bounds = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Adoption:
    """What the user says of a graph; None: told by the graph or asked for."""

    task: str | None = None
    latent: str | None = None  # names of inputs
    label: str | None = None
    classes: int | None = None
    image: str | None = None  # name of the output that is the image
    layout: str | None = None
    output_range: Range | None = None
    input_range: Range | None = None  # None: the same
    mean: tuple[float, ...] = ()  # of the input image in 0..1, by channel; then divided by `std`
    std: tuple[float, ...] = ()
    fixed: Mapping[str, float] = field(default_factory=dict)  # inputs and the value that they have in every run
    reference: Path | None = None  # inputs, and what the graph must give for them: export.adopt.reference
    noise: tuple[str, ...] = ()  # names of inputs that take normally distributed noise
    truncation: str | None = None  # name of the input that takes psi
    bgr: bool = False  # blue is the first channel of its images
    mapping: Path | None = None  # the graph that makes w, which this one takes: export.adopt.mapping


@dataclass(frozen=True)
class Tensor:
    """An input or output as the graph declares it; a free axis of `shape` is -1."""

    name: str
    element_type: int
    shape: tuple[int, ...]

    def __str__(self) -> str:
        axes = ", ".join("free" if axis < 0 else str(axis) for axis in self.shape)
        return f"{self.name} {TensorProto.DataType.Name(self.element_type)} ({axes})"


@dataclass(frozen=True)
class Roles:
    """Which tensor is what. `latent`, or `image` for tasks that take one; `label` if the graph has classes; of those
    that a request may set besides, `noise`, `truncation`, and `w` with `w_given` of a graph with its mapping network.
    """

    task: Task | None  # None: the graph takes an image, and its scale must tell
    output: Tensor
    latent: Tensor | None = None
    label: Tensor | None = None
    classes: int = 0
    image: Tensor | None = None
    noise: tuple[Tensor, ...] = ()
    truncation: Tensor | None = None
    w: Tensor | None = None
    w_given: Tensor | None = None


def find_roles(proto: onnx.ModelProto, said: Adoption) -> Roles:
    """The roles of a graph's tensors.

    Raises:
        ExportError: they cannot be told; the text lists the graph's tensors and the option that says it.
    """
    inputs = inputs_of(proto)
    output = _output(outputs_of(proto), said)
    task = _task(said)
    pictures = [tensor for tensor in inputs if _is_picture(tensor) and tensor.name not in said.noise]
    scalars = [tensor for tensor in inputs if tensor not in pictures]
    if len(pictures) == 1 and scalars and not said.latent and (not task or not task.draws) and _are_knobs(scalars):
        raise ExportError(
            f"the graph takes the image {pictures[0]} and also {listed(scalars)}; "
            f"give each its value: --fix {scalars[0].name}=NUMBER"
        )
    if (task is None and said.latent is None and len(pictures) == len(inputs) == 1) or (task and not task.draws):
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            raise ExportError(
                f"--task {said.task}: takes one image (4 axes), other inputs only with a value, --fix NAME=NUMBER; "
                f"the graph takes {listed(inputs)}"
            )
        for option, value in (
            ("--latent", said.latent), ("--label", said.label), ("--classes", said.classes),
            ("--noise", " ".join(said.noise) or None), ("--truncation", said.truncation),
        ):  # fmt: skip
            if value is not None:
                raise ExportError(f"{option} {value}: the graph takes an image, {inputs[0]}, and no latent")
        _require_type("image", inputs[0], (*REALS, TensorProto.UINT8))
        return Roles(task, output, image=inputs[0])
    noise, truncation = noise_of(inputs, said.noise), _truncation(inputs, said.truncation)
    w, w_given = (next((one for one in inputs if said.mapping and one.name == name), None) for name in (W, W_GIVEN))
    rest = [tensor for tensor in inputs if tensor not in (*noise, truncation, w, w_given)]
    label = named(rest, said.label, "--label") if said.label else only_label(rest)
    latent = latent_of(rest, label, said)
    if others := [tensor for tensor in rest if tensor not in (latent, label)]:
        raise ExportError(
            f"the graph takes also {listed(others)}; say what each is: the class, --label NAME; normally distributed "
            f"noise, --noise NAME; truncation psi, --truncation NAME; or the value that it always has, "
            f"--fix {others[0].name}=NUMBER"
        )
    for option, given in (("--input-range", said.input_range), ("--mean", said.mean), ("--std", said.std)):
        if given:
            raise ExportError(f"{option}: the graph takes a latent and no image")
    classes = classes_of(label, said)
    found = Task.CLASS_CONDITIONAL if label else Task.UNCONDITIONAL
    if task not in (None, found):
        raise ExportError(f"--task {said.task}: the graph takes {listed(inputs)}, so it is {found}")
    return Roles(found, output, latent, label, classes, None, noise, truncation, w, w_given)


def inputs_of(proto: onnx.ModelProto) -> list[Tensor]:
    """What a graph takes; old files list its weights among the inputs, too."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    return [_tensor(value) for value in proto.graph.input if value.name not in weights]


def outputs_of(proto: onnx.ModelProto) -> list[Tensor]:
    """What a graph gives."""
    return [_tensor(value) for value in proto.graph.output]


def noise_of(inputs: list[Tensor], names: Sequence[str]) -> tuple[Tensor, ...]:
    """The inputs that take noise.

    Raises:
        ExportError: there is none of a name, or it is no noise map of a known size.
    """
    found = tuple(named(inputs, name, "--noise") for name in dict.fromkeys(names))
    for tensor in found:
        _require_type("noise", tensor, REALS)
        if len(tensor.shape) < 2 or min(tensor.shape[1:]) < 1:
            raise ExportError(f"--noise {tensor.name}: it is {tensor}; all axes but the batch must be fixed")
    if sum(math.prod(tensor.shape[1:]) for tensor in found) > MAX_VALUES:
        raise ExportError(f"--noise: more than {MAX_VALUES} values for one image")
    return found


def _truncation(inputs: list[Tensor], name: str | None) -> Tensor | None:
    if name is None:
        return None
    found = named(inputs, name, "--truncation")
    _require_type("truncation", found, REALS)
    if any(axis not in (1, -1) for axis in found.shape[:1]) or any(axis != 1 for axis in found.shape[2:]):
        raise ExportError(f"--truncation {name}: it is {found}; must be one number, (N,), (N, 1) or (N, layers)")
    return found


def layout_of(shape: Sequence[int], said: str | None, what: str) -> str:
    """NCHW or NHWC, by where the channels are.

    Raises:
        ExportError: the shape allows both or neither and nothing was said, or forbids what was said.
    """
    fits = [layout for layout in LAYOUTS if shape[layout.index("C")] in CHANNELS]
    if said is not None:
        if said not in LAYOUTS:
            raise ExportError(f"--layout {said}: must be one of {', '.join(LAYOUTS)}")
        channels = shape[said.index("C")]
        if channels >= 0 and said not in fits:
            raise ExportError(f"--layout {said}: {what} has {channels} channels, must be one of {_numbers(CHANNELS)}")
        return said
    if len(fits) != 1:
        axes = ", ".join("free" if axis < 0 else str(axis) for axis in shape)
        raise ExportError(f"{what} has the shape ({axes}), which does not tell its layout; say --layout NCHW or NHWC")
    return fits[0]


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    axes = (axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else -1 for axis in kind.shape.dim)
    return Tensor(value.name, kind.elem_type, tuple(axes))


def _task(said: Adoption) -> Task | None:
    if said.task is None:
        return None
    tasks = [task for task in Task if task is not Task.ENCODER]  # those are plain tensors
    if said.task not in tasks:
        raise ExportError(f"--task {said.task}: must be one of {', '.join(tasks)}")
    return Task(said.task)


def _is_picture(tensor: Tensor) -> bool:
    """Four axes, with channels where channels are. A latent (N, Z, 1, 1) is none."""
    shape = tensor.shape
    return len(shape) == 4 and shape[2:] != (1, 1) and (shape[1] in CHANNELS or shape[3] in CHANNELS)


def _are_knobs(tensors: list[Tensor]) -> bool:
    """Whether none is so large that it could be a latent."""
    return all(math.prod(map(abs, tensor.shape)) == 1 for tensor in tensors)


def _output(outputs: list[Tensor], said: Adoption) -> Tensor:
    if said.image is not None:
        found = named(outputs, said.image, "--image")
    else:
        pictures = [tensor for tensor in outputs if len(tensor.shape) == 4] or outputs
        if len(pictures) != 1:
            raise ExportError(f"the graph gives {listed(pictures)}; say which is the image: --image NAME")
        found = pictures[0]
    if found.shape and len(found.shape) != 4:
        raise ExportError(f"the graph gives {found}; an image has 4 axes")
    _require_type("image", found, (*REALS, TensorProto.UINT8))
    return found


def latent_of(inputs: list[Tensor], label: Tensor | None, said: Adoption) -> Tensor:
    if said.latent is not None:
        found = named(inputs, said.latent, "--latent")
    else:
        reals = [tensor for tensor in inputs if tensor.element_type in REALS and tensor != label]
        if len(reals) != 1:
            raise ExportError(f"the graph takes {listed(inputs)}; say which is the latent: --latent NAME")
        found = reals[0]
    _require_type("latent", found, REALS)
    size = 1
    for axis in found.shape[1:]:
        size *= axis
        if axis < 0 or size > MAX_VALUES:
            raise ExportError(
                f"the latent is {found}; all axes but the batch must be fixed, {MAX_VALUES} values at most"
            )
    if len(found.shape) < 2:
        raise ExportError(f"the latent is {found}; it must have a batch axis and one or more others")
    return found


def only_label(inputs: list[Tensor]) -> Tensor | None:
    integers = [tensor for tensor in inputs if tensor.element_type in INTEGERS and len(tensor.shape) <= 2]
    return integers[0] if len(integers) == 1 and len(inputs) == 2 else None


def classes_of(label: Tensor | None, said: Adoption) -> int:
    """How many: for numbers it must be said, a one-hot vector tells."""
    if label is None:
        if said.classes is not None:
            raise ExportError(f"--classes {said.classes}: needs --label NAME, the input that takes the class")
        return 0
    _require_type("label", label, (*REALS, *INTEGERS))
    length = label.shape[1] if len(label.shape) == 2 else 0
    if len(label.shape) not in (1, 2) or (label.element_type in REALS and not length):
        raise ExportError(f"the label is {label}; it must be (N,), (N, 1) or one-hot (N, classes)")
    if length > 1 and said.classes not in (None, length):
        raise ExportError(f"--classes {said.classes}: the label is {label}")
    classes = said.classes or (length if length > 1 else 0)
    if not 1 <= classes <= 1 << 16:
        raise ExportError(f"the label is {label}; say how many classes there are: --classes, 1 to {1 << 16}")
    return classes


def named(tensors: list[Tensor], name: str, option: str) -> Tensor:
    for tensor in tensors:
        if tensor.name == name:
            return tensor
    raise ExportError(f"{option} {name}: the graph has {listed(tensors)}")


def _require_type(role: str, tensor: Tensor, allowed: Sequence[int]) -> None:
    if tensor.element_type not in allowed:
        names = ", ".join(TensorProto.DataType.Name(one) for one in allowed)
        raise ExportError(f"the {role} is {tensor}; must be of {names}")


def listed(tensors: list[Tensor]) -> str:
    return ", ".join(map(str, tensors[:8])) + (f" and {len(tensors) - 8} more" if len(tensors) > 8 else "") or "nothing"


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
