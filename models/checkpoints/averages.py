"""Several copies of one network in a file: the running average is the one that its authors sample from.

It comes as a second state dict, as an AveragedModel, as a dict of parameters only (the buffers stay with the trained
network), with the dots taken out of its keys, or as a list of parameters in the network's own order.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import torch

from models.checkpoints.contents import Group
from models.checkpoints.networks import (
    DISCRIMINATORS,
    MAX_SPLITS,
    PROPER,
    Finder,
    Network,
    Piece,
    Undecided,
    bare,
    words,
)

AVERAGES = {
    *("ema", "emas", "avg", "averaged", "average", "averages", "averaging", "mean", "shadow", "shadows", "smooth"),
    *("smoothed", "swa", "polyak", "moving", "mavg", "gema", "netgema", "modelema", "emamodel", "emag", "gs"),
}
# Names that say nothing of an average, but do where they are used.
KNOWN = ("g_running", "generator_test", "G_running", "net_running", "running", "averaging_state", "target_generator")
RAW = {"current", "online", "raw", "collected", "stored", "backup"}
BUFFERS = (
    *("running_mean", "running_var", "num_batches_tracked", "weight_u", "weight_v", "running_means", "running_vars"),
    *("stored_mean", "stored_var", "noise_const", "resample_filter", "w_avg", "latent_avg", "kernel", "filt", ".u0"),
)
WEIGHTS = ("weight", "bias", "weight_orig", "weight_v", "weight_g")
MAX_ALIGNED = 10_000_000  # keys times values of lists, over all of a file
MAX_TRAINED = 16  # networks that averages are looked for of
MAX_PREFIXES = 8


def says_average(path: Iterable[str]) -> bool:
    """Whether a key on the way to a network calls it an average."""
    return any(part in KNOWN or bool(AVERAGES & {word.rstrip("0123456789") for word in words(part)}) for part in path)


def says_raw(path: Iterable[str]) -> bool:
    """Whether a key on the way to a network says that it is the one that was trained last."""
    return any(bool(RAW & set(words(part))) for part in path)


def add_averages(finder: Finder, root: Group, strict: bool = True) -> None:
    """Adds to the networks found the averages of them that are no state dicts of their own.

    Raises:
        Undecided: a list that is called an average, and fits no network; only if `strict`.
    """
    trained = finder.networks[:MAX_TRAINED]
    for group in root.walk():
        if group.listed and any(tensor.ndim > 1 for tensor in group.tensors.values()):
            _add_list(finder, group, trained, root, strict)
    for piece in finder.tried[:]:
        _add_piece(finder, piece, trained)
    for network in trained:  # parameters only, which some architectures take as they are
        whole, values = next(((one, part) for one in trained if (part := _part(network, one))), (network, None))
        averaged = says_average((*network.path, *network.prefix))
        if values and _add(finder, network, {**whole.raw, **tied(whole.raw, values)}, averaged):
            finder.networks.remove(network)


def _add_list(finder: Finder, group: Group, trained: Sequence[Network], root: Group, strict: bool) -> None:
    values = list(group.tensors.values())
    fitting = [(network, keys) for network in trained if (keys := _fit(finder, network.raw, values))]
    if fitting:
        network, keys = max(fitting, key=lambda one: _likeness(one[0].path, group.path))
        state = {**network.raw, **tied(network.raw, dict(zip(keys, values, strict=True)))}
        _add(finder, replace(network, path=group.path, prefix=()), state, says_average(group.path))
        return
    for whole in root.walk():  # a list of all that a training module has, its discriminator too
        if not whole.listed and (keys := _fit(finder, whole.tensors, values)):
            averaged = tied(whole.tensors, dict(zip(keys, values, strict=True)))
            finder.split(group, {**whole.tensors, **averaged}, group.path, ())
            return
    if strict and says_average(group.path) and trained:
        name, count = trained[0].name or "the generator", len(parameters(trained[0].raw))
        raise Undecided(
            f"{'.'.join(group.path)} is a list of {len(values)}, which are not the {count} parameters of {name}; "
            "--key NAME takes a network as it was trained last"
        )


def _fit(finder: Finder, state: Mapping[str, torch.Tensor], values: Sequence[torch.Tensor]) -> list[str] | None:
    """`listed_keys`, as long as there is time for it."""
    finder.aligned += len(state) * len(values)
    return listed_keys(state, values) if finder.aligned < MAX_ALIGNED else None


def _add_piece(finder: Finder, piece: Piece, trained: Sequence[Network]) -> None:
    """A dict of parameters only: those of a network, perhaps behind a prefix, perhaps without dots."""
    known = {id(tensor) for network in trained for tensor in network.raw.values()}
    for network in trained:
        for dot in (".", "", "_"):
            values = _aligned(piece.state, {key.replace(".", dot): key for key in network.raw}, network, known)
            if values:
                averaged = says_average(piece.path) or piece.averaged
                _add(finder, replace(network, path=piece.path, prefix=()), {**network.raw, **values}, averaged)
                return


def _aligned(
    state: Mapping[str, torch.Tensor], names: Mapping[str, str], network: Network, known: Collection[int]
) -> dict[str, torch.Tensor] | None:
    """The tensors by the network's own keys, None if one of its weights is missing, of another shape, or `known`."""
    first = next((name for name, key in names.items() if network.raw[key].ndim > 1), "")
    before = dict.fromkeys(name.removesuffix(first) for name in state if name.endswith(first))
    for prefix in list(before)[:MAX_PREFIXES]:
        found = {key: state[prefix + name] for name, key in names.items() if prefix + name in state}
        values = tied(network.raw, found)
        fits = all(value.shape == network.raw[key].shape for key, value in values.items())
        if fits and values.keys() >= _weights(network.raw) and not all(id(value) in known for value in values.values()):
            return values
    return None


