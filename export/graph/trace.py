"""torch -> ONNX: one graph with free batch, height and width axes, checked, free of paths of this machine."""

import contextlib
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
import torch
from torch import nn

from artifact.dtypes import KSERVE_OF_NUMPY
from artifact.spec import Task, TensorSpec
from export.errors import ExportError
from export.graph.samples import Arrays, sample_inputs
from models.architecture import Generator

OPSET = 18


def output_name(generator: Generator) -> str:
    """`image` for generated images; `upscaled` or `translated` for networks whose input is called `image`,
    `w` for encoders."""
    if generator.task.draws:
        return "image"
    if generator.task is Task.ENCODER:
        return "w"
    return "upscaled" if generator.task is Task.SUPER_RESOLUTION else "translated"


def tensor_specs(generator: Generator, tensors: str) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """(inputs, outputs) of the graph for the manifest: without the batch axis, free axes as -1."""
    example = sample_inputs(generator, tensors, (0,))
    height, width = generator.image_size_px if any(generator.image_size_px) else (-1, -1)
    dtype = "UINT8" if tensors == "uint8" else "FP32"
    axes: tuple[int, ...] = (
        (height, width, generator.channels) if tensors == "uint8" else (generator.channels, height, width)
    )
    if generator.task is Task.ENCODER:
        assert generator.w_shape is not None
        axes = generator.w_shape
    output = TensorSpec(output_name(generator), dtype, axes)
    free = not any(generator.image_size_px)
    return tuple(_input_spec(name, example, tensors, free) for name in generator.inputs), (output,)


def _input_spec(name: str, example: Arrays, tensors: str, free: bool) -> TensorSpec:
    shape = example[name].shape[1:]
    if name == "image" and free:
        shape = (-1, -1, shape[2]) if tensors == "uint8" else (shape[0], -1, -1)
    return TensorSpec(name, KSERVE_OF_NUMPY[example[name].dtype], tuple(shape))


def _dynamic_axes(generator: Generator, tensors: str) -> dict[str, dict[int, str]]:
    """The inputs by name with their free axes, in the dynamo exporter's form."""
    axes = {name: {0: "N"} for name in generator.inputs}
    if not any(generator.image_size_px):
        axes["image"] = {0: "N", 1: "H", 2: "W"} if tensors == "uint8" else {0: "N", 2: "H", 3: "W"}
    return axes


def to_onnx(module: nn.Module, generator: Generator, tensors: str, example: Arrays) -> onnx.ModelProto:
    """The checked graph of `module` (see `export.graph.pixels.wrap`), traced on `example`, BatchNorm folded into convs.

    Raises:
        ExportError: torch cannot trace the network, or onnx.checker refuses the graph.
    """
    return trace(module, example, _dynamic_axes(generator, tensors), output_name(generator))


def trace(module: nn.Module, example: Arrays, axes: Mapping[str, dict[int, str]], output: str) -> onnx.ModelProto:
    """The checked graph of `module`, with the inputs and free axes of `axes`, in that order, and one output.

    Raises:
        ExportError: torch cannot trace the network, or onnx.checker refuses the graph.
    """
    shapes = tuple(axes.values())
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                tuple(torch.from_numpy(example[name]) for name in axes),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(axes),
                output_names=[output],
                dynamic_shapes=(shapes,) if _has_varargs(module) else shapes,
                optimize=True,
                verbose=False,
            )
            assert program is not None
            proto = without_debug_info(program.model_proto)
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # the exporter and the checker raise many kinds
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ExportError(f"the ONNX exporter failed: {lines[0] if lines else type(error).__name__}") from error
    return proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the exporter's log lines and warnings; its errors come as exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _has_varargs(module: nn.Module) -> bool:
    """Whether its forward is written with `*inputs`, which the exporter sees as one argument."""
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    return inspect.Parameter.VAR_POSITIONAL in kinds


def without_debug_info(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Without the source lines and paths that the exporter attaches to nodes and values."""
    graph = proto.graph
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.doc_string = ""
        del value.metadata_props[:]
    for tensor in graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    graph.doc_string = proto.doc_string = ""
    del graph.metadata_props[:]
    del proto.metadata_props[:]
    return proto


def save(proto: onnx.ModelProto, path: Path) -> None:
    """Writes the graph, weights inside."""
    onnx.save_model(proto, path)
