"""The server as a whole: builds the object graph; owns start, readiness and stop."""

import asyncio
import contextlib
import gc
import importlib.metadata
import logging
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass

from server import allocator
from server.api import kserve
from server.api.access import Access, Exposed
from server.api.calls import Calls
from server.api.connections import Eviction, share_descriptors
from server.api.health import Health
from server.api.http import HttpServer, make_app
from server.api.image_url import ImagesByUrl
from server.api.images import ImageService
from server.api.kept_answers import KeptAnswers
from server.api.limits import Limits
from server.api.marks import Marks
from server.api.readiness import Readiness
from server.api.remote_settings import RemoteSettings
from server.api.services import Services
from server.api.tls import http_context
from server.api.transport import (
    choose_frontend,
    ends_by_itself,
    keeps_replies,
    limit_unread,
    limits_connections,
    make_server,
    open_port,
    says_goaway,
    sends_pushback,
)
from server.api.unread import Unread
from server.api.watching import watch_ports
from server.batching.hang import Hangs
from server.engines.onnx.cpu import cores
from server.environment import visible_gpus
from server.errors import StartError
from server.images.memory import MemoryBudget
from server.images.workers import Workers
from server.last_resort import EXIT_CODE, LastResort
from server.observability import logs
from server.observability.metrics import Metrics
from server.observability.nvml import Gpus
from server.observability.trace import Tracer
from server.repository.devices import Devices
from server.repository.engine_choice import EngineFactory
from server.repository.loader import Loader
from server.repository.placement import usable_gpus
from server.repository.repository import Repository
from server.settings import Settings

# A CPU of many cores runs this many batches at once at most, each over a share of the cores.
MOST_LANES = 4
# Every call has ended by then; only an engine that hangs can take longer.
CLOSE_S = 10.0
# After the drain the process ends within this time, whatever hangs.
END_S = 2 * CLOSE_S
# Of the signals that end a process by default: whoever sends these wants an end, or says that one comes (the limit of
# processor time, the power). The others are for programs that expect them. Faults are left as they are.
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU, signal.SIGPWR)
IGNORED_SIGNALS = (
    signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGSTKFLT,
    *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
)  # fmt: skip

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Serving:
    """Where a server that is ready listens, and what it took where it had the choice. `rest_port`: -1 for none."""

    grpc_port: int
    http_port: int
    rest_port: int
    frontend: str
    device: str
    models: int
    unavailable: int
    exposed: Exposed


async def serve(settings: Settings, ready: Callable[[Serving], None], stop: asyncio.Event | None = None) -> None:
    """Serves until one of ENDING_SIGNALS or `stop`, then drains. `ready` is called once every model has been tried.
    The process has to end after this: it is ended if it does not.

    Raises:
        StartError: the server cannot start as configured.
    """
    logs.configure(settings.log_level, settings.log_format)
    allocator.configure()
    server = Server(settings)
    gc.freeze()  # what is imported stays; a full collection would look at it for 50 ms, every 3,000 calls or so
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    last_resort = LastResort(settings.hang_timeout_s)

    def end() -> None:
        stop.set()
        last_resort.end_within(settings.shutdown_delay_s + settings.drain_s + END_S)

    for number in ENDING_SIGNALS:
        loop.add_signal_handler(number, end)
    for number in IGNORED_SIGNALS:
        loop.add_signal_handler(number, log.info, "signal %d: ignored", number)
    code = EXIT_CODE
    try:
        await server.run(ready, stop)
        code = 0
    finally:
        for number in (*ENDING_SIGNALS, *IGNORED_SIGNALS):
            loop.remove_signal_handler(number)
        if server.hangs.texts:
            last_resort.end_within(0.0)
        else:  # the interpreter waits for its threads, such as one that opens a large graph, or one for ever
            last_resort.end_within(CLOSE_S, code)


