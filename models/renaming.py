"""The same network under other names: keys of one repository turned into those of another, layer by layer."""

import re
from collections.abc import Callable, Mapping

from models.architecture import StateDict

Names = Mapping[str, Callable[[re.Match[str]], str]]
"""Patterns of whole layer names (a key without its last part), and what each becomes; the first that fits counts."""

NOTHING = r"(?!)"


def rename(state: StateDict, names: Names, unused: str = NOTHING) -> StateDict | None:
    """The weights under the new names, None where a key fits no pattern; layers that fit `unused` are left out."""
    renamed = {}
    for key, tensor in state.items():
        layer, _, leaf = key.rpartition(".")
        if re.fullmatch(unused, layer):
            continue
        name = _renamed(layer, names)
        if name is None:
            return None
        renamed[f"{name}.{leaf}"] = tensor
    return renamed


def _renamed(layer: str, names: Names) -> str | None:
    for pattern, write in names.items():
        if match := re.fullmatch(pattern, layer):
            return write(match)
    return None


def to(name: str) -> Callable[[re.Match[str]], str]:
    """Writes `name`, in which {1}, {2} ... stand for the pattern's groups and {0} for the whole."""
    return lambda match: name.format(match[0], *match.groups())


def count(state: StateDict, name: str) -> int:
    """How many members the list `name` has: `name.<member>. ...`."""
    parts = name.count(".") + 1
    return len({key.split(".")[parts] for key in state if key.startswith(f"{name}.")})
