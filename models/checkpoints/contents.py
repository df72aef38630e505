"""What a file holds, as groups of tensors: its dicts, lists and objects, of any names and however nested."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch

from models.checkpoints.pickle import modules
from models.checkpoints.pickle.arrays import Array
from models.checkpoints.pickle.machine import Part, PickleError
from models.checkpoints.pickle.tensors import Unreadable

MAX_DEPTH = 32  # containers within containers
MAX_ALIASES = 100
MAX_KEY = 500  # characters
MAX_WEIGHTS = 20_000  # tensors of more than one axis
MAX_KEYS = 50_000_000  # characters of all keys of a state dict
HELD = (torch.Tensor, Unreadable, Array, dict, list, tuple, Part)
OPTIMIZER = {"state", "param_groups"}


@dataclass
class Group:
    """One container: the tensors right in it, and the containers in it.

    `path`: the keys that lead to it. `unreadable`: of values that are no plain tensors, what they are. `aliases`: other
    paths that lead to it. `module`: the object, if it is a network pickled whole; then `tensors` are its state dict.
    `listed`: a list, whose tensors have numbers for keys.
    """

    path: tuple[str, ...]
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    groups: list["Group"] = field(default_factory=list)
    aliases: list[tuple[str, ...]] = field(default_factory=list)
    module: Part | None = None
    listed: bool = False
    is_optimizer: bool = False

    def walk(self) -> Iterator["Group"]:
        """This one and all below it, each before what is in it."""
        waiting = [self]
        while waiting:
            group = waiting.pop()
            yield group
            waiting.extend(reversed(group.groups))

    def flat(self) -> dict[str, torch.Tensor]:
        """All tensors below, as a state dict whose keys are the ways to them.

        Raises:
            PickleError: keys beyond any network's.
        """
        start = len(self.path)
        if sum(len(group.tensors) * len(".".join(group.path[start:])) for group in self.walk()) > MAX_KEYS:
            raise PickleError("names its tensors at greater length than any network; refused")
        return {
            ".".join((*group.path[start:], key)): tensor
            for group in self.walk()
            for key, tensor in group.tensors.items()
        }


def survey(found: object) -> Group:
    """The groups of what a file holds. Each container is visited once, however often it occurs.

    Raises:
        PickleError: modules within modules without end, or not as torch's modules are.
    """
    return _Surveyor().group(found, ())


class _Surveyor:
    def __init__(self) -> None:
        self.seen: dict[int, Group] = {}
        self.arrays: dict[int, torch.Tensor] = {}
        self.weights = 0

    def group(self, found: object, path: tuple[str, ...]) -> Group:
        group = Group(path, listed=isinstance(found, list | tuple) and not _is_pairs(found))
        self.seen[id(found)] = group
        if isinstance(found, Part) and modules.is_module(found):
            group.module = found
            for start, module in modules.walk(found):
                for name, value in modules.contents(module)[0].items():
                    self.take(group, start + name, value)
            return group
        group.is_optimizer = isinstance(found, Mapping) and found.keys() >= OPTIMIZER
        for key, value in () if group.is_optimizer else entries(found):
            if isinstance(value, HELD):
                self.take(group, str(key), value)
        return group

    def take(self, group: Group, key: str, value: object) -> None:
        if len(key) > MAX_KEY:
            raise PickleError(f"a name of {len(key)} characters, {key[:60]!a} ..., {MAX_KEY} at most")
        if isinstance(value, torch.Tensor):
            self.weights += value.ndim > 1
            if self.weights > MAX_WEIGHTS:
                raise PickleError(f"holds more than {MAX_WEIGHTS} weights; save the generator's state_dict() alone")
            group.tensors[key] = value
        elif isinstance(value, Unreadable):
            group.unreadable[key] = value.what
        elif isinstance(value, Array):
            if value.value is None:
                return
            if id(value) not in self.arrays:
                self.arrays[id(value)] = torch.from_numpy(value.value)
            group.tensors[key] = self.arrays[id(value)]
        else:
            path = (*group.path, key)
            if (known := self.seen.get(id(value))) is not None:
                known.aliases = [*known.aliases, path][:MAX_ALIASES]
            elif len(path) <= MAX_DEPTH:
                group.groups.append(self.group(value, path))


def entries(found: object) -> Iterable[tuple[object, object]]:
    """What is in a container, or in an object: what it was made from, items, attributes, entries."""
    if isinstance(found, Mapping):
        return found.items()
    if isinstance(found, list | tuple):
        return found if _is_pairs(found) else enumerate(found)
    if isinstance(found, Part):
        listed = enumerate((*found.arguments, *found.items))
        return itertools.chain(listed, found.attributes.items(), found.entries.items())
    return ()


def _is_pairs(found: list[object] | tuple[object, ...]) -> bool:
    """Whether it is what `list(state_dict.items())` gives: names with tensors."""
    return bool(found) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) and torch.is_tensor(pair[1])
        for pair in found
    )