class Server:
    """Every part of a running server. Must be made inside the event loop that runs it.

    `repository`: the models that it serves. `hangs`: the runs that do not end.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._frontend = choose_frontend(settings)
        self._access = Access(settings)
        self._stopping = asyncio.Event()  # no more calls are taken
        self._health = Health()
        # A server of CPUs asks no driver.
        self._metrics = Metrics(None if settings.device == "cpu" else Gpus.open(visible_gpus()))
        self._workers = Workers(settings.codec_threads or cores(), settings.codec_timeout_s)
        threads = settings.threads or cores()
        lanes = min(threads, MOST_LANES)
        self.hangs = Hangs(settings.hang_timeout_s, lambda: self._state.update())
        self._engines = EngineFactory(settings, lanes, threads, lambda: self._devices.cpu_busy_s())
        self._devices = Devices(usable_gpus(settings.device, engine=settings.engine), lanes, self.hangs)
        loader = Loader(settings, self._devices, self._engines, self._metrics)
        self.repository = Repository(settings, loader, self._models_changed)
        strict = settings.strict_readiness
        self._state = Readiness(self.repository, self.hangs, self._workers, self._health, strict=strict)
        self._metrics.watch_lanes(self._devices.lane_times)
        self._metrics.watch_readiness(self._state.is_ready, self.repository.readiness)
        app = make_app(self._metrics, self._state.liveness, self._state.readiness, self._access.check_reader)
        self._connections = share_descriptors(settings.max_connections, settings.max_http_connections)
        self._http = HttpServer(app, settings.address, settings.http_port, self._connections.http)
        self._version = importlib.metadata.version("ganserve")
        self._metrics.server.built(self._version)
        self._tracer = _choose_tracer(settings, self._version)
        self._calls = Calls(
            self._metrics,
            self._tracer,
            sends_pushback=sends_pushback(self._frontend),
            max_streams=settings.max_streams,
            stream_idle_s=settings.stream_idle_s,
        )
        self._budget = MemoryBudget(settings.max_held_bytes)
        answers = KeptAnswers(settings.response_cache_bytes)
        self._metrics.server.watch_kept(lambda: answers.nbytes)
        images = ImageService(
            self.repository,
            Limits.of(settings),
            self._workers,
            self._budget,
            self._metrics,
            Marks(settings, self._workers),
        )
        by_url = ImagesByUrl(images, answers, self._budget, self._metrics, settings.api_keys is not None)
        tensors = kserve.InferenceService(
            self.repository, settings, self._version, self._state.is_ready, self._stopping, self._workers,
            self._budget, RemoteSettings(settings, self._tracer), answers,
        )  # fmt: skip
        self._services = Services(settings, self._access, tensors, images, by_url, self._health, self._metrics.server)
        self._grpc = make_server(settings, self._frontend, self._connections.grpc)
        self._services.add_to(self._grpc, self._frontend, self._calls)
        self._rest_calls = Calls(self._metrics, self._tracer, sends_pushback=True)
        self._rest = self._make_rest() if settings.api_port >= 0 else None

    async def run(self, ready: Callable[[Serving], None], stop: asyncio.Event) -> None:
        """Starts, serves until `stop`, drains and ends. A part that dies takes the whole down."""
        grpc_port = open_port(self._grpc, self._settings)
        http_port = await self._start_http(self._http, self._settings.http_port)
        rest_port = await self._start_http(self._rest, self._settings.api_port) if self._rest is not None else -1
        watch_ports(self._metrics.server, self._settings, grpc_port, self._http, self._rest)
        await self._grpc.start()
        if keeps_replies(self._frontend):
            self._calls.unread = unread = Unread(grpc_port, self._settings.stream_idle_s)
            self._budget.when_short = unread.end_oldest
        else:
            limit_unread(self._grpc, self._budget, self._settings.stream_idle_s)
        self._tell_exposed(grpc_port, http_port, rest_port)
        eviction = None if limits_connections(self._frontend) else Eviction(grpc_port, self._connections.grpc)
        try:
            async with asyncio.TaskGroup() as parts:
                watches = [
                    parts.create_task(self._metrics.watch_loop()),
                    parts.create_task(self._watch_devices()),
                    parts.create_task(self._keep_grpc(grpc_port)),
                ]
                loading = parts.create_task(self._load())
                await self._first(loading, stop)
                if not stop.is_set():
                    unavailable = sum(entry.failed for entry in self.repository.index())
                    ready(
                        Serving(
                            grpc_port, http_port, rest_port, self._frontend, self._devices.names,
                            len(self.repository.ready()), unavailable, self._access.exposed,
                        )
                    )  # fmt: skip
                    if self._settings.model_control == "poll":
                        watches.append(parts.create_task(self.repository.follow(self._settings.repository_poll_s)))
                    await stop.wait()
                loading.cancel()
                await self._stop()
                for watch in watches:
                    watch.cancel()
        finally:
            await self._grpc.stop(0)
            if self._rest is not None:
                await self._rest.stop(0)
            await self._http.stop()
            if eviction is not None:
                eviction.close()
            self._devices.close()
            self._workers.close()
            if self._tracer is not None:
                await self._tracer.close()

    def _models_changed(self) -> None:
        self._state.update()
        self._services.models_changed()

    async def _keep_grpc(self, port: int) -> None:
        """Opens the port again if grpc.aio has ended its server: `unknown_methods` has a reason why it may."""
        settings = self._settings.model_copy(update={"grpc_port": port})
        while ends_by_itself(self._frontend):
            try:
                await self._grpc.wait_for_termination()
            except Exception as error:
                log.error("gRPC's server has ended and is started again", extra={"fields": {"reason": str(error)}})
            else:
                return  # it was stopped
            self._grpc = make_server(self._settings, self._frontend, self._connections.grpc)
            self._services.add_to(self._grpc, self._frontend, self._calls)
            open_port(self._grpc, settings)
            await self._grpc.start()

    async def _start_http(self, server: HttpServer, port: int) -> int:
        try:
            return await server.start()
        except OSError as error:
            where = f"{self._settings.address}:{port}"
            raise StartError(f"HTTP cannot listen on {where}: {error.strerror or error}") from None

    def _tell_exposed(self, grpc_port: int, http_port: int, rest_port: int) -> None:
        """One line about who may reach the server."""
        exposed = self._access.exposed
        ports = {"grpc_port": grpc_port, "http_port": http_port, "rest_port": rest_port}
        fields = {**ports, "frontend": self._frontend, **asdict(exposed)}
        log.info("listening", extra={"fields": fields})
        if exposed.api_keys and exposed.tls == "off" and not exposed.is_loopback:
            log.warning("API keys are sent unencrypted: there is no TLS in this server")

    async def _load(self) -> None:
        if not self._settings.strict_readiness:
            self._state.serving = True
        await self.repository.load_all(self._settings.models_to_load)
        self._state.serving = True
        self._state.update()

    async def _first(self, task: asyncio.Task[None], event: asyncio.Event) -> None:
        """Waits for whichever comes first."""
        asked = asyncio.create_task(event.wait())
        try:
            await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()

    async def _watch_devices(self) -> None:
        await asyncio.shield(self._devices.failed)

    async def _stop(self) -> None:
        """Not ready first; then, once the endpoints had time to notice, no new calls; then the accepted ones end."""
        self._state.serving = False
        self._state.update()
        self._engines.stop()
        log.info("stopping", extra={"fields": {"delay_s": self._settings.shutdown_delay_s}})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.shutdown_delay_s):
                await asyncio.Event().wait()
        loop = asyncio.get_running_loop()
        over_at = loop.time() + self._settings.drain_s
        self._stopping.set()
        draining = asyncio.create_task(self._drain_rest(over_at))
        if not says_goaway(self._frontend):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(over_at):
                    await self._calls.close()
        self._health.close()
        await self._grpc.stop(max(0.0, over_at - loop.time()))
        await draining
        try:
            async with asyncio.timeout(0.0 if self.hangs.is_any else CLOSE_S):
                await self.repository.close()
        except TimeoutError:
            log.error("engines not closed", extra={"fields": {"reason": "a run has not ended"}})
        log.info("stopped")

    async def _drain_rest(self, over_at: float) -> None:
        """Ends the HTTP API: new calls are rejected, accepted ones complete by `over_at`, on the loop's clock."""
        if self._rest is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(over_at):
                    await self._rest_calls.close()
            await self._rest.stop(max(0.0, over_at - asyncio.get_running_loop().time()))

    def _make_rest(self) -> HttpServer:
        app = self._services.http_app(self._rest_calls, self._workers, self._budget, self._version)
        address, port = self._settings.address, self._settings.api_port
        return HttpServer(app, address, port, self._connections.rest, tls=http_context(self._settings))


def _choose_tracer(settings: Settings, version: str) -> Tracer | None:
    """What traces requests; None, and no library loaded, where no collector is named.

    Raises:
        StartError: the library is not installed.
    """
    if settings.otlp_endpoint is None:
        return None
    try:
        from server.observability.otlp import OtlpTracer
    except ModuleNotFoundError:
        raise StartError("otlp_endpoint needs OpenTelemetry: pip install 'ganserve[tracing]'") from None
    return OtlpTracer(settings.otlp_endpoint, settings.trace_ratio, version)
