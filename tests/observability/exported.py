"""Every series that a server may show at /metrics, with its labels, from the pages of servers that show all of them."""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from server.observability.image_window import LEAST_COMPARED, ImageWindow
from server.observability.metrics import Metrics
from server.observability.nvml import Gpus
from server.observability.saturation import LaneTime
from tests.docs.test_manifest import GOLDEN
from tests.server.observability.test_nvml import Nvml

# What a scrape adds: of the operator's ServiceMonitor those that are used here.
SCRAPE_LABELS = frozenset({"instance", "job", "namespace", "pod"})


class Judged:
    """A judge that puts every image into the first class at once."""

    is_working = True

    def offer(self, image: NDArray[Any], named: Callable[[int], None]) -> None:
        named(0)


@functools.cache
def page() -> str:
    """GET /metrics of a server that shows all. Its GPU is NVML's fake."""
    metrics = Metrics(Gpus.open(nvml=Nvml("GPU-1")))
    metrics.configure("faces", 1, {}, (1.0,))
    metrics.loaded("faces", 1, 0.1)
    metrics.runs_in("faces", 1, {("onnx", "fp32")})
    metrics.watch_queue("faces", lambda: 0, 1)
    metrics.watch_lanes(lambda: [LaneTime("cpu", 0, 1, 0.5)])
    metrics.watch_readiness(lambda: True, lambda: {"faces": True})
    model = metrics.model("faces", 1)
    model.images = ImageWindow({"export": GOLDEN}, 1, 1.0, Judged(), ("cat", "dog"))
    for seed in range(LEAST_COMPARED):
        model.images.see(np.zeros((2, 2, GOLDEN.channels), np.uint8), seed)
    metrics.image_at_url("faces", "hit")
    metrics.server.bytes_by("grpc")
    metrics.server.watch_connections(lambda: {"grpc": 1})
    metrics.server.watch_certificate(lambda: 1.8e9)
    metrics.rpc_started("Generate")
    metrics.rpc_finished("Generate", "faces", "OK", 0.1)
    return metrics.render().decode()


@functools.cache
def exported() -> Mapping[str, frozenset[str]]:
    """Name of a series -> its labels, the scrape's included."""
    found: dict[str, frozenset[str]] = {}
    for family in text_string_to_metric_families(page()):
        for sample in family.samples:
            # The parser adds _total to every counter; Triton's names have none.
            name = sample.name.removesuffix("_total") if sample.name.startswith("nv_") else sample.name
            found[name] = found.get(name, SCRAPE_LABELS) | set(sample.labels)
    assert all(re.fullmatch(r"(ganserve|nv|process)_\w+", name) for name in found)
    return found
