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
# What stands between the last activation and the output without changing values.
UNCHANGING = ("Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
BOUNDED = {"Tanh": (-1.0, 1.0), "Sigmoid": (0.0, 1.0)}
LEVELS = (0.0, 255.0)

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
    """Which tensor is what. `latent`, or `image` for tasks that take one; `label` if the graph has classes."""

    task: Task | None  # None: the graph takes an image, and its scale must tell
    output: Tensor
    latent: Tensor | None = None
    label: Tensor | None = None
    classes: int = 0
    image: Tensor | None = None


def find_roles(proto: onnx.ModelProto, said: Adoption) -> Roles:
    """The roles of a graph's tensors.

    Raises:
        ExportError: they cannot be told; the text lists the graph's tensors and the option that says it.
    """
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [_tensor(value) for value in proto.graph.input if value.name not in weights]
    output = _output([_tensor(value) for value in proto.graph.output], said)
    task = _task(said)
    pictures = [tensor for tensor in inputs if _is_picture(tensor)]
    scalars = [tensor for tensor in inputs if tensor not in pictures]
    if len(pictures) == 1 and scalars and not said.latent and (not task or not task.draws) and _are_knobs(scalars):
        raise ExportError(
            f"the graph takes the image {pictures[0]} and also {_listed(scalars)}; "
            f"give each its value: --fix {scalars[0].name}=NUMBER"
        )
    if (task is None and said.latent is None and len(pictures) == len(inputs) == 1) or (task and not task.draws):
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            raise ExportError(
                f"--task {said.task}: takes one image (4 axes), other inputs only with a value, --fix NAME=NUMBER; "
                f"the graph takes {_listed(inputs)}"
            )
        for option, value in (("--latent", said.latent), ("--label", said.label), ("--classes", said.classes)):
            if value is not None:
                raise ExportError(f"{option} {value}: the graph takes an image, {inputs[0]}, and no latent")
        _require_type("image", inputs[0], (*REALS, TensorProto.UINT8))
        return Roles(task, output, image=inputs[0])
    label = _named(inputs, said.label, "--label") if said.label else _only_label(inputs)
    latent = _latent(inputs, label, said)
    if others := [tensor for tensor in inputs if tensor not in (latent, label)]:
        raise ExportError(
            f"the graph takes also {_listed(others)}; if one is the class, say --label NAME; others (noise, "
            f"truncation, w) are not served: give each the value that it always has, --fix {others[0].name}=NUMBER"
        )
    for option, given in (("--input-range", said.input_range), ("--mean", said.mean), ("--std", said.std)):
        if given:
            raise ExportError(f"{option}: the graph takes a latent and no image")
    classes = _classes(label, said)
    found = Task.CLASS_CONDITIONAL if label else Task.UNCONDITIONAL
    if task not in (None, found):
        raise ExportError(f"--task {said.task}: the graph takes {_listed(inputs)}, so it is {found}")
    return Roles(found, output, latent, label, classes)


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


def told_range(proto: onnx.ModelProto, output: Tensor) -> Range | None:
    """The range of the values of an output, if its type or its last activation tells."""
    if output.element_type == TensorProto.UINT8:
        return LEVELS
    producers = {name: node for node in proto.graph.node for name in node.output}
    name = output.name
    while (node := producers.get(name)) is not None:
        if node.op_type in BOUNDED:
            return BOUNDED[node.op_type]
        if node.op_type not in UNCHANGING:
            return None
        name = node.input[0]
    return None


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
        found = _named(outputs, said.image, "--image")
    else:
        pictures = [tensor for tensor in outputs if len(tensor.shape) == 4] or outputs
        if len(pictures) != 1:
            raise ExportError(f"the graph gives {_listed(pictures)}; say which is the image: --image NAME")
        found = pictures[0]
    if found.shape and len(found.shape) != 4:
        raise ExportError(f"the graph gives {found}; an image has 4 axes")
    _require_type("image", found, (*REALS, TensorProto.UINT8))
    return found


def _latent(inputs: list[Tensor], label: Tensor | None, said: Adoption) -> Tensor:
    if said.latent is not None:
        found = _named(inputs, said.latent, "--latent")
    else:
        reals = [tensor for tensor in inputs if tensor.element_type in REALS and tensor != label]
        if len(reals) != 1:
            raise ExportError(f"the graph takes {_listed(inputs)}; say which is the latent: --latent NAME")
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


def _only_label(inputs: list[Tensor]) -> Tensor | None:
    integers = [tensor for tensor in inputs if tensor.element_type in INTEGERS and len(tensor.shape) <= 2]
    return integers[0] if len(integers) == 1 and len(inputs) == 2 else None


def _classes(label: Tensor | None, said: Adoption) -> int:
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


def _named(tensors: list[Tensor], name: str, option: str) -> Tensor:
    for tensor in tensors:
        if tensor.name == name:
            return tensor
    raise ExportError(f"{option} {name}: the graph has {_listed(tensors)}")


def _require_type(role: str, tensor: Tensor, allowed: Sequence[int]) -> None:
    if tensor.element_type not in allowed:
        names = ", ".join(TensorProto.DataType.Name(one) for one in allowed)
        raise ExportError(f"the {role} is {tensor}; must be of {names}")


def _listed(tensors: list[Tensor]) -> str:
    return ", ".join(map(str, tensors[:8])) + (f" and {len(tensors) - 8} more" if len(tensors) > 8 else "") or "nothing"


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
