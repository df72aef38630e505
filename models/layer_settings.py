"""Settings of layers that many networks have and no tensor tells: read off a built network, and changed in it.

An architecture with a setting of the same name has its own instead, where the value decides more than the layers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import nn

from artifact.spec import Scalar
from models.architecture import ArchitectureError, Generator, Setting

ACTIVATIONS: Mapping[str, type[nn.Module]] = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "none": nn.Identity}
RANGES = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "none": (-1.0, 1.0)}
SETTINGS = {
    "eps": Setting(0.0, "epsilon of the normalisation layers"),
    "slope": Setting(0.0, "of the leaky ReLUs"),
    "output": Setting("tanh", "activation of the last layer", tuple(ACTIVATIONS)),
}
_ATTRIBUTES = {"eps": "eps", "slope": "negative_slope"}


def layer_values(generator: Generator) -> dict[str, Scalar]:
    """The value of each setting that this network has; not of one in which its layers differ."""
    found: dict[str, Scalar] = {}
    for name, attribute in _ATTRIBUTES.items():
        values = {getattr(layer, attribute) for layer in _layers(generator, attribute)}
        if len(values) == 1:
            found[name] = values.pop()
    if len(list(_outputs(generator))) == 1:
        found["output"] = "tanh"
    return found


def set_layers(generator: Generator, values: Mapping[str, Scalar]) -> Generator:
    """The generator with these values in its layers.

    Raises:
        ArchitectureError: it has no such layer.
    """
    known = layer_values(generator)
    for name, value in values.items():
        if name not in known:
            raise ArchitectureError(f"--set {name}: the network has no layers that it is of, or several kinds of them")
        if name == "output":
            (parent, child), *_ = _outputs(generator)
            setattr(parent, child, ACTIVATIONS[str(value)]())
            generator = replace(generator, output_range=RANGES[str(value)])
        else:
            for layer in _layers(generator, _ATTRIBUTES[name]):
                setattr(layer, _ATTRIBUTES[name], float(value))
    return generator


def _layers(generator: Generator, attribute: str) -> Iterator[nn.Module]:
    for layer in generator.network.modules():
        if isinstance(getattr(layer, attribute, None), float):
            yield layer


def _outputs(generator: Generator) -> Iterator[tuple[nn.Module, str]]:
    """Where the activations stand that give -1..1: in a generator of that range, the last layer."""
    if generator.output_range == RANGES["tanh"]:
        for parent in generator.network.modules():
            for child, layer in parent.named_children():
                if type(layer) is nn.Tanh:
                    yield parent, child
