"""Reads an ONNX graph of unknown origin: bounded in size, its external data inside, no operators of others."""

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import TensorProto

from artifact.formats import other_format
from artifact.repository import placeholder
from export.adopt.amend import sort_nodes
from export.errors import ExportError

# A protobuf message ends here, and the adopted graph is one file.
MAX_BYTES = (1 << 31) - (1 << 20)
MAX_NODES = 100_000
# Of one value that the graph computes for one item: 4 GiB of float32.
MAX_ELEMENTS = 1 << 30
OPSETS = (7, onnx.defs.onnx_opset_version())
# `com.microsoft` holds ONNX Runtime's own operators, which need no library of the user's.
DOMAINS = ("", "ai.onnx", "com.microsoft")
# How long these run is decided by numbers inside the graph.
LOOPS = ("Loop", "Scan", "SequenceMap")
RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")


def is_onnx(path: Path) -> bool:
    """Whether a file is to be adopted: it is called `.onnx`."""
    return path.suffix.lower() == ".onnx"


def read_graph(path: Path) -> onnx.ModelProto:
    """The graph in a file, its weights inside, its functions inlined; nothing of it was run.

    Raises:
        ExportError: it is no ONNX graph, or not one that is adopted; one line that says why.
    """
    proto = _parse(path)
    opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise ExportError(f"{path.name}: opset {opset}: must be {OPSETS[0]} to {OPSETS[1]}; convert or export it anew")
    if proto.functions:
        _require_bounded_functions(proto, path.name)
        proto = onnx.inliner.inline_local_functions(proto)
    _require_operators(proto, path.name)
    sort_nodes(proto.graph)
    _embed(proto, path)
    _require_sizes(proto, path.name)
    return proto


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of inner graphs too."""
    for node in graph.node:
        yield node
        for inner in _inner_graphs(node):
            yield from nodes_of(inner)


def constants_of(proto: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The tensors that are always the same, by name: initializers and what Constant nodes give."""
    found = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in nodes_of(proto.graph):
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def opset_of(proto: onnx.ModelProto) -> int:
    """The version of ONNX's own operators."""
    return next(int(entry.version) for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))


