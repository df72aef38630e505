"""Networks that were pickled whole, as objects: what their modules say of themselves, read as data.

`torch.save(netG)`, DataParallel and NVIDIA's snapshots (NVlabs/stylegan2-ada-pytorch, NVlabs/stylegan3, projected-gan)
write each module's attributes: its parameters, its buffers, its parts, and what made it (epsilons, slopes, arguments).
TorchScript writes parameters, buffers and parts as attributes of one kind.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from models.checkpoints.pickle.arrays import Array
from models.checkpoints.pickle.machine import DAMAGED, Part, PickleError

MAX_DEPTH = 64  # modules within modules
MAX_MODULES = 20_000
MAX_FACTS = 10_000
MAX_LIST = 64  # numbers of an attribute that is a list
SCRIPT = "__torch__."
# Activations by the class's name, as families' settings call them.
ACTIVATIONS = {"Tanh": "tanh", "Sigmoid": "sigmoid", "Identity": "none", "Hardtanh": "clamp"}
OWN = ("_parameters", "_buffers", "_modules")


def is_module(found: object) -> bool:
    """Whether it is a network, or a part of one."""
    return isinstance(found, Part) and (
        any(name in found.attributes for name in OWN) or (found.name.startswith(SCRIPT) and bool(found.attributes))
    )


def contents(module: Part) -> tuple[dict[str, Any], dict[str, Part]]:
    """(parameters and buffers, modules) of one module by name, in the order of its `state_dict()`.

    Raises:
        PickleError: not as torch's modules are.
    """
    if not any(name in module.attributes for name in OWN):
        parts = {str(name): value for name, value in module.attributes.items() if is_module(value)}
        return {str(name): value for name, value in module.attributes.items() if torch.is_tensor(value)}, parts
    unsaved = module.attributes.get("_non_persistent_buffers_set") or ()
    values = {
        name: value
        for name, value in (*_entries(module, "_parameters"), *_entries(module, "_buffers"))
        if value is not None and name not in unsaved
    }
    for name, value in values.items():
        if isinstance(value, int | float | str | bytes | list | dict):
            raise PickleError(f"{DAMAGED}: {name[:120]!a} is a {type(value).__name__}, no tensor")
    modules = {name: value for name, value in _entries(module, "_modules") if value is not None}
    if not all(isinstance(value, Part) for value in modules.values()):
        raise PickleError(f"{DAMAGED}: a module that is none")
    return values, modules


def walk(network: Part) -> Iterator[tuple[str, Part]]:
    """(path with a dot at its end, module), the network itself first, in the order of `state_dict()`.

    Raises:
        PickleError: modules within modules without end.
    """
    waiting = [("", network, 0)]
    count = 0
    while waiting:
        path, module, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_MODULES:
            raise PickleError(f"modules within modules without end, at {path[:60]!a}; refused")
        yield path, module
        inner = [(f"{path}{name}.", part, depth + 1) for name, part in contents(module)[1].items()]
        waiting.extend(reversed(inner))


def facts(network: Part) -> dict[str, object]:
    """What a network says of itself, plain JSON values: `class_name`; the arguments that made it, where they were noted
    (those of its parts after a dot: `mapping_kwargs.num_layers`); its modules' attributes
    (`synthesis.b4.conv1.conv_clamp`); and of its layers `eps`, `slope` and `output`, as families' settings are called.
    """
    found: dict[str, object] = {"class_name": network.name}
    for path, module in walk(network):
        if not path:
            _add(found, "", module.attributes.get("_init_kwargs"))
        for name, value in module.attributes.items():
            if not str(name).startswith("_") and not isinstance(value, dict):
                _add(found, path + str(name)[:200], value)
    return {**found, **_layer_facts(network)}


def _layer_facts(network: Part) -> dict[str, object]:
    """What the layers say that no tensor does; nothing where they disagree."""
    norms: set[object] = set()
    slopes: set[object] = set()
    last = ""
    for _, module in walk(network):
        kind = module.name.rpartition(".")[2]
        if "BatchNorm" in kind and "eps" in module.attributes:
            norms.add(module.attributes["eps"])
        if kind == "LeakyReLU" and "negative_slope" in module.attributes:
            slopes.add(module.attributes["negative_slope"])
        if not contents(module)[1]:
            last = kind
    known = {"eps": norms.pop() if len(norms) == 1 else None, "slope": slopes.pop() if len(slopes) == 1 else None}
    known["output"] = ACTIVATIONS.get(last)
    return {f"layers.{name}": value for name, value in known.items() if _is_plain(value) and value is not None}


def _entries(module: Part, attribute: str) -> list[tuple[str, Any]]:
    found = module.attributes.get(attribute, {})
    if isinstance(found, Part):
        found = found.entries
    if not isinstance(found, Mapping):
        raise PickleError(f"{DAMAGED}: a module whose {attribute} are no dict")
    return [(str(name)[:200], value) for name, value in found.items()]


def _add(found: dict[str, object], name: str, value: object, depth: int = 3) -> None:
    """Adds what is plain: numbers, texts, None, short lists of them; a dict's entries under `name.entry`."""
    if len(found) > MAX_FACTS:
        raise PickleError("says more of its networks than any network has to say; refused")
    if isinstance(value, dict) and depth:
        for key, inner in value.items():
            _add(found, f"{name}.{key}" if name else str(key), inner, depth - 1)
    elif isinstance(value, Array) and value.value is not None and value.value.size <= MAX_LIST:
        found[name] = value.value.tolist()
    elif isinstance(value, list | tuple) and len(value) <= MAX_LIST and all(_is_plain(entry) for entry in value):
        found[name] = list(value)
    elif _is_plain(value):
        found[name] = value


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) < 1000)
