"""The graph's inputs and outputs as the manifest says them."""

from artifact.dtypes import KSERVE_OF_NUMPY
from artifact.spec import TensorSpec
from export.graph.samples import Arrays, inputs
from export.graph.trace import output_name
from models.architecture import Generator


def tensor_specs(generator: Generator, tensors: str) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """(inputs, outputs) of the graph, without the batch axis; free axes are -1."""
    example = inputs(generator, tensors, (0,))
    height, width = generator.image_size_px if generator.task.draws else (-1, -1)
    dtype = "UINT8" if tensors == "uint8" else "FP32"
    axes = (height, width, generator.channels) if tensors == "uint8" else (generator.channels, height, width)
    output = TensorSpec(output_name(generator), dtype, axes)
    return tuple(_input(name, example, tensors) for name in generator.inputs), (output,)


def _input(name: str, example: Arrays, tensors: str) -> TensorSpec:
    shape = example[name].shape[1:]
    if name == "image":
        shape = (-1, -1, shape[2]) if tensors == "uint8" else (shape[0], -1, -1)
    return TensorSpec(name, KSERVE_OF_NUMPY[example[name].dtype], tuple(shape))
