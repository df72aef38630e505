"""Finds generators in the groups of tensors that a file holds, behind any prefix, with any wrapper's leftovers."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch

from models.architecture import StateDict
from models.checkpoints.contents import Group
from models.normalisation import as_old_names, fold

# Parts of keys that wrappers add, and that no network has of its own: torch.compile, FSDP, checkpointing, Fabric.
WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
BEFORE = {*WRAPPERS, "module"}
# What names a generator among the parts of a larger network.
PROPER = {"g", "gen", "generator", "generators", "netg", "gnet"}
GENERATORS = PROPER | {"ema", "model", "module", "net", "network", "online"}
DISCRIMINATORS = {"d", "disc", "discriminator", "discriminators", "critic", "netd", "dnet"}
# What names a network among the parts of a file.
CALLED = PROPER | {"ema", "online"}
NAMED = CALLED | DISCRIMINATORS
BESIDE = ("latent_avg",)  # tensors next to the generator that belong to it: the mean latent of converted StyleGAN2
COUNTED = ("total_ops", "total_params")  # what thop.profile leaves in a network
PARAMETERS = ("weight", "bias", "weight_orig", "weight_v", "weight_g", "weight_u")
MAX_LOOKS = 2000  # state dicts that are shown to every architecture
MAX_SPLITS = 8


@dataclass(frozen=True, eq=False)
class Network:
    """A generator that was found.

    `path`: the keys of the file that lead to its group, `prefix` what was taken off its keys. `raw`: its tensors
    without the prefix, as the file has them, `state` as the architectures that take it name them. `notes`: what was
    done to them. `averaged`: known to be a running average.
    """

    path: tuple[str, ...]
    prefix: tuple[str, ...]
    raw: Mapping[str, torch.Tensor]
    state: Mapping[str, torch.Tensor]
    architectures: tuple[str, ...]
    group: Group
    notes: tuple[str, ...] = ()
    averaged: bool = False

    @property
    def name(self) -> str:
        """What `--key` may call it."""
        return ".".join((*self.path, *self.prefix))


@dataclass(frozen=True, eq=False)
class Piece:
    """Tensors that are no known generator: those of a group, or behind a prefix of it."""

    path: tuple[str, ...]
    state: Mapping[str, torch.Tensor]
    group: Group
    averaged: bool = False

    @property
    def name(self) -> str:
        """What `--key` may call it."""
        return ".".join(self.path)


class Undecided(ValueError):
    """Networks of which nothing says which one is meant, or more than are looked at; one line."""


Recognise = Callable[[StateDict], tuple[str, ...]]
"""The names of the architectures that take a state dict."""


@dataclass
class Finder:
    """Looks for generators: what it found, and the pieces that are none; `tried` are all that were looked at."""

    recognise: Recognise
    networks: list[Network] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    tried: list[Piece] = field(default_factory=list)
    looks: int = 0
    aligned: int = 0

    def search(self, root: Group) -> None:
        """Looks through all groups, then for networks whose keys are dicts within dicts."""
        for group in root.walk():
            if group.tensors and not group.listed:
                self.split(group, group.tensors, group.path, ())
        if not self.networks:
            self.nested(root)

    def nested(self, group: Group) -> None:
        """A group whose tensors, all those below it, are a network."""
        flat = group.flat()
        if len(flat) == len(group.tensors) or group.listed:
            return
        if network := self.look(group, flat, group.path, ()):
            self.networks.append(network)
            return
        for inner in group.groups:
            self.nested(inner)

    def split(
        self, group: Group, state: Mapping[str, torch.Tensor], path: tuple[str, ...], prefix: tuple[str, ...],
        averaged: bool = False,
    ) -> None:  # fmt: skip
        """Finds what the tensors are: a network, or networks behind the first parts of their keys."""
        parts = {} if len(prefix) >= MAX_SPLITS else _parts(state)
        averaged = averaged or "n_averaged" in state
        # What a wrapper put before some keys, and not before all, is not taken off: others may be another network's.
        is_wrapped = bool(BEFORE & parts.keys())
        if not is_wrapped and (network := self.look(group, state, path, prefix, averaged)):
            self.networks.append(network)
            return
        found, pieces = len(self.networks), len(self.pieces)
        piece = Piece((*path, *prefix), state, group, averaged)
        if any(tensor.ndim > 1 for tensor in state.values()):
            self.tried.append(piece)
        for name in _likely(parts, state):
            self.split(group, parts[name], path, (*prefix, name), averaged)
        if len(self.networks) == found:
            named = len(parts) > 1 and NAMED & {word for name in parts for word in words(name)}
            if not named:  # one network, and what was tried are its parts
                del self.pieces[pieces:]
                self.pieces.append(piece)

    def look(
        self, group: Group, state: Mapping[str, torch.Tensor], path: tuple[str, ...], prefix: tuple[str, ...],
        averaged: bool = False,
    ) -> Network | None:  # fmt: skip
        """The network that these tensors are, None if they are none that is known.

        Raises:
            Undecided: more were looked at than any file holds.
        """
        if len(state) < 2 or all(tensor.ndim < 2 for tensor in state.values()):
            return None
        for named, notes in _variants(state):
            self.looks += 1
            if self.looks > MAX_LOOKS:
                raise Undecided("holds too many groups of tensors to look at; save the generator's state_dict() alone")
            if architectures := self.recognise(named):
                return Network(path, prefix, state, named, architectures, group, notes, averaged)
        return None


def _variants(state: Mapping[str, torch.Tensor]) -> Iterator[tuple[dict[str, torch.Tensor], tuple[str, ...]]]:
    """(state, what was done) as the file has it, then with ever more of what wrappers and layers leave undone."""
    plain = {_unwrapped(key, WRAPPERS): value for key, value in state.items() if key.rpartition(".")[2] not in COUNTED}
    yield plain, ()
    without = {bare(key): value for key, value in plain.items()}
    for inner, notes in ((plain, ()), (without, ("module. taken out of its keys",))):
        if notes and without.keys() == plain.keys():
            return
        if notes:
            yield inner, notes
        old = as_old_names(inner)
        folded = fold(old)
        if old.keys() != inner.keys():
            yield old, notes
        if folded.keys() != old.keys():
            count = len(old.keys() - folded.keys())
            yield folded, (*notes, f"normalisation folded into its weights, as in eval mode ({count} tensors less)")


def unwrapped(state: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Weights of no known network without what wrappers put before all keys."""
    while len(parts := _parts(state)) == 1 and parts.keys() <= BEFORE:
        if any("." not in key and key != "n_averaged" for key in state):
            break
        state = {key: value for key, value in next(iter(parts.values())).items() if key != "n_averaged"}
    return state


