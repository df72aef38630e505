"""The model repository on disk and what of it is served: scan, versions, load, unload, swap."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from artifact.spec import Spec
from server.errors import InvalidRequest, ModelNotFound, NotServing, StartError
from server.repository.loader import Loader, Model
from server.repository.model_config import read_config, versions_to_serve

log = logging.getLogger(__name__)


class State(StrEnum):
    """Triton's names for the state of a version."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True)
class IndexEntry:
    """One line of the index. Version 0: the model has none that could be tried."""

    name: str
    version: int
    state: State
    reason: str
    spec: Spec | None
    max_batch_size: int

    @property
    def failed(self) -> bool:
        """Whether it should be ready and is not, other than by a client's unload."""
        return self.state is State.UNAVAILABLE and self.reason != UNLOADED


UNLOADED = "unloaded"


class Repository:
    """Models by name and version. Loop thread only; loading runs while requests are served and swaps in one step."""

    def __init__(self, root: Path, loader: Loader, changed: Callable[[], None]) -> None:
        """`changed` is called after every change of state."""
        if not root.is_dir():
            raise StartError(f"repository {root}: no such folder")
        self._root = root
        self._loader = loader
        self._changed = changed
        self._models: dict[str, dict[int, Model]] = {}
        self._entries: dict[str, dict[int, IndexEntry]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def get(self, name: str, version: str = "") -> Model:
        """The model, at a version or at its newest.

        Raises:
            ModelNotFound: not in the repository.
            NotServing: there, but not ready; the text has the reason.
            InvalidRequest: the version is not a number.
        """
        versions = self._models.get(name)
        if versions and not version:
            return versions[max(versions)]
        number = _number(name, version) if version else 0
        if versions and number in versions:
            return versions[number]
        raise self._absence(name, number)

    def index(self) -> list[IndexEntry]:
        """Every version that was tried, by name and version."""
        return [entry for name in sorted(self._entries) for _, entry in sorted(self._entries[name].items())]

    def readiness(self) -> dict[str, bool]:
        """Whether each model that should be ready is: served, and none of its versions failed. While one is read again
        the old one serves. Not there: what was unloaded, and what is on its way out."""
        wanted = [entry for entry in self.index() if entry.state is not State.UNLOADING and entry.reason != UNLOADED]
        found = {entry.name: entry.name in self._models for entry in wanted}
        return found | {entry.name: False for entry in wanted if entry.failed}

    def ready(self) -> Sequence[Model]:
        """Every version that accepts requests."""
        return [model for versions in self._models.values() for model in versions.values()]

    async def load_all(self) -> None:
        """Loads every model on disk, one after the other; one that fails does not stop the others."""
        names = sorted(path.name for path in self._root.iterdir() if path.is_dir() and not path.name.startswith("."))
        for name in names:
            self._mark(name, 0, State.LOADING)
        for name in names:
            try:
                await self.load(name)
            except NotServing as error:
                log.error("model unavailable", extra={"fields": {"model": name, "reason": str(error)}})

    async def load(self, name: str) -> None:
        """Reads the model again from disk and swaps it in; until then the old one serves.

        Raises:
            ModelNotFound: no such folder.
            NotServing: no version of it could be loaded; versions that served before still do.
        """
        folder = self._root / name
        if not name or "/" in name or name.startswith(".") or not folder.is_dir():
            raise ModelNotFound(f"model {name!r} is not in the repository")
        async with self._locks.setdefault(name, asyncio.Lock()):
            try:
                config = read_config(folder)
                wanted = versions_to_serve(config, _versions(folder))
                if not wanted:
                    raise NotServing(f"no version of {name!r} to serve: a version is a folder named by a number")
            except NotServing as error:
                if name not in self._models:
                    self._entries[name] = {}
                self._mark(name, 0, State.UNAVAILABLE, str(error))
                raise
            self._entries.get(name, {}).pop(0, None)
            problems: list[NotServing] = []
            fresh: dict[int, Model] = {}
            for version in wanted:
                self._mark(name, version, State.LOADING)
                try:
                    fresh[version] = await self._loader.load(name, version, folder / str(version), config)
                except NotServing as error:
                    problems.append(error)
                    old = self._models.get(name, {}).get(version)
                    if old is not None:
                        self._mark_ready(old, f"reload failed: {error}")
                    else:
                        self._mark(name, version, State.UNAVAILABLE, str(error))
            await self._swap(name, fresh)
        if problems:
            raise problems[0]

    async def unload(self, name: str) -> None:
        """Stops serving a model; accepted requests are answered first. One that failed is no longer missed.

        Raises:
            ModelNotFound: it was never in the index.
        """
        if name not in self._entries:
            raise ModelNotFound(f"model {name!r} is not in the repository")
        async with self._locks.setdefault(name, asyncio.Lock()):
            leaving = self._models.pop(name, {})
            for version, model in leaving.items():
                self._mark(name, version, State.UNLOADING)
                await self._loader.close(model, replaced=False)
            for version in self._entries[name]:
                self._mark(name, version, State.UNAVAILABLE, UNLOADED)  # those that failed are wanted no more

    async def close(self) -> None:
        """Unloads everything."""
        await asyncio.gather(*(self.unload(name) for name in list(self._models)))

    async def _swap(self, name: str, fresh: dict[int, Model]) -> None:
        if not fresh:
            return
        replaced = self._models.get(name, {})
        self._models[name] = fresh
        for model in fresh.values():
            self._mark_ready(model, model.note)
        for version, model in replaced.items():
            if version not in fresh:
                self._mark(name, version, State.UNLOADING)
            await self._loader.close(model, replaced=version in fresh)
            if version not in fresh:
                self._mark(name, version, State.UNAVAILABLE, UNLOADED)

    def _mark(self, name: str, version: int, state: State, reason: str = "") -> None:
        self._entries.setdefault(name, {})[version] = IndexEntry(name, version, state, reason, None, 0)
        self._changed()

    def _mark_ready(self, model: Model, reason: str) -> None:
        entry = IndexEntry(model.name, model.version, State.READY, reason, model.spec, model.max_batch_size)
        self._entries.setdefault(model.name, {})[model.version] = entry
        self._changed()

    def _absence(self, name: str, version: int) -> ModelNotFound | NotServing:
        entries = self._entries.get(name)
        if not entries:
            return ModelNotFound(f"model {name!r} is not in the repository")
        entry = entries.get(version) or max(entries.values(), key=lambda entry: entry.version)
        if version and version not in entries:
            return NotServing(f"model {name!r} has no version {version} ready; the index has {sorted(entries)}")
        return NotServing(f"model {name!r} is {entry.state}" + (f": {entry.reason}" if entry.reason else ""))


def _number(name: str, version: str) -> int:
    if not version.isdecimal() or not 0 < int(version) < 1 << 63:
        raise InvalidRequest(f"model {name!r}: version {version!r} is not a positive integer")
    return int(version)


def _versions(folder: Path) -> list[int]:
    return [
        int(path.name) for path in folder.iterdir() if path.is_dir() and path.name.isdecimal() and path.name[0] != "0"
    ]
