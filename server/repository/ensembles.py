"""The ensembles of the repository: which should serve, and whether the models that serve at the moment make them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from tritonclient.grpc.model_config_pb2 import ModelConfig

from server.errors import NotServing
from server.observability.metrics import Metrics
from server.observability.model_statistics import ModelStatistics
from server.repository.ensemble import Ensemble, Served, bind
from server.repository.ensemble_config import MAX_STEPS
from server.repository.index import IndexEntry, State
from server.repository.loader import unexpected
from server.repository.metric_config import read_buckets, read_tags

# Ensembles in ensembles: no more than the steps that one may have.
MAX_DEPTH = MAX_STEPS


@dataclass(frozen=True)
class Wanted:
    """An ensemble as it was read. `labels`: of its outputs' indices."""

    config: ModelConfig
    versions: Sequence[int]
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def members(self) -> list[str]:
        """The names of its models, each once."""
        return list(dict.fromkeys(step.model_name for step in self.config.ensemble_scheduling.step))


class Binding(NamedTuple):
    """Whether an ensemble can serve: its versions, or else the state and the reason.

    `withdrawn`: it cannot because a client unloaded a model of it.
    """

    models: dict[int, Ensemble]
    state: State = State.READY
    reason: str = ""
    withdrawn: bool = False


class _Missing(NotServing):
    """A model of an ensemble does not serve."""

    def __init__(self, text: str, state: State = State.UNAVAILABLE, withdrawn: bool = False) -> None:
        super().__init__(text)
        self.state = state
        self.withdrawn = withdrawn


Models = Mapping[str, Mapping[int, Served]]
Entries = Mapping[str, Mapping[int, IndexEntry]]


class Ensembles:
    """Those that should serve, by name. Loop thread only."""

    def __init__(self, metrics: Metrics) -> None:
        self.wanted: dict[str, Wanted] = {}
        self._metrics = metrics

    def drop(self, name: str) -> None:
        """It should not serve any more."""
        self.wanted.pop(name, None)

    def unload(self, name: str) -> None:
        """`drop`, on request: its series leave the metrics, also of what has not served of late."""
        wanted = self.wanted.pop(name, None)
        for version in () if wanted is None else wanted.versions:
            self._metrics.forget(name, version)

    def forget(self, ensemble: Ensemble) -> None:
        """A version of it was unloaded: its series leave the metrics."""
        self._metrics.forget(ensemble.name, ensemble.version)

    def bind(self, models: Models, entries: Entries) -> dict[str, Binding]:
        """Every ensemble that should serve, bound to `models`; one whose models are the same stays the same object.

        `entries`: of the index, for the reasons.
        """
        found: dict[str, Binding] = {}
        for name in self.wanted:
            self._bind(name, models, entries, found, ())
        return found

    def _bind(
        self, name: str, models: Models, entries: Entries, found: dict[str, Binding], path: tuple[str, ...]
    ) -> Binding:
        if name in path:
            raise NotServing(f"circular dependency between ensembles: {' -> '.join([*path, name])}")
        if len(path) >= MAX_DEPTH:
            raise NotServing(f"ensembles in ensembles: {' -> '.join([*path, name])}; at most {MAX_DEPTH} levels")
        if name not in found:
            try:
                found[name] = Binding(self._versions(name, models, entries, found, (*path, name)))
            except _Missing as error:
                found[name] = Binding({}, error.state, str(error), error.withdrawn)
            except NotServing as error:
                found[name] = Binding({}, State.UNAVAILABLE, str(error))
            except Exception as error:  # the other models of the repository go on
                found[name] = Binding({}, State.UNAVAILABLE, str(unexpected(error)))
        return found[name]

    def _versions(
        self, name: str, models: Models, entries: Entries, found: dict[str, Binding], path: tuple[str, ...]
    ) -> dict[int, Ensemble]:
        wanted = self.wanted[name]

        def find(member: str, version: int) -> Served:
            served: Mapping[int, Served]
            if member in self.wanted:
                binding = self._bind(member, models, entries, found, path)
                served = binding.models
                if not served:
                    text = f"its model {member!r} is not available: {binding.reason}"
                    raise _Missing(text, binding.state, binding.withdrawn)
            else:
                served = models.get(member, {})
                if not served:
                    raise _missing(member, entries.get(member, {}))
            if version != -1 and version not in served:
                have = ", ".join(map(str, sorted(served)))
                raise _Missing(f"its model {member!r} has no version {version}; served are {have}")
            return served[max(served) if version == -1 else version]

        bound = {}
        for version in wanted.versions:
            statistics = partial(self._statistics, name, version, wanted.config)
            fresh = bind(name, version, wanted.config, statistics, wanted.labels, find)
            old = models.get(name, {}).get(version)
            is_same = isinstance(old, Ensemble) and old.config is fresh.config and old.members == fresh.members
            bound[version] = old if isinstance(old, Ensemble) and is_same else fresh
        return bound

    def _statistics(self, name: str, version: int, config: ModelConfig) -> ModelStatistics:
        self._metrics.configure(name, version, read_tags(config), read_buckets(config))
        return self._metrics.model(name, version)


def _missing(member: str, entries: Mapping[int, IndexEntry]) -> _Missing:
    """Why a model of an ensemble does not serve, as the index says it."""
    if not entries:
        return _Missing(f"its model {member!r} is not in the repository, or not loaded")
    newest = entries[max(entries)]
    if any(entry.state is State.LOADING for entry in entries.values()):
        return _Missing(f"its model {member!r} is loading", State.LOADING)
    withdrawn = all(entry.unloaded or entry.state is State.UNLOADING for entry in entries.values())
    reason = newest.reason or str(newest.state)
    return _Missing(f"its model {member!r} is not available: {reason}", withdrawn=withdrawn)
