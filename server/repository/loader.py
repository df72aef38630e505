"""One version of one model: files verified, its engines opened, every batch size warmed. Off the request path."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.repository import ArtifactError, read_manifest, verify
from artifact.spec import Spec, SpecError
from server.batching.batcher import Batcher
from server.batching.device import Device
from server.engines.base import Engine
from server.errors import NotServing, StartError
from server.observability.model_statistics import ModelStatistics
from server.repository.defaults import NONE, Defaults
from server.repository.devices import Devices
from server.repository.engine_choice import Opened
from server.repository.model_config import AUTO_MAX_BATCH_SIZE, PLAN_PLATFORM, check_spec, complete, policy_of
from server.repository.placement import placements, remarks
from server.repository.warmup import warm
from server.settings import Settings

log = logging.getLogger(__name__)


class Metrics(Protocol):
    """What loading reports."""

    def model(self, name: str, version: int) -> ModelStatistics: ...

    def forget(self, name: str, version: int) -> None: ...

    def loaded(self, model: str, version: int, seconds: float) -> None: ...

    def watch_queue(self, model: str, waiting: Callable[[], int], version: int = 0) -> None: ...


class Opener(Protocol):
    """What opens a version's engine for one device."""

    def open(
        self,
        folder: Path,
        config: ModelConfig | None,
        spec: Spec | None,
        device: str,
        batched: bool,
        fell_back: Callable[[int], None],
    ) -> Opened:
        """Blocks. Raises NotServing with the reason where nothing can be served there."""


@dataclass(frozen=True)
class Model:
    """A version that is ready. `spec` is None for a model without a manifest: plain tensors only."""

    name: str
    version: int
    spec: Spec | None
    config: ModelConfig
    engine: Engine  # the first of the batcher's, for what all of them have in common: inputs and outputs
    batcher: Batcher
    statistics: ModelStatistics
    defaults: Defaults = NONE  # what tensor requests may leave out
    note: str = ""  # what an operator should know of a model that is ready: that something else serves than the best

    @property
    def max_batch_size(self) -> int:
        """Rows that one run takes at most; 0 for a graph without a batch axis."""
        return int(self.config.max_batch_size)


@dataclass(frozen=True)
class Version:
    """What a version's engines are opened from. `batched`: None where only the graph can say."""

    folder: Path
    config: ModelConfig | None
    spec: Spec | None
    batched: bool | None
    fell_back: Callable[[int], None]


class Loader:
    """Opens versions on the devices that their configs name."""

    def __init__(self, settings: Settings, devices: Devices, opener: Opener, metrics: Metrics) -> None:
        self._settings = settings
        self._devices = devices
        self._opener = opener
        self._metrics = metrics

    async def load(self, name: str, version: int, folder: Path, config: ModelConfig | None) -> Model:
        """The version in `folder`, warmed and ready for requests.

        Raises:
            NotServing: it cannot be served; the text is the reason that RepositoryIndex shows.
        """
        started_at = time.monotonic()
        for remark in remarks(config, self._devices.gpus):
            log.info("instance_group: no effect", extra={"fields": {"model": name, "what": remark}})
        opened: dict[Device, Opened] = {}
        try:
            model = await self._load(name, version, folder, config, opened)
        except BaseException as error:
            await _free({device: one.engine for device, one in opened.items()})
            if isinstance(error, ArtifactError | SpecError | StartError | OSError):
                raise NotServing(str(error)) from error
            raise
        seconds = time.monotonic() - started_at
        self._metrics.loaded(name, version, seconds)
        said = {"model": name, "version": version}
        log.info("model ready", extra={"fields": {**said, "seconds": round(seconds, 3)}})
        if model.note:
            log.warning("model not served at its best", extra={"fields": {**said, "reason": model.note}})
        return model

    async def close(self, model: Model, replaced: bool) -> None:
        """Ends a version: no new requests, those accepted are answered, then its engines are freed.

        `replaced`: the same version was loaded anew and goes on counting in the same series.
        """
        await model.batcher.drain()
        await _free(model.batcher.engines)
        if not replaced:
            self._metrics.forget(model.name, model.version)

    async def _load(
        self, name: str, version: int, folder: Path, config: ModelConfig | None, opened: dict[Device, Opened]
    ) -> Model:
        """The model; `opened` has what was opened of it by then, also where it fails."""
        spec = await asyncio.to_thread(_read, folder)
        loop = asyncio.get_running_loop()

        def fell_back(rows: int) -> None:  # on a lane's thread
            loop.call_soon_threadsafe(lambda: self._metrics.model(name, version).fell_back(rows))

        files = Version(folder, config, spec, None if config is None else config.max_batch_size > 0, fell_back)
        batched = await self._open(files, opened)
        best = next(iter(opened.values()))
        default = AUTO_MAX_BATCH_SIZE if batched else 0
        max_batch_size = config.max_batch_size if config is not None else default
        defaults = await asyncio.to_thread(Defaults, spec)
        full = complete(config, name, best.engine, best.platform, max_batch_size, defaults.names)
        for device, one in opened.items():
            if spec is not None:
                check_spec(spec, one.engine)
            await warm(device, one.engine, spec, one.platform == PLAN_PLATFORM, full.max_batch_size)
        statistics = self._metrics.model(name, version)
        engines = {device: one.engine for device, one in opened.items()}
        batcher = Batcher(engines, policy_of(full, self._settings), statistics)
        self._metrics.watch_queue(name, lambda: batcher.waiting_items, version)
        note = "; ".join(dict.fromkeys(one.note for one in opened.values() if one.note))
        return Model(name, version, spec, full, best.engine, batcher, statistics, defaults, note)

    async def _open(self, files: Version, opened: dict[Device, Opened]) -> bool:
        """Opens an engine in every place; whether the graph has a batch axis."""
        batched = files.batched
        for placement in placements(files.config, self._devices.default, self._devices.gpus):
            device = self._devices.at(placement)
            opened[device] = await asyncio.to_thread(self._open_one, files, device.name, bool(batched))
            if batched is None:
                batched = _has_batch_axis(opened[device].engine)
                if batched:
                    await device.call(opened.pop(device).engine.close)
                    opened[device] = await asyncio.to_thread(self._open_one, files, device.name, True)
        return bool(batched)

    def _open_one(self, files: Version, device: str, batched: bool) -> Opened:
        return self._opener.open(files.folder, files.config, files.spec, device, batched, files.fell_back)


def _read(folder: Path) -> Spec | None:
    spec = read_manifest(folder)
    if spec is not None:
        verify(folder, spec)
    return spec


def _has_batch_axis(engine: Engine) -> bool:
    """Triton's rule for a model without a config: a first axis that is free in every tensor is the batch."""
    return all(tensor.shape and tensor.shape[0] == -1 for tensor in (*engine.inputs, *engine.outputs))


async def _free(engines: Mapping[Device, Engine]) -> None:
    """Closes each engine on its device's lane, whatever happens to the others."""
    calls = (device.call(engine.close) for device, engine in engines.items())
    for problem in await asyncio.gather(*calls, return_exceptions=True):
        if problem is not None:
            log.error("engine not freed", exc_info=problem)