def _parse(path: Path) -> onnx.ModelProto:
    try:
        if not path.is_file():
            raise ExportError(f"{path}: no such file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ExportError(f"{path.name} has {size} bytes; a graph that is adopted has at most {MAX_BYTES}")
        if what := placeholder(path) or other_format(path):
            raise ExportError(f"{path.name} {what}")
        proto = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as error:
        raise ExportError(f"{path.name} cannot be read: {error.strerror}") from None
    except DecodeError:
        raise ExportError(f"{path.name} is not an ONNX graph: it cannot be parsed") from None
    if not proto.graph.node:
        raise ExportError(f"{path.name} is not an ONNX graph: it has no nodes")
    return proto


def _inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _require_bounded_functions(proto: onnx.ModelProto, name: str) -> None:
    """Checks what the graph is with all functions inlined: functions of functions double at each level."""
    functions = {(function.domain, function.name): function for function in proto.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(key: tuple[str, str], above: tuple[tuple[str, str], ...]) -> int:
        if key in above:
            raise ExportError(f"{name}: function {key[1]} calls itself")
        if len(above) > 64:
            raise ExportError(f"{name}: functions call each other more than 64 deep")
        if key not in sizes:
            called = ((node.domain, node.op_type) for node in functions[key].node)
            sizes[key] = sum(size(call, (*above, key)) if call in functions else 1 for call in called)
        return sizes[key]

    calls = ((node.domain, node.op_type) for node in nodes_of(proto.graph))
    total = sum(size(call, ()) if call in functions else 1 for call in calls)
    if total > MAX_NODES:
        raise ExportError(f"{name} has {total} nodes with its functions inlined; at most {MAX_NODES}")


def _require_operators(proto: onnx.ModelProto, name: str) -> None:
    nodes = list(nodes_of(proto.graph))
    if len(nodes) > MAX_NODES:
        raise ExportError(f"{name} has {len(nodes)} nodes; at most {MAX_NODES}")
    custom = sorted({f"{node.domain}.{node.op_type}" for node in nodes if node.domain not in DOMAINS})
    if custom:
        raise ExportError(
            f"{name} has custom operators, which need a library of their own: {_some(custom)}; "
            "export it with ONNX's operators only"
        )
    loops = sorted({node.op_type for node in nodes if node.op_type in LOOPS})
    if loops:
        raise ExportError(
            f"{name} has {_some(loops)}: graphs with loops are not adopted, since nothing bounds their time"
        )
    unknown = sorted(
        {node.op_type for node in nodes if node.domain != "com.microsoft" and not onnx.defs.has(node.op_type)}
    )
    if unknown:
        raise ExportError(f"{name} has operators that ONNX does not have: {_some(unknown)}")
    random = sorted({node.op_type for node in nodes if node.op_type in RANDOM})
    if random:
        raise ExportError(
            f"{name} has {_some(random)}: it draws random numbers itself, so that a seed would not give the same image "
            "again; export it with its noise as weights or without noise"
        )


def _some(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name[:80] for name in names[:most]) + more


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for inner in _inner_graphs(node):
            yield from _tensors(inner)


def _embed(proto: onnx.ModelProto, path: Path) -> None:
    """Takes weights that lie in other files into the graph. They must lie in the graph's folder or below."""
    total = path.stat().st_size
    for tensor in _tensors(proto.graph):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        fields = {entry.key: entry.value for entry in tensor.external_data}
        file = _data_file(path, fields.get("location", ""))
        try:
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
            length = math.prod(tensor.dims) * dtype.itemsize
            offset, said = int(fields.get("offset", 0)), int(fields.get("length", length))
        except (KeyError, TypeError, ValueError):
            raise ExportError(f"{path.name}: the external data of {tensor.name[:80]} cannot be read") from None
        total += length
        if total > MAX_BYTES:
            raise ExportError(
                f"{path.name} has more than {MAX_BYTES} bytes with its external data, the most for one graph"
            )
        size = file.stat().st_size
        if said != length or min(offset, length) < 0 or offset + length > size:
            raise ExportError(
                f"{path.name}: {tensor.name[:80]} is {length} bytes at {offset} of {file.name}, which has {size} bytes"
            )
        with file.open("rb") as data:
            data.seek(offset)
            tensor.raw_data = data.read(length)
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def _data_file(path: Path, location: str) -> Path:
    outside = PurePosixPath(location).is_absolute() or PureWindowsPath(location).is_absolute() or "\\" in location
    file = path.parent / location
    if not location or outside or "\0" in location or not file.resolve().is_relative_to(path.parent.resolve()):
        raise ExportError(f"{path.name} has external data at {location[:200]!r}, which is not in the graph's folder")
    if not file.is_file():
        raise ExportError(f"{path.name} has its weights in {location[:200]!r}, which is missing next to it")
    return file


def _require_sizes(proto: onnx.ModelProto, name: str) -> None:
    """Checks that the graph is well-formed, and every shape that is known without running it."""
    try:
        onnx.checker.check_model(proto)  # sorted, so that nothing walks in circles; nodes have the inputs they need
        graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    except Exception as error:  # several kinds, of broken graphs
        raise ExportError(f"{name}: {_line(error)}") from None
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = [axis.dim_value for axis in value.type.tensor_type.shape.dim if axis.HasField("dim_value")]
        if math.prod(dims) > MAX_ELEMENTS:
            shape = "x".join(map(str, dims))
            raise ExportError(f"{name}: {value.name[:80]} would have {shape} values; at most {MAX_ELEMENTS}")


def _line(error: Exception) -> str:
    """The first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
