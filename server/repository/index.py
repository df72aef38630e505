"""What the index of the repository says of a version, and of one that is not served."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from artifact.spec import Spec
from server.errors import InvalidRequest, ModelNotFound, NotServing
from server.images.latent_space import LatentSpace
from server.repository.cpu.kept import Choice

UNLOADED = "unloaded"


class State(StrEnum):
    """Triton's names for the state of a version."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True)
class IndexEntry:
    """One line of the index. Version 0: the model has none that could be tried. `choice`: what runs it, once READY."""

    name: str
    version: int
    state: State
    reason: str
    spec: Spec | None = None
    max_batch_size: int = 0
    choice: Choice | None = None
    space: LatentSpace | None = None  # a generator's, once READY
    withdrawn: bool = False  # an ensemble that cannot serve because a client unloaded a model of it

    @property
    def said(self) -> str:
        """The reason, and which engine runs it if that was measured."""
        measured = str(self.choice) if self.choice is not None and self.choice.why else ""
        return "; ".join(text for text in (self.reason, measured) if text)

    @property
    def unloaded(self) -> bool:
        """Whether it does not serve because a client wants that."""
        return self.state is State.UNAVAILABLE and (self.withdrawn or self.reason == UNLOADED)

    @property
    def failed(self) -> bool:
        """Whether it should be ready and is not, other than by a client's unload."""
        return self.state is State.UNAVAILABLE and not self.unloaded


def absence(name: str, version: int, entries: Mapping[int, IndexEntry]) -> ModelNotFound | NotServing:
    """Why there is no such model or version, of which the index has `entries`; version 0: the newest.

    NOT_FOUND, which callers do not repeat, if it is not meant to be here; UNAVAILABLE while it loads, and if it failed
    here: then another replica may serve it.
    """
    what = f"Request for unknown model: {name!r}"
    if not entries:
        return ModelNotFound(f"{what} is not found")
    loading = any(entry.state is State.LOADING and version in (0, entry.version) for entry in entries.values())
    if version and version not in entries and not (0 in entries and entries[0].state is State.LOADING):
        return ModelNotFound(f"{what} version {version} is not found; the index has {sorted(entries)}")
    entry = entries.get(version) or max(entries.values(), key=lambda entry: entry.version)
    missing = f"version {version} is not at ready state" if version else "has no available versions"
    text = f"{what} {missing}: it is {entry.state}" + (f": {entry.reason}" if entry.reason else "")
    return NotServing(text) if loading or entry.failed else ModelNotFound(text)


def version_number(name: str, version: str) -> int:
    """A version as a client writes it.

    Raises:
        InvalidRequest: it is no positive integer.
    """
    # Python reads other scripts' digits as well, and raises on thousands of digits.
    if not re.fullmatch("[0-9]{1,19}", version) or not 0 < int(version) < 1 << 63:
        raise InvalidRequest(f"model {name!r}: version {version!r} is not a positive integer")
    return int(version)
