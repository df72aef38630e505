"""What of the model repository is served: load, unload, swap, and the state of every model."""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from server.errors import GanserveError, ModelNotFound, NotServing, StartError
from server.repository.catalogue import Catalogue
from server.repository.config_fields import without_effect
from server.repository.ensemble import Served
from server.repository.ensemble_config import is_ensemble, without_use
from server.repository.ensembles import Ensembles, Wanted
from server.repository.index import UNLOADED, IndexEntry, State
from server.repository.loader import FilesNotWhole, Loader, unexpected
from server.repository.model import Model
from server.repository.model_config import VersionChoice, read_labels
from server.repository.model_folder import read_model
from server.repository.operations import Operations
from server.repository.override import Override, OverrideBudget
from server.repository.polling import Changes
from server.repository.reasons import Reasons
from server.repository.scan import names_in, scan, why_empty
from server.settings import Settings

# How long a model may load before the next one is begun too.
PATIENCE_S = 60.0

log = logging.getLogger(__name__)


class Repository(Catalogue):
    """Loads and unloads the models of a folder. Loop thread only; loading runs while requests are served and swaps in
    one step.

    A load or unload that was begun runs to its end, even if the client that asked for it leaves.
    """

    def __init__(self, settings: Settings, loader: Loader, changed: Callable[[], None]) -> None:
        """`changed` is called after every change of state.

        Raises:
            StartError: the repository is no folder, or cannot be read.
        """
        root = settings.repository
        try:
            names_in(root)
        except FileNotFoundError:
            raise StartError(f"repository {root}: no such folder") from None
        except OSError as error:
            raise StartError(f"repository {root}: {error.strerror}") from None
        self._root = root.absolute()
        super().__init__(Reasons(self._root), Ensembles(loader.metrics), changed)
        self._changes = Changes(self._root)
        self._loader = loader
        self._operations = Operations()
        self._overrides = OverrideBudget(settings.max_override_bytes)
        self._config_name = settings.model_config_name

    async def load_all(self, wanted: Collection[str] | None = None) -> None:
        """Loads every model on disk, or those `wanted`; one that fails does not stop the others."""
        try:
            await asyncio.to_thread(self._changes.start)
            found = await asyncio.to_thread(scan, self._root)
            empty = "" if found.models else await asyncio.to_thread(why_empty, self._root)
        except OSError as error:
            self._empty = f"the repository cannot be read: {error.strerror}"
            self._was_read = True
            log.error("no models", extra={"fields": {"reason": self._empty, "repository": str(self._root)}})
            return
        if found.others:
            log.warning("not a model", extra={"fields": {"folders": ", ".join(found.others)}})
        self._empty = self._reasons.of(empty)
        if self._empty:
            log.warning("no models", extra={"fields": {"reason": empty, "repository": str(self._root)}})
        for name, reason in found.broken.items():
            if wanted is None or name in wanted:
                self._refuse(name, NotServing(reason))
        models = [name for name in found.models if wanted is None or name in wanted]
        for name in set(wanted or ()) - {*models, *found.broken}:
            self._refuse(name, NotServing("the repository has no such model (load_model)"))
        loading = (name for name in models if name not in self._entries)  # a client may have been quicker
        self._entries |= {name: {0: IndexEntry(name, 0, State.LOADING, "")} for name in loading}
        self._changed()  # once for all: what follows looks at every model
        self._was_read = True
        await self._load_each(models)

    async def follow(self, period_s: float) -> None:
        """Looks at the disk every `period_s`: loads what was added or changed, and drops what is gone."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(period_s):
                    await asyncio.Event().wait()
            try:
                found = await asyncio.to_thread(self._changes.find)
            except OSError as error:
                log.warning("repository not read", extra={"fields": {"reason": error.strerror or str(error)}})
                continue
            for name, reason in found.broken.items():
                if name not in self._entries:
                    self._refuse(name, NotServing(reason))
            for name in found.gone:
                with contextlib.suppress(GanserveError):  # the server is stopping
                    await self._operations.run(name, self._forget)
            await self._load_each(found.changed)

    async def unread(self) -> list[str]:
        """The names of models on disk that are not in the index, since nobody has loaded them."""
        try:
            found = await asyncio.to_thread(scan, self._root)
        except OSError:
            return []
        return [name for name in found.models if name not in self._entries]

    async def _load_each(self, names: Iterable[str]) -> None:
        """One after the other; a load that takes longer than PATIENCE_S does not keep the next waiting."""
        async with asyncio.TaskGroup() as loads:
            for name in names:
                await asyncio.wait({loads.create_task(self._load_found(name))}, timeout=PATIENCE_S)

    async def _load_found(self, name: str) -> None:
        with contextlib.suppress(GanserveError):  # removed meanwhile; or its reason is in the index
            await self.load(name)

    async def load(self, name: str, override: Override | None = None) -> None:
        """Reads the model again from disk and swaps it in; until then the old one serves.

        A caller who leaves does not stop it. Callers that come while the same load waits for its turn share it.
        With an `override` that is taken in place of what is on disk, until the next load without one.

        Raises:
            ModelNotFound: no such model.
            NotServing: nothing new of it could be loaded, or not all that its version policy names; versions that
                served before still do.
            Overloaded: too many loads and unloads of the model wait already, or too much was handed over.
        """
        if override is None:
            await self._operations.run(name, self._load)
            return
        self._overrides.take(override.nbytes)
        try:
            done = self._operations.begin(name, partial(self._load_override, override=override))
        except BaseException:
            self._overrides.give_back(override.nbytes)
            raise
        done.add_done_callback(lambda _: self._overrides.give_back(override.nbytes))
        await asyncio.shield(done)

    async def unload(self, name: str, dependents: bool = False) -> None:
        """Stops serving a model; accepted requests are answered first. One that failed is no longer missed, and one
        that was never there is left as it is. `dependents`: of an ensemble, its models too.

        Raises:
            Overloaded: too many loads and unloads of the model wait already.
        """
        wanted = self._ensembles.wanted.get(name)
        await self._operations.run(name, self._unload)
        for member in wanted.members if dependents and wanted is not None else ():
            await self.unload(member, dependents)

    async def close(self) -> None:
        """Unloads everything. Loads that have not ended are given up."""
        await self._operations.close(wait_for=(self._unload, self._forget))
        self._ensembles.wanted.clear()
        await asyncio.gather(*(self._unload(name) for name in list(self._models)))

    async def _load_override(self, name: str, override: Override) -> None:
        log.info("model handed over", extra={"fields": {"model": name, "files": len(override.files)}})
        if not override.files:
            await self._load(name, None, override.config)
            return
        storing = asyncio.create_task(asyncio.to_thread(override.store, name))
        try:
            folder = await asyncio.shield(storing)
            await self._load(name, folder, override.config, override.nbytes)
        finally:  # whatever serves has it in memory
            await asyncio.wait({storing})  # a thread goes on writing when the server stops
            if storing.exception() is None:
                await asyncio.to_thread(shutil.rmtree, storing.result().parent, ignore_errors=True)

    async def _load(
        self, name: str, folder: Path | None = None, config: ModelConfig | None = None, nbytes: int = 0
    ) -> None:
        """From `folder`, else from the model's; with `config`, else with the folder's. `nbytes`: what the folder counts
        of `max_override_bytes`."""
        try:
            found = await asyncio.to_thread(read_model, self._root, name, self._config_name, folder, config)
        except ModelNotFound:
            if name not in self._models and name in self._entries:
                del self._entries[name]
                self._changed()
            raise
        except NotServing as error:
            self._refuse(name, error)
            raise NotServing(self._reasons.of(error)) from None
        try:
            if found.config is not None and is_ensemble(found.config):
                await self._load_ensemble(name, found.path, found.config, found.choice)
                self._overrides.serves(name, nbytes)
            else:
                await self._load_versions(name, *found, nbytes)
        except GanserveError:
            raise
        except Exception as error:  # other models go on
            self._refuse(name, reason := unexpected(error))
            raise reason from error

    async def _load_ensemble(self, name: str, folder: Path, config: ModelConfig, choice: VersionChoice) -> None:
        """Loads those of its models that nobody has loaded, and binds it to them."""
        config.name = name
        old, before = self._models.get(name, {}), self._ensembles.wanted.get(name)
        try:
            labels = await asyncio.to_thread(read_labels, config, folder)
        except NotServing as error:
            self._refuse(name, error)
            raise NotServing(self._reasons.of(error)) from None
        for what in (*without_effect(config), *without_use(config)):
            log.warning("config.pbtxt: no effect", extra={"fields": {"model": name, "what": what}})
        self._ensembles.wanted[name] = wanted = Wanted(config, choice.versions[: choice.count], labels)
        self._entries.get(name, {}).pop(0, None)
        self._loading.add(name)
        try:
            for version in wanted.versions:
                self._mark(name, version, State.LOADING)
            for member in wanted.members:
                if member in self._ensembles.wanted:
                    continue  # it may wait for this one
                if all(entry.unloaded for entry in self._entries.get(member, {}).values()):
                    with contextlib.suppress(GanserveError):  # its reason is the ensemble's
                        await self._operations.run(member, self._load)
                else:
                    await self._operations.settled(member)
        finally:
            self._loading.discard(name)
        binding = self._ensembles.bind(self._models, self._entries)[name]
        if binding.state is State.UNAVAILABLE and old:
            self._ensembles.drop(name)
            if before is not None:
                self._ensembles.wanted[name] = before
            self._refuse(name, NotServing(binding.reason))
        else:
            self._show(name, binding)
            self._changed()
            await self._close_replaced(name, old, binding.models)
        if binding.state is State.UNAVAILABLE:
            raise NotServing(self._reasons.of(binding.reason))

    async def _load_versions(
        self, name: str, folder: Path, config: ModelConfig | None, choice: VersionChoice, nbytes: int
    ) -> None:
        old = self._models.get(name, {})
        self._entries.get(name, {}).pop(0, None)
        fresh: dict[int, Served] = {}
        problems: dict[int, NotServing | FilesNotWhole] = {}
        taken = 0
        for version in choice.versions:
            if taken == choice.count:
                break
            self._mark(name, version, State.LOADING)
            try:
                fresh[version] = await self._loader.load(name, version, folder / str(version), config)
            except (NotServing, FilesNotWhole) as error:
                problems[version] = error
                if isinstance(error, FilesNotWhole) and choice.is_newest and version not in old:
                    continue  # the next older one serves in its place
            taken += 1
        served = {**{version: old[version] for version in problems if version in old}, **fresh} or old
        if fresh:
            self._ensembles.drop(name)
            self._overrides.serves(name, nbytes, keeps_old=len(served) > len(fresh))
        self._settle(name, served, problems, choice.is_newest)
        await self._close_replaced(name, old, served)
        if problems and not (fresh and choice.is_newest):
            raise NotServing(self._reasons.of(next(iter(problems.values()))))

    def _settle(
        self, name: str, served: Mapping[int, Served], problems: Mapping[int, Exception], is_newest: bool
    ) -> None:
        """Takes over what was loaded, and shows what was not.

        `is_newest`: the config names no versions, so those that could not be loaded are missed only if no other serves.
        """
        notes = {version: [model.note] if model.note else [] for version, model in served.items()}
        entries: dict[int, IndexEntry] = {}
        for version, problem in problems.items():
            if version in served:
                notes[version].append(f"reload failed: {problem}")
            elif served and is_newest:
                notes[max(served)].append(f"version {version} is not served: {problem}")
            else:
                entries[version] = self._unavailable(name, version, str(problem))
            message = "version not served" if served else "model unavailable"
            log.error(message, extra={"fields": {"model": name, "reason": str(problem)}})
        for version, model in served.items():
            entries[version] = self._ready_entry(model, "; ".join(notes[version]))
        if served:
            self._models[name] = dict(served)
        self._entries[name] = entries
        self._changed()

    async def _close_replaced(self, name: str, old: Mapping[int, Served], served: Mapping[int, Served]) -> None:
        for version, model in old.items():
            if served.get(version) is model:
                continue
            gone = version not in served
            if gone:
                self._mark(name, version, State.UNLOADING)
            await self._close(model, replaced=not gone)
            if gone:
                self._mark(name, version, State.UNAVAILABLE, UNLOADED)

    async def _close(self, model: Served, replaced: bool) -> None:
        if isinstance(model, Model):
            await self._loader.close(model, replaced)
        elif not replaced:
            self._ensembles.forget(model)

    def _refuse(self, name: str, error: NotServing) -> None:
        """Shows why nothing of the model could be loaded; what serves goes on."""
        old = self._models.get(name, {})
        if not old:
            self._ensembles.drop(name)
        message = "reload failed" if old else "model unavailable"
        log.error(message, extra={"fields": {"model": name, "reason": str(error)}})
        entries = {version: self._ready_entry(model, f"reload failed: {error}") for version, model in old.items()}
        self._entries[name] = entries or {0: self._unavailable(name, 0, str(error))}
        self._changed()

    async def _unload(self, name: str) -> None:
        self._ensembles.unload(name)
        leaving = self._models.pop(name, {})
        self._overrides.serves(name, 0)
        for version in leaving:
            self._mark(name, version, State.UNLOADING)
        for model in leaving.values():
            await self._close(model, replaced=False)
        for version in self._entries.get(name, {}):
            self._mark(name, version, State.UNAVAILABLE, UNLOADED)  # those that failed are wanted no more

    async def _forget(self, name: str) -> None:
        await self._unload(name)
        self._entries.pop(name, None)
        self._empty = "the repository holds no models any more"
        log.info("model removed", extra={"fields": {"model": name}})
        self._changed()
