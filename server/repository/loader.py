"""One version of one model: files verified, its engines opened, every batch size warmed. Off the request path."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.repository import ArtifactError
from artifact.spec import SpecError
from server.batching.batcher import Batcher
from server.batching.device import Device
from server.batching.policy import Policy
from server.engines.base import Engine
from server.engines.float32_fallback import FallbackEngine
from server.engines.float_variant import FloatVariantEngine
from server.errors import NotServing, StartError
from server.observability.metrics import Metrics
from server.observability.model_statistics import ModelStatistics
from server.repository.config_fields import without_effect
from server.repository.critic_loading import close_critic, open_critic
from server.repository.declared import declared
from server.repository.defaults import OptionalInputs
from server.repository.devices import Devices
from server.repository.engine_choice import EngineFactory, Opened, has_batch_axis
from server.repository.identity import identify
from server.repository.judging import image_window, open_judging
from server.repository.latent_tools import open_latent_space
from server.repository.marks import read_mark
from server.repository.metric_config import read_buckets, read_tags
from server.repository.model import Model
from server.repository.model_config import PLAN_PLATFORM, check_spec, complete, read_labels
from server.repository.model_version import ModelVersion
from server.repository.placement import Placement, placements, remarks
from server.repository.queue_policy import policy_of
from server.repository.samples import Sample, SampleReader, run_samples
from server.repository.session_options import too_many_threads, unused_tuning
from server.repository.version_files import read_verified, why_not_opened
from server.repository.warmup import (
    has_guessed_values,
    item_bytes,
    require_own_items,
    shapes_to_warm,
    sizes_to_warm,
    warm,
)
from server.settings import Settings

log = logging.getLogger(__name__)


class FilesNotWhole(Exception):
    """A version's files are missing, not whole or cannot be opened: it may still be being written."""


