"""`python -m bench.cluster.dashboard`: draws the dashboard over a run of a server under Prometheus.

The run: few callers, more, far more than the server can take, then few again while a model is read again from disk,
and another one breaks and is unloaded.
"""

import argparse
import itertools
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import grpc
import numpy as np
from PIL import Image
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bench.caller.server import Target, TargetError, started
from bench.cluster.panels import Panel, fill_in, read_panels
from bench.cluster.prometheus import NoPrometheus, Prometheus, alerting_rules
from bench.cluster.sheet import Chart, Line, draw_sheet
from ganserve.v1 import images_pb2, images_pb2_grpc

K8S = Path(__file__).resolve().parents[2] / "k8s" / "base"
RATES_S, STEP_S = 10, 1
MAX_CALLERS = 128
# (share of the run, callers of the generator) from then on
CALLERS = ((0.0, 1), (0.15, 4), (0.3, 12), (0.45, MAX_CALLERS), (0.65, 4), (0.8, 1))
RELOADED_AT, BROKEN_AT, UNLOADED_AT = 0.72, 0.78, 0.9
IMAGES_PER_CALL, DEADLINE_S = 8, 1.0
UPSCALES_EVERY_S = 0.5
BACK_OFF_S = 0.2  # of a caller who was rejected, as those of our own client
BROKEN = "broken"


@dataclass(frozen=True)
class Models:
    """The two models of the run, and the repository that has them."""

    repository: Path
    generator: str
    upscaler: str

    def copied(self, folder: Path) -> Path:
        """A repository of only those two."""
        for name in (self.generator, self.upscaler):
            shutil.copytree(self.repository / name, folder / name)
        return folder


class Scenario:
    """The load of one run against one server."""

    def __init__(self, models: Models, target: Target, repository: Path, seconds: float) -> None:
        self._asked = models
        self._repository = repository
        self._seconds = seconds
        self._seeds = itertools.count()
        self._over = threading.Event()
        self._channel = grpc.insecure_channel(f"{target.host}:{target.grpc_port}")
        self._images = images_pb2_grpc.ImageServiceStub(self._channel)
        self._models = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self.answered = 0
        self.refused = 0

    def run(self) -> None:
        """Returns when the run is over."""
        self._began = time.monotonic()
        with ThreadPoolExecutor(MAX_CALLERS + 1) as threads:
            callers = [threads.submit(self._generate, number) for number in range(MAX_CALLERS)]
            callers.append(threads.submit(self._upscale))
            try:
                for share, act in ((RELOADED_AT, self._reload), (BROKEN_AT, self._break), (UNLOADED_AT, self._unload)):
                    self._wait_for(share)
                    act()
                self._wait_for(1.0)
            finally:
                self._over.set()
        self._channel.close()
        for caller in callers:
            caller.result()

    def _wait_for(self, share: float) -> None:
        self._over.wait(self._began + share * self._seconds - time.monotonic())

    def _callers(self) -> int:
        now = (time.monotonic() - self._began) / self._seconds
        return [callers for start, callers in CALLERS if start <= now][-1]

    def _generate(self, number: int) -> None:
        while not self._over.is_set():
            if number >= self._callers():
                self._over.wait(0.2)
                continue
            seeds = [next(self._seeds) for _ in range(IMAGES_PER_CALL)]
            request = images_pb2.GenerateRequest(model=self._asked.generator, seeds=images_pb2.Seeds(values=seeds))
            self._ask(lambda asked=request: self._images.Generate(asked, timeout=DEADLINE_S))  # type: ignore[misc]

    def _upscale(self) -> None:
        levels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        file = BytesIO()
        Image.fromarray(levels).save(file, "png")
        request = images_pb2.UpscaleRequest(model=self._asked.upscaler, image=file.getvalue())
        while not self._over.wait(UPSCALES_EVERY_S):
            self._ask(lambda: self._images.Upscale(request, timeout=10 * DEADLINE_S))

    def _ask(self, call: Callable[[], object]) -> None:
        try:
            call()
            self.answered += 1
        except grpc.RpcError:
            self.refused += 1
            self._over.wait(BACK_OFF_S)

    def _reload(self) -> None:
        self._models.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name=self._asked.generator))

    def _break(self) -> None:
        (self._repository / BROKEN / "1").mkdir(parents=True)
        (self._repository / BROKEN / "1" / "model.onnx").write_bytes(b"no graph")
        try:
            self._models.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name=BROKEN))
        except grpc.RpcError:
            return
        raise TargetError("a file that is no graph was loaded")

    def _unload(self) -> None:
        self._models.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name=BROKEN))


def charts(panels: Sequence[Panel], prometheus: Prometheus, start: float, end: float) -> list[tuple[str, list[Chart]]]:
    """The panels of the dashboard that have data from `start` to `end` (unix time), by their rows."""
    variables = {"namespace": ".*", "pod": ".*", "model": ".*", "__rate_interval": f"{RATES_S}s"}
    rows: dict[str, list[Chart]] = {}
    for panel in panels:
        if panel.kind != "timeseries":
            continue
        lines = [
            Line(query.name(series.labels) or "none", [(at - start, value) for at, value in series.points])
            for query in panel.queries
            for series in prometheus.query_range(fill_in(query.expression, variables), start, end, STEP_S)
        ]
        if lines:
            chart = Chart(panel.title, panel.unit, lines, panel.limits, panel.max)
            rows.setdefault(panel.row, []).append(chart)
    return list(rows.items())


def draw(models: Models, seconds: float, serve_arguments: str, out: Path) -> str:
    """Runs the scenario, writes the picture, returns a line about the run.

    Raises:
        NoPrometheus, TargetError: one of the two did not start, or the scenario went wrong.
    """
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        repository = models.copied(folder / "repository")
        with started(repository, f"--model-control explicit {serve_arguments}") as target:
            rules = alerting_rules(K8S / "prometheus-rule.yaml")
            with Prometheus(folder, {"ganserve-0": target.metrics}, rules) as prometheus:
                start = time.time()
                scenario = Scenario(models, target, repository, seconds)
                scenario.run()
                found = charts(read_panels(K8S / "dashboards" / "ganserve.json"), prometheus, start, time.time())
    heading = f"ganserve: {models.generator} and {models.upscaler}, {seconds:.0f} s of one server"
    draw_sheet(heading, found).savefig(out)
    return (
        f"{out}: {sum(len(row) for _, row in found)} panels; {scenario.answered} calls answered, {scenario.refused} not"
    )


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.cluster.dashboard", description=__doc__)
    parser.add_argument("--repository", type=Path, required=True, metavar="DIR")
    parser.add_argument("--generator", default="faces", metavar="MODEL")
    parser.add_argument("--upscaler", default="realesr-animevideov3", metavar="MODEL")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--serve-arguments", default="--device cpu --shutdown-delay-s 0", metavar="ARGS")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/dashboard.png"), metavar="FILE")
    asked = parser.parse_args()
    try:
        models = Models(asked.repository, asked.generator, asked.upscaler)
        print(draw(models, asked.seconds, asked.serve_arguments, asked.out))
    except (NoPrometheus, TargetError, OSError, grpc.RpcError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
