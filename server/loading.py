"""One version of one model: files read and verified, graph opened, every batch size warmed. Off the request path."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from tritonclient.grpc.model_config_pb2 import ModelConfig

from models.artifact import ONNX, PLAN, ArtifactError, read_manifest, verify
from models.spec import Spec, SpecError, TensorSpec
from server.batcher import Batcher
from server.defaults import NONE, Defaults
from server.device import Device
from server.engines import NUMPY_OF, Engine
from server.errors import NotServing, StartError
from server.model_config import AUTO_MAX_BATCH_SIZE, check_spec, complete, policy_of
from server.settings import Settings
from server.statistics import ModelStatistics

# What a free axis is warmed at on a CPU, where nothing is compiled for a shape; a GPU warms at the tile's own size.
CPU_WARM_PX = 32

log = logging.getLogger(__name__)

OpenEngine = Callable[[Path, bool], Engine]


class Metrics(Protocol):
    """What loading reports."""

    def model(self, name: str, version: int) -> ModelStatistics: ...

    def forget(self, name: str, version: int) -> None: ...

    def loaded(self, model: str, version: int, seconds: float) -> None: ...

    def watch_queue(self, model: str, waiting: Callable[[], int], version: int = 0) -> None: ...


@dataclass(frozen=True)
class Model:
    """A version that is ready. `spec` is None for a model without a manifest: plain tensors only."""

    name: str
    version: int
    spec: Spec | None
    config: ModelConfig
    engine: Engine
    batcher: Batcher
    statistics: ModelStatistics
    defaults: Defaults = NONE  # what tensor requests may leave out

    @property
    def max_batch_size(self) -> int:
        """Rows that one run takes at most; 0 for a graph without a batch axis."""
        return int(self.config.max_batch_size)


class Loader:
    """Opens versions on one device."""

    def __init__(self, settings: Settings, device: Device, open_engine: OpenEngine, metrics: Metrics) -> None:
        self._settings = settings
        self._device = device
        self._open_engine = open_engine
        self._metrics = metrics

    async def load(self, name: str, version: int, folder: Path, config: ModelConfig | None) -> Model:
        """The version in `folder`, warmed and ready for requests.

        Raises:
            NotServing: it cannot be served; the text is the reason that RepositoryIndex shows.
        """
        started_at = time.monotonic()
        try:
            spec, engine, batched = await asyncio.to_thread(self._open, folder, config)
        except (ArtifactError, SpecError, StartError, OSError) as error:
            raise NotServing(str(error)) from error
        default = AUTO_MAX_BATCH_SIZE if batched else 0
        max_batch_size = config.max_batch_size if config is not None else default
        defaults = await asyncio.to_thread(Defaults, spec)
        full = complete(config, name, engine, max_batch_size, defaults.names)
        if spec is not None:
            check_spec(spec, engine)
        await self._warm(engine, spec, full.max_batch_size)
        statistics = self._metrics.model(name, version)
        batcher = Batcher(engine, self._device, policy_of(full, self._settings), statistics)
        self._metrics.watch_queue(name, lambda: batcher.waiting_rows, version)
        seconds = time.monotonic() - started_at
        self._metrics.loaded(name, version, seconds)
        log.info("model ready", extra={"fields": {"model": name, "version": version, "seconds": round(seconds, 3)}})
        return Model(name, version, spec, full, engine, batcher, statistics, defaults)

    async def close(self, model: Model, replaced: bool) -> None:
        """Ends a version: no new requests, those accepted are answered, then the engine is freed.

        `replaced`: the same version was loaded anew and goes on counting in the same series.
        """
        await model.batcher.drain()
        await self._device.call(model.engine.close)
        if not replaced:
            self._metrics.forget(model.name, model.version)

    def _open(self, folder: Path, config: ModelConfig | None) -> tuple[Spec | None, Engine, bool]:
        path = folder / (config.default_model_filename or ONNX if config is not None else ONNX)
        if not path.is_file():
            if (folder / PLAN).is_file():
                raise NotServing(f"{PLAN}: this server runs ONNX; it has no TensorRT engine")
            raise NotServing(f"{path.name} is missing in version {folder.name}")
        spec = read_manifest(folder)
        if spec is not None:
            verify(folder, spec)
        if config is not None:
            return spec, self._open_engine(path, config.max_batch_size > 0), config.max_batch_size > 0
        engine = self._open_engine(path, False)
        # Triton's rule: a first axis that is free in every tensor is the batch.
        batched = all(tensor.shape and tensor.shape[0] == -1 for tensor in (*engine.inputs, *engine.outputs))
        return spec, self._open_engine(path, True) if batched else engine, batched

    async def _warm(self, engine: Engine, spec: Spec | None, max_batch_size: int) -> None:
        """Runs zeros at every batch size a lane may form, and once at one row over the whole device."""
        tile = None if spec is None else spec.tile
        free_px = tile.size_px if tile is not None and self._device.name != "cpu" else CPU_WARM_PX
        multiple_px = tile.multiple_px if tile is not None else spec.multiple_px if spec is not None else 1
        least_px = spec.least_px if spec is not None else 1
        free_px = -(-max(free_px, least_px) // multiple_px) * multiple_px
        sizes = [(size, False) for size in range(1, max_batch_size + 1)] or [(0, False)]
        for rows, alone in [*sizes, (min(1, max_batch_size), True)]:
            arrays = {tensor.name: _zeros(tensor, rows, free_px) for tensor in engine.inputs}
            try:
                await self._device.call(lambda arrays=arrays, alone=alone: engine.run(arrays, alone))  # type: ignore[misc]
            except Exception as error:  # whatever the engine raises, this version is not served
                raise NotServing(f"warm-up at batch {rows}: {str(error).splitlines()[0]}") from error


def _zeros(tensor: TensorSpec, rows: int, free_px: int) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    shape = tuple(axis if axis >= 0 else free_px for axis in tensor.shape)
    dtype = NUMPY_OF[tensor.dtype]
    array = np.zeros((rows, *shape) if rows else shape, dtype=dtype)
    if dtype == np.object_:
        array[...] = b""
    return array