def _part(network: Network, whole: Network) -> dict[str, torch.Tensor] | None:
    """The tensors by the other's keys, if they are some of its own, and no others."""
    keys = {bare(key): key for key in whole.raw}
    values = {keys.get(bare(key), ""): tensor for key, tensor in network.raw.items()}
    fits = all(key and tensor.shape == whole.raw[key].shape for key, tensor in values.items())
    return values if fits and len(values) < len(whole.raw) else None


def _add(finder: Finder, network: Network, state: Mapping[str, torch.Tensor], averaged: bool) -> bool:
    """Whether it is a network that is known."""
    note = "its parameters from there, its buffers from the network that was trained"
    found = finder.look(network.group, state, network.path, network.prefix, averaged)
    if found:
        finder.networks.append(replace(found, notes=(*found.notes, note)))
    return found is not None


def parameters(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors that are trained, in order; by their names, of several names of one tensor by the first."""
    firsts = _firsts(state)
    return {key: tensor for key, tensor in state.items() if firsts[key] == key and not key.endswith(BUFFERS)}


def tied(state: Mapping[str, torch.Tensor], values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The values, also under the other names that their tensors have in the state."""
    by_first = {first: values[key] for key, first in _firsts(state).items() if key in values}
    return {key: by_first[first] for key, first in _firsts(state).items() if first in by_first}


def _firsts(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """For each key the first one under which the same numbers of the file are."""
    places: dict[tuple[object, ...], str] = {}
    return {
        key: places.setdefault((tensor.data_ptr() or key, tensor.shape, tensor.stride()), key)
        for key, tensor in state.items()
    }


def _weights(state: Mapping[str, torch.Tensor]) -> set[str]:
    return {key for key in parameters(state) if key.endswith(WEIGHTS)}


def listed_keys(state: Mapping[str, torch.Tensor], values: Sequence[torch.Tensor]) -> list[str] | None:
    """The keys of a list of parameters, in a network's own order; None if they do not fit, or fit in several ways.

    Weights and biases must be among them, what is called like a buffer cannot be, and others may.
    """
    keys, weights = list(parameters(state)), _weights(state)
    if Counter(state[key].shape for key in weights) - Counter(value.shape for value in values):
        return None
    if not len(weights) <= len(values) <= len(keys):
        return None
    # ways[i][j]: in how many ways (2 for more than one) the keys from i on can be the values from j on.
    ways = [[0] * (len(values) + 1) for _ in range(len(keys) + 1)]
    ways[-1][-1] = 1
    for i in range(len(keys) - 1, -1, -1):
        for j in range(len(values), -1, -1):
            taken = ways[i + 1][j + 1] if j < len(values) and values[j].shape == state[keys[i]].shape else 0
            left = 0 if keys[i] in weights else ways[i + 1][j]
            ways[i][j] = min(taken + left, 2)
    if ways[0][0] != 1:
        return None
    chosen: list[str] = []
    for i, key in enumerate(keys):
        j = len(chosen)
        if j < len(values) and values[j].shape == state[key].shape and ways[i + 1][j + 1]:
            chosen.append(key)
    return chosen


def _likeness(one: Sequence[str], other: Sequence[str]) -> int:
    return len({word for part in one for word in words(part)} & {word for part in other for word in words(part)})


def choose(networks: Sequence[Network], pieces: Sequence[Piece] = ()) -> Network:
    """The one network that is meant; of copies of one network the average.

    Raises:
        Undecided: there are several, with their keys; or among the pieces is an average of it that does not fit.
    """
    networks = [one for one in networks if not _is_discriminator(one)] or networks
    kinds: dict[tuple[object, ...], list[Network]] = {}
    for network in networks:
        kinds.setdefault(_shapes(network), []).append(network)
    chosen = [_of_copies(copies) for copies in kinds.values()]
    left = [network for copies in chosen for network in copies]
    if encoder := _encoder(left):
        return encoder
    if len(left) == 1:
        _require_no_other_average(left[0], pieces)
        return left[0]
    names = ", ".join(f"{network.name or 'the top'} ({network.architectures[0]})" for network in left)
    what = "copies of one network" if len(chosen) == 1 else "generators"
    raise Undecided(f"holds {len(left)} {what}: {names[:400]}; say which with --key NAME")


def _encoder(networks: Sequence[Network]) -> Network | None:
    """The encoder of a file that holds it and the one generator that it is for, else None."""
    called = {(*network.path, *network.prefix)[-1:]: network for network in networks}
    encoder, decoder = called.get(("encoder",)), called.get(("decoder",))
    if len(networks) != 2 or encoder is None or decoder is None:
        return None
    said = f"the file also holds the generator ({decoder.architectures[0]}): --key {decoder.name} exports it"
    return replace(encoder, notes=(*encoder.notes, said))


def _shapes(network: Network) -> tuple[object, ...]:
    """What copies of one network have in common: its keys, without what is before all of them, and shapes."""
    state = _without_counters(network)
    keys = [key.split(".") for key in state]
    start = 0
    while start < MAX_SPLITS and len({key[start] if len(key) > start + 1 else "" for key in keys}) == 1:
        if len(keys[0]) <= start + 1:
            break
        start += 1
    shapes = (tuple(tensor.shape) for tensor in state.values())
    return tuple(sorted(zip((tuple(key[start:]) for key in keys), shapes, strict=True)))


def _values(network: Network) -> list[torch.Tensor]:
    state = _without_counters(network)
    return [state[key] for key in sorted(state)]


def _without_counters(network: Network) -> dict[str, torch.Tensor]:
    """The tensors without numbers, which averages count their steps in: n_averaged, steps."""
    return {key: tensor for key, tensor in network.state.items() if tensor.ndim}


def _require_no_other_average(network: Network, pieces: Sequence[Piece]) -> None:
    if network.averaged or says_average((*network.path, *network.prefix)):
        return
    own = [tuple(network.raw[key].shape) for key in _weights(network.raw)]
    for piece in pieces:
        shapes = [tuple(tensor.shape) for tensor in piece.state.values() if tensor.ndim > 1]
        called = {word for part in piece.path for word in words(part)}
        if called & DISCRIMINATORS and not called & PROPER:
            continue
        if says_average(piece.path) and sum(shape in own for shape in shapes) > len(own) / 4:
            name = network.name or "the network"
            raise Undecided(
                f"holds {name}, and in {piece.name} what seems to be its average, but is not of the same tensors; "
                f"--key {network.name or 'NAME'} takes {name} as it was trained last"
            )


def _is_discriminator(network: Network) -> bool:
    called = {word for part in (*network.path, *network.prefix)[-1:] for word in words(part)}
    return bool(called & DISCRIMINATORS) and not called & PROPER


def _of_copies(copies: list[Network]) -> list[Network]:
    """The average among networks with the same tensors, if it is clear which one that is; else all of them."""
    averages = [one for one in copies if one.averaged or says_average((*one.path, *one.prefix))]
    averages = [one for one in averages if not says_raw((*one.path, *one.prefix)[-1:])] or averages
    trained = [one for one in copies if all(one is not other for other in averages)]
    found = averages or [one for one in trained if not says_raw((*one.path, *one.prefix))] or trained
    if not averages and len(found) == 1 and len(copies) > 1:
        found = [replace(found[0], averaged=True)]
    pairs = (zip(_values(found[0]), _values(one), strict=True) for one in found[1:])
    same = all(torch.equal(mine, theirs) for pair in pairs for mine, theirs in pair)
    return found[:1] if same else found
