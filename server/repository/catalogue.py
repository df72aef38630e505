"""What is served of a repository, and what its index says of the rest."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from server.errors import InvalidRequest, NotServing
from server.repository.ensemble import Ensemble, Served
from server.repository.ensembles import Binding, Ensembles
from server.repository.index import IndexEntry, State, absence, version_number
from server.repository.model import Model
from server.repository.reasons import Reasons

NOT_READ = "the repository has not been read yet; try again"

log = logging.getLogger(__name__)


class Catalogue:
    """Models by name and version, and the state of each. Loop thread only."""

    def __init__(self, reasons: Reasons, ensembles: Ensembles, changed: Callable[[], None]) -> None:
        """`changed` is called after every change of state."""
        self._reasons = reasons
        self._ensembles = ensembles
        self._notify = changed
        self._models: dict[str, dict[int, Served]] = {}
        self._entries: dict[str, dict[int, IndexEntry]] = {}
        self._loading: set[str] = set()  # ensembles whose models are being loaded
        self._empty = NOT_READ
        self._was_read = False

    def get(self, name: str, version: str = "") -> Served:
        """The model, at a version or at its newest.

        Raises:
            ModelNotFound: not in the repository, or unloaded.
            NotServing: it loads, or could not be loaded; the text has the reason.
            InvalidRequest: the version is not a number.
        """
        versions = self._models.get(name)
        if versions and not version:
            return versions[max(versions)]
        number = version_number(name, version) if version else 0
        if versions and number in versions:
            return versions[number]
        if not self._was_read and not self._entries.get(name):
            raise NotServing(NOT_READ)
        raise absence(name, number, self._entries.get(name, {}))

    def get_model(self, name: str, version: str = "") -> Model:
        """`get` for what has an engine of its own.

        Raises:
            InvalidRequest: it is an ensemble.
        """
        found = self.get(name, version)
        if isinstance(found, Ensemble):
            raise InvalidRequest(f"model {name!r} is an ensemble, for tensors: use ModelInfer")
        return found

    def index(self) -> list[IndexEntry]:
        """Every version that was tried, by name and version."""
        return [entry for name in sorted(self._entries) for _, entry in sorted(self._entries[name].items())]

    def readiness(self) -> dict[str, bool]:
        """Whether each model that should be ready is: served, and none of its versions failed. While one is read again
        the old one serves. Not there: what was unloaded, and what is on its way out."""
        wanted = [entry for entry in self.index() if entry.state is not State.UNLOADING and not entry.unloaded]
        found = {entry.name: entry.name in self._models for entry in wanted}
        return found | {entry.name: False for entry in wanted if entry.failed}

    def is_ready(self, strict: bool) -> bool:
        """Whether requests may come. `strict`: only if every model that should serve does; else as soon as one does."""
        if strict:
            return not self.problem and not any(entry.failed for entry in self.index())
        return bool(self._models) or (not self.problem and not self.readiness())

    @property
    def problem(self) -> str:
        """Why there are no models, "" if there are any."""
        return "" if self._entries else self._empty

    def ready(self) -> Sequence[Served]:
        """Every version that accepts requests."""
        return [model for versions in self._models.values() for model in versions.values()]

    def _mark(self, name: str, version: int, state: State, reason: str = "") -> None:
        self._entries.setdefault(name, {})[version] = IndexEntry(name, version, state, reason)
        self._changed()

    def _unavailable(self, name: str, version: int, reason: str) -> IndexEntry:
        return IndexEntry(name, version, State.UNAVAILABLE, self._reasons.of(reason))

    def _ready_entry(self, model: Served, reason: str) -> IndexEntry:
        shown = self._reasons.of(reason)
        if isinstance(model, Ensemble):
            return IndexEntry(model.name, model.version, State.READY, shown, None, model.max_batch_size)
        choice = replace(model.choice, why=self._reasons.of(model.choice.why))
        space = None if model.spec is None else model.space
        return IndexEntry(
            model.name, model.version, State.READY, shown, model.spec, model.max_batch_size, choice, space
        )

    def _changed(self) -> None:
        """After every change of state: ensembles follow their models."""
        if self._ensembles.wanted:
            for name, binding in self._ensembles.bind(self._models, self._entries).items():
                if name not in self._loading:
                    self._show(name, binding)
        self._notify()

    def _show(self, name: str, binding: Binding) -> None:
        """Takes an ensemble's binding over, if it is another than before."""
        entries = self._entries.setdefault(name, {})
        if binding.models:
            if self._models.get(name) == binding.models:
                return
            self._models[name] = dict(binding.models)
            entries |= {version: self._ready_entry(model, "") for version, model in binding.models.items()}
            log.info("ensemble ready", extra={"fields": {"model": name}})
            return
        self._models.pop(name, None)
        reason = self._reasons.of(binding.reason)
        for version in self._ensembles.wanted[name].versions:
            entry = IndexEntry(name, version, binding.state, reason, withdrawn=binding.withdrawn)
            if entries.get(version) != entry:
                entries[version] = entry
                if binding.state is State.UNAVAILABLE:
                    log.warning("ensemble unavailable", extra={"fields": {"model": name, "reason": binding.reason}})
