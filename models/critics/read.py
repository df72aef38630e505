"""Finds the discriminator in a checkpoint, as generators are found: nothing in the file is executed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from artifact.repository import sha256_of
from models.checkpoints.averages import choose
from models.checkpoints.checks import Unusable, widened
from models.checkpoints.contents import survey
from models.checkpoints.formats import FormatError
from models.checkpoints.networks import DISCRIMINATORS, Finder, Network, Undecided, words
from models.checkpoints.pickle import modules
from models.checkpoints.pickle.machine import PickleError
from models.checkpoints.read import CheckpointError, load
from models.critics.catalogue import recognise


@dataclass(frozen=True)
class Discriminator:
    """Weights that a layout takes. `layouts`: those that do; `key`: where they were in the file; `config`: what a
    network pickled whole says of itself."""

    state: Mapping[str, torch.Tensor]
    layouts: Sequence[str]
    key: str
    config: Mapping[str, object]
    sha256: str


def read_discriminator(path: Path, is_shared: bool) -> Discriminator | None:
    """The one discriminator in a file; None if there is none that is known.

    Args:
        path: of the file.
        is_shared: it is the generator's file: what is called a discriminator counts, and only that.

    Raises:
        CheckpointError: the file cannot be read, or holds several.
    """
    try:
        finder = Finder(recognise)
        finder.search(survey(load(path)))
        found = [each for each in finder.networks if not is_shared or _is_called(each)]
        if not found:
            return None
        chosen = choose(found)
        state, _ = widened(chosen.state, path.stat().st_size)
    except (PickleError, FormatError, Undecided, Unusable, OSError) as error:
        raise CheckpointError(f"{path.name}: {str(error)[:300]}") from None
    module = chosen.group.module
    for part in chosen.prefix:
        module = modules.contents(module)[1].get(part) if module else None
    config = modules.facts(module) if module else {}
    return Discriminator(state, chosen.architectures, chosen.name, config, sha256_of(path))


def _is_called(network: Network) -> bool:
    """Whether a key on the way to it calls it a discriminator."""
    said = {word for part in (*network.path, *network.prefix) for word in words(part)}
    return bool(DISCRIMINATORS & said)
