"""Every metric of the server: made here, read at GET /metrics.

Two families. `nv_*`: Triton's names and types, so that its dashboards, autoscalers and perf_analyzer work unchanged.
`ganserve_*`: histograms of each phase, and what a GAN server has that Triton lacks. Labels come only from names that
the server itself knows: models that are loaded, RPCs that exist, gRPC's status codes.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from server.observability.image_window import image_lines
from server.observability.model_statistics import DROP_REASONS, ModelStatistics, Observers
from server.observability.nvml import Gpus
from server.observability.openmetrics import openmetrics
from server.observability.prometheus_text import Counter, Family, Histogram, family_lines, label_text
from server.observability.saturation import LaneTime, Saturation
from server.observability.server_series import ServerSeries
from server.observability.triton_series import TritonSeries, version_labels

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# To minutes: a large image that is upscaled on a CPU takes so long, and the steps there are what a p99 can tell apart.
_PHASE_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_REQUEST_S = (0.001, *_PHASE_S[2:10], *(1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0))
_ITEMS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


@dataclass(frozen=True, slots=True)
class _ModelSeries:
    """What the versions of one model share."""

    observers: Observers
    decode: Histogram
    encode: Histogram
    images: Counter
    pixels: Counter
    tiles: Counter


class Metrics:
    """All series of one server. Loop thread only; nothing is global, so tests may have many."""

    def __init__(self, gpus: Gpus | None = None) -> None:
        self._gpus = gpus
        self.server = ServerSeries()
        self.triton = TritonSeries(gpus)
        self._models: dict[tuple[str, int], ModelStatistics] = {}
        self._series: dict[str, _ModelSeries] = {}
        self._finished: dict[tuple[str, str, str], Histogram] = {}
        self._in_flight: dict[str, Counter] = {}
        self._load_s: dict[tuple[str, int], float] = {}
        self._queues: dict[tuple[str, int], Callable[[], int]] = {}
        self._runs_in: dict[tuple[str, int], Collection[tuple[str, str]]] = {}
        self._degraded: dict[tuple[str, int], bool] = {}
        self._is_ready: Callable[[], bool] = lambda: False
        self._models_ready: Callable[[], Mapping[str, bool]] = dict
        self.watch_lanes(list)
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        self._make_families()

    def _make_families(self) -> None:
        def times(name: str, text: str, labels: tuple[str, ...], bounds: tuple[float, ...]) -> Family[Histogram]:
            return Family("histogram", f"ganserve_{name}", text, labels, lambda: Histogram(bounds))

        def counts(name: str, text: str, labels: tuple[str, ...], kind: str = "counter") -> Family[Counter]:
            return Family(kind, f"ganserve_{name}", text, labels, Counter)

        model = ("model",)
        self._requests = counts("requests_in_flight", "RPCs being answered", ("rpc",), "gauge")
        self._durations = times(
            "request_duration_seconds", "RPC, first byte to last", ("rpc", "model", "code"), _REQUEST_S
        )
        self._queue_s = times("queue_seconds", "Wait for the engine, per request answered", model, _PHASE_S)
        self._compute_s = times("compute_seconds", "Run of the engine, per batch", model, _PHASE_S)
        self._decode_s = times("decode_seconds", "Decoding, per image", model, _PHASE_S)
        self._encode_s = times("encode_seconds", "Encoding, per image", model, _PHASE_S)
        self._batch_sizes = times("batch_size", "Items per run of the engine", model, _ITEMS)
        self._drops = counts("drops_total", "Jobs that left the queue uncomputed", ("model", "reason"))
        self._fallbacks = counts("precision_fallback_total", "Items computed again in float32", model)
        self._images = counts("images_total", "Images served", model)
        self._pixels = counts("pixels_total", "Pixels of the images served", model)
        self._at_urls = counts("image_url_requests_total", "Images at addresses", ("model", "result"))
        self._tiles = counts("tiles_total", "Tiles that large images were cut into", model)
        self._lag = times("event_loop_lag_seconds", "How late the event loop wakes", (), _PHASE_S)
        self._lag.child()
        self._by_model: tuple[Family[Histogram] | Family[Counter], ...] = (
            *(self._durations, self._queue_s, self._compute_s, self._batch_sizes),
            *(self._decode_s, self._encode_s, self._drops, self._fallbacks, self._images, self._pixels, self._tiles),
            self._at_urls,
        )

    def model(self, name: str, version: int) -> ModelStatistics:
        """The statistics of a loaded model, the same object until it is forgotten; its series are on the page."""
        found = self._models.get((name, version))
        if found is None:
            series = self._series.get(name)
            if series is None:
                series = self._series[name] = self._new_series(name)
            found = self._models[name, version] = ModelStatistics(name, version, series.observers)
        return found

    def _new_series(self, name: str) -> _ModelSeries:
        # all from the start: a series that begins at 0 has a rate from its first event on
        drops = {reason: self._drops.child(name, reason) for reason in DROP_REASONS}
        observers = Observers(
            queue_s=self._queue_s.child(name).observe,
            compute_s=self._compute_s.child(name).observe,
            batch_size=self._batch_sizes.child(name).observe,
            dropped=lambda reason: drops.get(reason, drops["other"]).add(1),
            fell_back=self._fallbacks.child(name).add,
        )
        return _ModelSeries(
            observers=observers,
            decode=self._decode_s.child(name),
            encode=self._encode_s.child(name),
            images=self._images.child(name),
            pixels=self._pixels.child(name),
            tiles=self._tiles.child(name),
        )

    def forget(self, name: str, version: int) -> None:
        """The version was unloaded: its series leave the page, and with the last version all of the model's."""
        for known in (self._models, self._load_s, self._queues, self._runs_in, self._degraded):
            known.pop((name, version), None)
        self.triton.forget(name, version)
        if any(model == name for model, _ in self._models):
            return
        self._series.pop(name, None)
        self._queues = {key: waiting for key, waiting in self._queues.items() if key[0] != name}
        self._finished = {key: child for key, child in self._finished.items() if key[1] != name}
        for family in self._by_model:
            family.forget("model", name)

    def rpc_started(self, rpc: str) -> None:
        """An RPC came in. `rpc` is a name from the server's own table of methods, never the caller's path."""
        found = self._in_flight.get(rpc)
        if found is None:
            found = self._in_flight[rpc] = self._requests.child(rpc)
        found.value += 1

    def rpc_finished(self, rpc: str, model: str, code: str, seconds: float, trace_id: str = "") -> None:
        """An RPC that `rpc_started` counted has ended.

        `model` is "" if an RPC has none. A name that is not loaded is counted as "" too: callers choose it freely, and
        each new one would be a series for good. `trace_id`: of a call that is sampled.
        """
        self._in_flight[rpc].value -= 1
        found = self._finished.get((rpc, model, code))
        if found is None:
            label = model if model in self._series else ""
            found = self._finished[rpc, label, code] = self._durations.child(rpc, label, code)
        found.observe(seconds, trace_id)

    def decoded(self, model: str, seconds: float) -> None:
        """An image was decoded. This and the next two ignore a model that was unloaded meanwhile."""
        series = self._series.get(model)
        if series is not None:
            series.decode.observe(seconds)

    def encoded(self, model: str, seconds: float) -> None:
        """An image was encoded."""
        series = self._series.get(model)
        if series is not None:
            series.encode.observe(seconds)

    def served(self, model: str, images: int, pixels: int) -> None:
        """So many images, of so many pixels together, are in a reply."""
        series = self._series.get(model)
        if series is not None:
            series.images.value += images
            series.pixels.value += pixels

    def image_at_url(self, model: str, result: str) -> None:
        """An image at an address was wanted: "hit" (kept or on its way), "miss", or "not_modified"."""
        if model in self._series:
            self._at_urls.child(model, result).value += 1

    def cut(self, model: str, tiles: int) -> None:
        """An image went through a model in so many tiles."""
        series = self._series.get(model)
        if series is not None:
            series.tiles.value += tiles

    def loaded(self, model: str, version: int, seconds: float) -> None:
        """A model took so long to read, open and warm."""
        self._load_s[model, version] = seconds

    def runs_in(self, model: str, version: int, engines: Collection[tuple[str, str]], note: str = "") -> None:
        """A model is run by these engines, each in a precision: one on each device that it is on. `note`: why these
        are not what was requested or is best."""
        self._runs_in[model, version] = engines
        self._degraded[model, version] = bool(note)

    def configure(
        self, model: str, version: int, tags: Mapping[str, str], buckets_ms: tuple[float, ...] | None
    ) -> None:
        """What a model's config says: labels of its `nv_*` series, and bounds of FIRST_RESPONSE, None for none."""
        self.triton.configure(self.model(model, version), tags, buckets_ms)

    def watch_queue(self, model: str, waiting: Callable[[], int], version: int) -> None:
        """`waiting` is called at each scrape for the items in the queue; a model's versions are summed."""
        self._queues[model, version] = waiting

    def watch_readiness(self, is_ready: Callable[[], bool], models: Callable[[], Mapping[str, bool]]) -> None:
        """Both are called at each scrape: what /readyz says, and whether each model that should be ready is."""
        self._is_ready, self._models_ready = is_ready, models

    def watch_lanes(self, read: Callable[[], Sequence[LaneTime]]) -> None:
        """`read` is called for the lanes of every device at each scrape, and by `watch_loop`."""
        self._lanes, self._saturation = read, Saturation(read)

    def loop_lag(self, seconds: float) -> None:
        """The event loop called a timer back this late."""
        self._lag.child().observe(seconds)

    async def watch_loop(self, interval_s: float = 1.0) -> None:
        """Measures the loop's lag and the devices' saturation at each interval, until cancelled.

        Also reads the GPUs, in a thread: a driver can take long."""
        loop = asyncio.get_running_loop()
        reading: asyncio.Future[None] | None = None
        while True:
            due = loop.time() + interval_s
            woken: asyncio.Future[None] = loop.create_future()
            timer = loop.call_at(due, woken.set_result, None)
            try:
                await woken
            finally:
                timer.cancel()
            self.loop_lag(loop.time() - due)
            self._saturation.sample()
            if self._gpus is not None and (reading is None or reading.done()):
                reading = loop.run_in_executor(None, self._gpus.read)

    def render(self) -> bytes:
        """The page, in the text format 0.0.4. `nv_*` stand last: perf_analyzer looks for a newline before them."""
        triton = self.triton.lines(self._models, self._load_s)
        lines = "\n".join(chain(self._own_lines(), self._state_lines(), self.server.lines(), triton))
        return generate_latest(self._process) + lines.encode() + b"\n"

    def render_openmetrics(self) -> bytes:
        """The page as OpenMetrics, with the traces of calls as exemplars."""
        name = "ganserve_request_duration_seconds"
        exemplars = {
            start: text
            for labels, histogram in self._durations.children()
            for start, text in histogram.exemplars(name, labels)
        }
        return openmetrics(self.render().decode(), exemplars).encode()

    def _own_lines(self) -> Iterator[str]:
        for family in (self._requests, *self._by_model, self._lag):
            yield from family.lines()
        depths = dict.fromkeys((model for model, _ in self._queues), 0)
        for (model, _), waiting in self._queues.items():
            depths[model] += waiting()
        waits = ((label_text({"model": model}), items) for model, items in depths.items())
        yield from family_lines("gauge", "ganserve_queue_depth", "Items that wait for the engine", waits)
        loads = [(version_labels(key), round(seconds, 6)) for key, seconds in self._load_s.items()]
        yield from family_lines("gauge", "ganserve_model_load_seconds", "Read, open and warm", loads)
        engines = (
            (label_text({"model": model, "version": str(version), "engine": engine, "precision": precision}), 1)
            for (model, version), found in self._runs_in.items()
            for engine, precision in sorted(found)
        )
        yield from family_lines("gauge", "ganserve_model_info", "1: this engine runs the model", engines)
        windows = [(version_labels(key), each.images) for key, each in self._models.items() if each.images is not None]
        yield from image_lines(windows)
        degraded = [(version_labels(key), int(found)) for key, found in self._degraded.items()]
        yield from family_lines("gauge", "ganserve_model_degraded", "1: served, but not at its best", degraded)

    def _state_lines(self) -> Iterator[str]:
        models = [(label_text({"model": model}), int(ready)) for model, ready in self._models_ready().items()]
        lanes = [(label_text({"device": each.device, "slot": str(each.slot)}), each) for each in self._lanes()]
        busy = [(labels, round(each.busy_s, 6)) for labels, each in lanes]
        share = round(self._saturation.share(), 6)
        for kind, name, text, samples in (
            ("gauge", "ready", "1 while /readyz says 200, else 0", [("", int(self._is_ready()))]),
            ("gauge", "model_ready", "1: served, 0: should be; no series: unloaded by a client", models),
            ("gauge", "device_lanes", "Batches that run at once", [(labels, each.lanes) for labels, each in lanes]),
            ("counter", "device_busy_seconds_total", "Time of the lanes in batches, all lanes together", busy),
            ("gauge", "saturation", "Share of lane time in batches in 10 s, on the busiest device", [("", share)]),
        ):
            yield from family_lines(kind, f"ganserve_{name}", text, samples)