class Loader:
    """Opens versions on the devices that their configs name."""

    def __init__(self, settings: Settings, devices: Devices, factory: EngineFactory, metrics: Metrics) -> None:
        self._settings = settings
        self._devices = devices
        self._factory = factory
        self.metrics = metrics

    async def load(self, name: str, version: int, folder: Path, config: ModelConfig | None) -> Model:
        """The version in `folder`, warmed and ready for requests.

        Raises:
            NotServing: it cannot be served; the text is the reason that RepositoryIndex shows.
            FilesNotWhole: likewise, because of its files.
        """
        started_at = time.monotonic()
        opened: dict[Placement, Opened] = {}
        try:
            unmet = (*remarks(config, self._devices.gpus), *too_many_threads(config, self._settings))
            _tell_without_effect(name, (*unmet, *without_effect(config)))
            spec = await asyncio.to_thread(read_verified, folder)
            model = await self._load(ModelVersion(name, version, folder, config, spec), opened)
        except BaseException as error:
            await _free(self._by_device(opened))
            if isinstance(error, ArtifactError | SpecError | OSError):
                raise FilesNotWhole(_said(error)) from error
            if isinstance(error, StartError):
                raise NotServing(str(error)) from error
            if isinstance(error, NotServing | FilesNotWhole) or not isinstance(error, Exception):
                raise
            raise unexpected(error) from error
        seconds = time.monotonic() - started_at
        self.metrics.loaded(name, version, seconds)
        fields = {"model": name, "version": version}
        log.info("model ready", extra={"fields": {**fields, "seconds": round(seconds, 3)}})
        if model.note:
            log.warning("model not served at its best", extra={"fields": {**fields, "reason": model.note}})
        return model

    async def close(self, model: Model, replaced: bool) -> None:
        """Ends a version: no new requests, those accepted are answered, then its engines are freed.

        `replaced`: the same version was loaded again and goes on counting in the same series.
        """
        await model.visitors.gone()
        await model.batcher.drain()
        await close_critic(model.critic, self.metrics, model.name, model.version, replaced)
        await _free(model.batcher.engines)
        if model.latents is not None:
            model.latents.close()
        if model.judging is not None:
            await asyncio.to_thread(model.judging.close)
        if not replaced:
            self.metrics.forget(model.name, model.version)

    async def _load(self, version: ModelVersion, opened: dict[Placement, Opened]) -> Model:
        """The model; `opened` has what was opened of it by then, also if it fails."""
        spec, mark = version.spec, read_mark(version.config, self._settings)
        batched = await self._open(version, opened)
        first = next(iter(opened.values()))
        max_batch_size = version.max_batch_size if batched else 0
        for placement, one in opened.items():
            _tell_without_effect(version.name, unused_tuning(version.config, one.choice.engine, placement.device.kind))
            if spec is not None:
                check_spec(spec, one.engine)
        defaults = await asyncio.to_thread(OptionalInputs, spec)
        config = complete(version.config, version.name, first.engine, first.platform, max_batch_size, defaults.names)
        labels = await asyncio.to_thread(read_labels, config, version.folder.parent)
        latents = await asyncio.to_thread(open_latent_space, version)
        policy = policy_of(config, self._settings)
        tensors, most = declared(config.input, first.engine.inputs), self._settings.max_message_bytes
        reader = SampleReader(config, tensors, defaults, version.folder.parent, most)
        samples = await asyncio.to_thread(reader.read)
        until = time.monotonic() + self._settings.warmup_s
        notes: list[str] = []
        for placement, one in opened.items():
            notes += [one.note, await self._warm(version, placement, one, policy, samples, until)]
        identity = await asyncio.to_thread(identify, version, opened)
        critic = await open_critic(
            version, list(opened), policy, self._factory, self._devices, self.metrics, self._settings.hang_timeout_s
        )
        # What may fail comes before: the series may be those of a model that is served.
        statistics = self.metrics.model(version.name, version.version)
        self.metrics.configure(version.name, version.version, read_tags(config), read_buckets(config))
        rate = self._settings.watch_images_per_s
        judging, remark = await asyncio.to_thread(open_judging, version, rate)
        statistics.images = await asyncio.to_thread(image_window, version, rate, judging)
        engines = self._by_device(opened)
        _count_fallbacks(statistics, engines.values())
        batcher = Batcher(engines, policy, statistics)
        for cost in batcher.costs.values():
            cost.is_steady = spec is not None  # graphs that we did not export may have loops
        self.metrics.watch_queue(version.name, lambda: batcher.waiting_items, version.version)
        note = "; ".join(dict.fromkeys(note for note in (*notes, remark) if note))
        self.metrics.runs_in(
            version.name, version.version, {(one.choice.engine, one.choice.precision) for one in opened.values()}, note
        )
        return Model(
            version.name,
            version.version,
            spec,
            config,
            first.engine,
            batcher,
            statistics,
            defaults,
            note,
            first.choice,
            labels,
            identity,
            latents,
            critic,
            mark,
            judging,
        )

    async def _warm(
        self,
        version: ModelVersion,
        placement: Placement,
        opened: Opened,
        policy: Policy,
        samples: Sequence[Sample],
        until: float,
    ) -> str:
        """Runs an engine before requests do, until `until` on the monotonic clock: the config's samples first.

        Returns:
            What clients should know of it.

        Raises:
            NotServing: it cannot run what requests will have it run, or mixes the items of a batch.
        """
        engine, device = opened.engine, self._devices.at(placement)
        on_gpu = placement.device.kind == "cuda"
        guessed = version.spec is None and has_guessed_values(engine.inputs)
        limit_s = self._settings.hang_timeout_s
        remark = await run_samples(device, engine, samples, until, limit_s)
        if remark:
            self._tell_not_warmed(version, remark)
        for shapes in shapes_to_warm(engine.inputs, version.spec, on_gpu, opened.platform == PLAN_PLATFORM):
            sizes = sizes_to_warm(policy.max_batch_size, item_bytes(engine.inputs, shapes), policy, on_gpu)
            remark = await warm(device, engine, shapes, sizes, guessed, until, limit_s)
            if remark:
                self._tell_not_warmed(version, remark)
                break
            if len(sizes) > 1:
                await require_own_items(device, engine, shapes)
        return remark if guessed else ""

    def _tell_not_warmed(self, version: ModelVersion, reason: str) -> None:
        fields = {"model": version.name, "version": version.version, "reason": reason}
        log.warning("model not warmed", extra={"fields": fields})

    async def _open(self, version: ModelVersion, opened: dict[Placement, Opened]) -> bool:
        """Opens an engine for every placement; whether the graph has a batch axis."""
        batched = None if version.leaves_size else version.max_batch_size > 0
        for placement in placements(version.config, self._devices.gpus):
            opened[placement] = await self._open_one(version, placement, bool(batched))
            if batched is None:  # only the graph can say
                batched = has_batch_axis(opened[placement].engine)
                if batched:
                    await self._devices.at(placement).call(opened.pop(placement).engine.close)
                    opened[placement] = await self._open_one(version, placement, True)
        return bool(batched)

    async def _open_one(self, version: ModelVersion, placement: Placement, batched: bool) -> Opened:
        try:
            return await asyncio.to_thread(self._factory.open, version, placement.device, batched)
        except NotServing as error:
            known = await asyncio.to_thread(why_not_opened, version)
            raise FilesNotWhole("; ".join([*known, str(error)])) from error

    def _by_device(self, opened: Mapping[Placement, Opened]) -> dict[Device, Engine]:
        return {self._devices.at(placement): one.engine for placement, one in opened.items()}


def _tell_without_effect(name: str, remarks: Iterable[str]) -> None:
    for what in remarks:
        log.warning("config.pbtxt: no effect", extra={"fields": {"model": name, "what": what}})


def _count_fallbacks(statistics: ModelStatistics, engines: Iterable[Engine]) -> None:
    """Counts the items that engines compute again in float32."""
    loop = asyncio.get_running_loop()

    def on_fallback(items: int) -> None:  # on a worker thread
        loop.call_soon_threadsafe(statistics.fell_back, items)

    for engine in engines:
        engine = engine.engine if isinstance(engine, FloatVariantEngine) else engine
        if isinstance(engine, FallbackEngine):
            engine.on_fallback = on_fallback


def unexpected(error: Exception) -> NotServing:
    """The reason for an error that nobody foresaw; the log has all of it."""
    log.error("loading failed unexpectedly", exc_info=error)
    return NotServing(f"unexpected {type(error).__name__} while loading; the server's log has more")


async def _free(engines: Mapping[Device, Engine]) -> None:
    """Closes each engine on a worker thread of its device, whatever happens to the others."""
    calls = (device.call(engine.close) for device, engine in engines.items())
    for problem in await asyncio.gather(*calls, return_exceptions=True):
        if problem is not None:
            log.error("engine not freed", exc_info=problem)


def _said(error: Exception) -> str:
    """What is wrong with a file, without the path on this host."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{Path(error.filename).name} cannot be read: {error.strerror}"
    return str(error)
