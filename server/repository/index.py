"""What the index of the repository says of a version."""

from dataclasses import dataclass
from enum import StrEnum

from artifact.spec import Spec
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

    @property
    def said(self) -> str:
        """The reason, and which engine runs it if that was measured."""
        measured = str(self.choice) if self.choice is not None and self.choice.why else ""
        return "; ".join(text for text in (self.reason, measured) if text)

    @property
    def failed(self) -> bool:
        """Whether it should be ready and is not, other than by a client's unload."""
        return self.state is State.UNAVAILABLE and self.reason != UNLOADED