def bare(key: str) -> str:
    """The key without what wrappers add, wherever it is."""
    return _unwrapped(key, BEFORE)


def _unwrapped(key: str, wrappers: set[str]) -> str:
    return ".".join(part for part in key.split(".") if part not in wrappers)


def _parts(state: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors by the first part of their keys; those without a second part are left out."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in state.items():
        first, dot, rest = key.partition(".")
        if dot:
            parts.setdefault(first, {})[rest] = tensor
    return parts


def _likely(parts: Mapping[str, Mapping[str, torch.Tensor]], state: Mapping[str, torch.Tensor]) -> list[str]:
    """The parts of a state dict that may be networks of their own: by name, or since everything beside may be, too."""
    own = [key for key, tensor in state.items() if "." not in key and tensor.ndim]
    if any(key in PARAMETERS for key in own):
        return []
    if len(parts) == 1 and (not own or BEFORE & parts.keys()):
        return list(parts)
    alike = not own and all(map(_is_network_like, parts.values()))
    return [
        name for name, inner in parts.items() if _is_called(name, inner) or (alike and not _is_numbered(name, inner))
    ]


def _is_called(name: str, inner: Mapping[str, torch.Tensor]) -> bool:
    """Whether a part has a generator's name."""
    said = set(words(name))
    if said & CALLED or name in BEFORE:
        return True
    return bool(said & GENERATORS) and any(CALLED & set(words(key.partition(".")[0])) for key in inner)


def _is_numbered(name: str, inner: Mapping[str, torch.Tensor]) -> bool:
    return name.isdecimal() or all(key.partition(".")[0].isdecimal() for key in inner)


def _is_network_like(state: Mapping[str, torch.Tensor]) -> bool:
    return all("." in key for key in state) and any(tensor.ndim > 1 for tensor in state.values())


def words(name: str) -> list[str]:
    """The words of a key, in small letters: `netG_EMA` -> net, g, ema."""
    parted = re.sub(r"([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3 \2\4", name)
    return [word.lower() for word in re.split(r"[^A-Za-z0-9]+", parted) if word]
