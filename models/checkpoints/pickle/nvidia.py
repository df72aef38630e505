"""Network snapshots of NVIDIA's training code, plain pickles of whole networks: `network-snapshot-<kimg>.pkl`.

StyleGAN2-ADA (NVlabs/stylegan2-ada-pytorch), StyleGAN3 (NVlabs/stylegan3) and projected-gan
(autonomousvision/projected-gan) pickle a dict of networks: `G`, `D`, `G_ema`. Each module is a record of its attributes
next to the source text of its class, which the official loaders execute. Here the attributes are read as data, and the
generator's parameters and buffers get the names that its `state_dict()` would give them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from models.checkpoints.pickle import tensors
from models.checkpoints.pickle.machine import DAMAGED, Part, PickleError
from models.checkpoints.pickle.tensors import Array

GENERATORS = ("G_ema", "G")  # the copy that the authors sample from, first
MAX_DEPTH = 32  # modules within modules
MAX_MODULES = 20_000
MAX_FACTS = 10_000
MAX_LIST = 64  # numbers of an attribute that is a list


@dataclass(frozen=True)
class Snapshot:
    """What a plain pickle holds: `found` is a state dict or containers of state dicts, as from any training script.

    `config`: what the generator's record says of it, plain JSON values: `class_name`, the arguments that made it (those
    of its parts after a dot: `mapping_kwargs.num_layers`), its modules' attributes (`synthesis.b4.conv1.conv_clamp`).
    """

    found: Any
    config: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read(path: Path) -> Snapshot:
    """The networks in a plain pickle; nothing in the file is executed.

    Raises:
        PickleError: damaged, over-large, or anything but networks' data.
    """
    with path.open("rb") as file:
        found = tensors.load(file, path.stat().st_size)
    if isinstance(found, Part):
        return Snapshot(_state(found), _config(found))
    if not isinstance(found, dict) or not any(isinstance(value, Part) for value in found.values()):
        return Snapshot(found)
    key = next((key for key in GENERATORS if isinstance(found.get(key), Part)), None)
    if key is None:
        parts = ", ".join(str(key)[:20] for key, value in found.items() if isinstance(value, Part))
        raise PickleError(f"holds networks ({parts[:80]!a}), none of them under G_ema or G")
    notes = () if key == GENERATORS[0] else ("no running average (G_ema) in the file: G is what was trained last",)
    return Snapshot({key: _state(found[key])}, _config(found[key]), notes)


def _modules(part: Part) -> Iterator[tuple[str, Part]]:
    """(path with a dot at its end, module), the network itself first, in the order of `state_dict()`."""
    seen: set[int] = set()
    waiting = [("", part, 0)]
    while waiting:
        path, module, depth = waiting.pop()
        if id(module) in seen or depth > MAX_DEPTH or len(seen) > MAX_MODULES:
            raise PickleError(f"modules within modules without end, at {path[:60]!a}; refused")
        seen.add(id(module))
        yield path, module
        inner = [
            (f"{path}{name}.", child, depth + 1) for name, child in _entries(module, "_modules") if child is not None
        ]
        if not all(isinstance(child, Part) for _, child, _ in inner):
            raise PickleError(f"{DAMAGED}: {path[:60]!a} has a module that is none")
        waiting.extend(reversed(inner))


def _entries(module: Part, attribute: str) -> list[tuple[str, Any]]:
    found = module.attributes.get(attribute, {})
    if not isinstance(found, dict):
        raise PickleError(f"{DAMAGED}: a module whose {attribute} are no dict")
    return [(str(name)[:200], value) for name, value in found.items()]


def _state(network: Part) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = {}
    for path, module in _modules(network):
        unsaved = module.attributes.get("_non_persistent_buffers_set") or ()
        for name, value in (*_entries(module, "_parameters"), *_entries(module, "_buffers")):
            if value is None or name in unsaved:
                continue
            if not isinstance(value, torch.Tensor):
                raise PickleError(f"{DAMAGED}: {(path + name)[:120]!a} is a {type(value).__name__}, no tensor")
            state[path + name] = value
    return state


def _config(network: Part) -> dict[str, object]:
    facts: dict[str, object] = {"class_name": network.name}
    for path, module in _modules(network):
        if not path:
            _add(facts, "", module.attributes.get("_init_kwargs"))
        for name, value in module.attributes.items():
            if not str(name).startswith("_") and not isinstance(value, dict):
                _add(facts, path + str(name)[:200], value)
    return facts


def _add(facts: dict[str, object], name: str, value: object, depth: int = 3) -> None:
    """Adds what is plain: numbers, texts, None, short lists of them; a dict's entries under `name.entry`."""
    if len(facts) > MAX_FACTS:
        raise PickleError("says more of its networks than any network has to say; refused")
    if isinstance(value, dict) and depth:
        for key, inner in value.items():
            _add(facts, f"{name}.{key}" if name else str(key), inner, depth - 1)
    elif isinstance(value, Array) and value.value.size <= MAX_LIST:
        facts[name] = value.value.tolist()
    elif isinstance(value, list | tuple) and len(value) <= MAX_LIST and all(_is_plain(entry) for entry in value):
        facts[name] = list(value)
    elif _is_plain(value):
        facts[name] = value


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) < 1000)
