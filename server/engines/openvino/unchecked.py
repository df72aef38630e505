"""What OpenVINO 2026.4 does with a request without looking, where ONNX Runtime fails.

It reads memory that is not the tensor's, or gives values that nobody asked for: zeros for an index out of range, the
tensor itself for a shape that it cannot be broadcast to, 0 to 8 for the range from 0 to -9. A graph in which the values
of a request may get there is refused. One thing is checked instead, since class labels are used like that: indices that
are an input themselves.
"""

from collections.abc import Mapping

import openvino

# Operators that keep values as they are.
_KEEPING = ("Convert", "Reshape", "Squeeze", "Unsqueeze")
# Inputs that decide on shapes, by the operator, and what they are.
_SHAPES = {"Broadcast": ((1,), "a shape"), "Tile": ((1,), "repeats"), "Range": ((0, 1, 2), "ends")}
_DIVISIONS = ("Divide", "Mod", "FloorMod")


def find_unchecked(model: openvino.Model) -> str:
    """What in the graph is refused, one line; "" if nothing is."""
    given = _given_by_requests(model)
    for node in model.get_ordered_ops():
        if found := _unchecked(node, given):
            return f"{node.get_friendly_name()!r} {found}"
    return ""


def index_limits(model: openvino.Model) -> dict[str, int]:
    """How many things the values of an input choose from, for each input that has indices: from -n to n - 1."""
    limits: dict[str, int] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Gather":
            continue
        source, axis = _source(node.input_value(1)), _gathered(node)
        if source.get_type_name() == "Parameter" and axis is not None and axis.is_static:
            name = source.output(0).any_name
            limits[name] = min(axis.get_length(), limits.get(name, axis.get_length()))
    return limits


def _given_by_requests(model: openvino.Model) -> Mapping[str, bool]:
    """Of each operator, whether the values of a request have an influence on its values; their shapes do not count."""
    given: dict[str, bool] = {}
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        inputs = (value.get_node().get_name() for value in node.input_values())
        given[node.get_name()] = kind == "Parameter" or (kind != "ShapeOf" and any(given[name] for name in inputs))
    return given


def _unchecked(node: openvino.Node, given: Mapping[str, bool]) -> str:
    kind = node.get_type_name()

    def is_given(index: int) -> bool:
        return index < node.get_input_size() and given[node.input_value(index).get_node().get_name()]

    if kind in ("GatherND", "ScatterElementsUpdate"):
        return f"is {kind} with indices from anywhere"
    if kind in ("If", "Loop", "TensorIterator"):
        return "has a graph inside"
    if kind == "Gather":
        return _unchecked_indices(node, is_given(1))
    if kind in _SHAPES:
        places, what = _SHAPES[kind]
        return f"is {kind} with {what} from the values of a request" if any(map(is_given, places)) else ""
    if kind in _DIVISIONS and node.get_element_type().is_integral() and is_given(1):
        return "divides by integers that may be 0"
    return _unchecked_product(node, given) if kind == "MatMul" else ""


def _unchecked_indices(node: openvino.Node, is_given: bool) -> str:
    source, axis = _source(node.input_value(1)), _gathered(node)
    if is_given:
        is_checked = source.get_type_name() == "Parameter" and axis is not None and axis.is_static
        return "" if is_checked else "is Gather with indices computed from the values of a request"
    if axis is not None and axis.is_static:
        return ""  # constant, or computed from shapes by what follows shapes
    known = source.get_type_name() == "Constant" and set(source.get_data().flat) <= {0, -1}
    return "" if known else "is Gather with indices over a free axis"


def _gathered(node: openvino.Node) -> openvino.Dimension | None:
    """The size of the axis that Gather takes from; None if nobody knows which one it is."""
    shape, axis = node.input_value(0).get_partial_shape(), node.input_value(2).get_node()
    if shape.rank.is_dynamic or axis.get_type_name() != "Constant":
        return None
    return shape[int(axis.get_data().flat[0])]


def _source(value: openvino.Output) -> openvino.Node:
    """Where values come from, unchanged."""
    node = value.get_node()
    while node.get_type_name() in _KEEPING:
        node = node.input_value(0).get_node()
    return node


def _unchecked_product(node: openvino.Node, given: Mapping[str, bool]) -> str:
    flipped = [node.get_attributes()[name] for name in ("transpose_a", "transpose_b")]
    for this, inner in ((0, -2 if flipped[0] else -1), (1, -1 if flipped[1] else -2)):
        shape = node.input_value(this).get_partial_shape()
        free = not shape.rank.is_dynamic and shape[max(inner, -len(shape))].is_dynamic
        # A product with weights takes as many values from the other side as there are weights, whatever its shape.
        if free and not given[node.input_value(1 - this).get_node().get_name()]:
            return "is a product with weights over a free axis"
    return ""
