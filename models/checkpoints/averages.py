"""Several copies of one network in a file: the running average is the one that its authors sample from.

It comes as a second state dict, as an AveragedModel, as a dict of parameters only (the buffers stay with the trained
network), with the dots taken out of its keys, or as a list of parameters in the network's own order.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch

from models.checkpoints.contents import Group
from models.checkpoints.networks import DISCRIMINATORS, GENERATORS, Finder, Network, Piece, words

AVERAGES = {
    *("ema", "emas", "avg", "averaged", "average", "averages", "averaging", "mean", "shadow", "shadows", "smooth"),
    *("smoothed", "swa", "polyak", "moving", "mavg", "gema", "netgema", "modelema", "emamodel", "emag", "gs"),
}
# Names that say nothing of an average, but do where they are used.
KNOWN = ("g_running", "generator_test", "G_running", "net_running", "running", "averaging_state", "target_generator")
RAW = {"current", "online", "raw", "collected"}
BUFFERS = (
    *("running_mean", "running_var", "num_batches_tracked", "weight_u", "weight_v", "running_means", "running_vars"),
    *("stored_mean", "stored_var", "noise_const", "resample_filter", "w_avg", "latent_avg", "kernel", "filt", ".u0"),
)


class Undecided(ValueError):
    """Several networks, and nothing that says which one is meant; or an average that fits none of them."""


def says_average(path: Iterable[str]) -> bool:
    """Whether a key on the way to a network calls it an average."""
    return any(part in KNOWN or bool(AVERAGES & set(words(part))) for part in path)


def says_raw(path: Iterable[str]) -> bool:
    """Whether a key on the way to a network says that it is the one that was trained last."""
    return any(bool(RAW & set(words(part))) for part in path)


def add_averages(finder: Finder, root: Group) -> None:
    """Adds to the networks found the averages of them that are no state dicts of their own.

    Raises:
        Undecided: a list that is called an average, and fits no network.
    """
    trained = list(finder.networks)
    known = {id(network.group) for network in trained}
    for group in root.walk():
        if group.listed and len(group.tensors) and any(tensor.ndim > 1 for tensor in group.tensors.values()):
            _add_list(finder, group, trained, root)
    for piece in finder.pieces[:]:
        if any(tensor.ndim > 1 for tensor in piece.state.values()) and (id(piece.group) not in known or piece.path):
            _add_piece(finder, piece, trained)


def _add_list(finder: Finder, group: Group, trained: Sequence[Network], root: Group) -> None:
    values = list(group.tensors.values())
    shapes = [value.shape for value in values]
    fitting = [network for network in trained if [v.shape for v in parameters(network.raw).values()] == shapes]
    if fitting:
        network = max(fitting, key=lambda one: _likeness(one.path, group.path))
        state = {**network.raw, **dict(zip(parameters(network.raw), values, strict=True))}
        _add(finder, replace(network, path=group.path, prefix=()), state)
        return
    for whole in root.walk():  # a list of all that a training module has, its discriminator too
        names = parameters(whole.tensors)
        if not whole.listed and [tensor.shape for tensor in names.values()] == shapes:
            state = {**whole.tensors, **dict(zip(names, values, strict=True))}
            finder.split(group, state, group.path, ())
            return
    if says_average(group.path) and trained:
        raise Undecided(
            f"{'.'.join(group.path)} is a list of {len(values)}, which are not the "
            f"{len(parameters(trained[0].raw))} parameters of {trained[0].name or 'the generator'}"
        )


def _add_piece(finder: Finder, piece: Piece, trained: Sequence[Network]) -> None:
    """A dict of parameters only: those of a network, perhaps behind a prefix, perhaps without dots."""
    for network in trained:
        for dot in (".", "", "_"):
            names = {key.replace(".", dot): key for key in parameters(network.raw)}
            values = _aligned(piece.state, names, network)
            if values and all(values[key].shape == network.raw[key].shape for key in values):
                _add(finder, replace(network, path=piece.path, prefix=()), {**network.raw, **values})
                return


def _aligned(
    state: Mapping[str, torch.Tensor], names: Mapping[str, str], network: Network
) -> dict[str, torch.Tensor] | None:
    """The tensors by the network's own keys, None if one of `names` is missing."""
    for prefix in dict.fromkeys(("", *_prefixes(state, names))):
        if all(prefix + name in state for name in names):
            return {key: state[prefix + name] for name, key in names.items()}
    return None


def _prefixes(state: Mapping[str, torch.Tensor], names: Mapping[str, str]) -> list[str]:
    """What may stand before every key: what stands before the first of the names."""
    first = next(iter(names), None)
    return [key[: len(key) - len(first)] for key in state if key.endswith(first)] if first else []


def _add(finder: Finder, network: Network, state: Mapping[str, torch.Tensor]) -> None:
    note = "its parameters from the average, its buffers from the trained network"
    if found := finder.look(network.group, state, network.path, network.prefix, averaged=True):
        finder.networks.append(replace(found, notes=(*found.notes, note)))


def parameters(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors that are trained, in order."""
    return {key: tensor for key, tensor in state.items() if not key.endswith(BUFFERS)}


def _likeness(one: Sequence[str], other: Sequence[str]) -> int:
    return len({word for part in one for word in words(part)} & {word for part in other for word in words(part)})


def choose(networks: Sequence[Network]) -> Network:
    """The one network that is meant; of copies of one network the average.

    Raises:
        Undecided: there are several, with their keys.
    """
    networks = [one for one in networks if not _is_discriminator(one)] or networks
    kinds: dict[tuple[object, ...], list[Network]] = {}
    for network in networks:
        shapes = tuple(sorted((key, tuple(tensor.shape)) for key, tensor in network.state.items()))
        kinds.setdefault(shapes, []).append(network)
    chosen = [_of_copies(copies) for copies in kinds.values()]
    left = [network for copies in chosen for network in copies]
    if len(left) == 1:
        return left[0]
    names = ", ".join(f"{network.name or 'the top'} ({network.architectures[0]})" for network in left)
    what = "copies of one network" if len(chosen) == 1 else "generators"
    raise Undecided(f"holds {len(left)} {what}: {names[:400]}; say which with --key NAME")


def _is_discriminator(network: Network) -> bool:
    called = {word for part in (*network.path, *network.prefix)[-1:] for word in words(part)}
    return bool(called & DISCRIMINATORS) and not called & GENERATORS


def _of_copies(copies: list[Network]) -> list[Network]:
    """The average among networks with the same tensors, if it is clear which one that is; else all of them."""
    averages = [one for one in copies if one.averaged or says_average((*one.path, *one.prefix))]
    trained = [one for one in copies if all(one is not other for other in averages)]
    found = averages or [one for one in trained if not says_raw((*one.path, *one.prefix))] or trained
    if not averages and len(found) == 1 and len(copies) > 1:
        found = [replace(found[0], averaged=True)]
    same = all(torch.equal(found[0].state[key], one.state[key]) for one in found[1:] for key in one.state)
    return found[:1] if same else found
