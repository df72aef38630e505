"""A real server under load, and a real Prometheus that scrapes it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from bench.cluster.prometheus import Prometheus
from ganserve import Client, ServerError
from tests.export.test_judge import write_judge
from tests.observability.test_rules import RULES
from tests.server.graphs import Z, write_golden, write_styled, write_translator
from tests.serving import running

OPTIONS = ("--device", "cpu", "--threads", "1", "--codec-threads", "1", "--max-queue-rows", "16")
PAUSE_S = 0.02  # between a caller's calls
SCRAPES = 14  # as many seconds of load, so that the rates of 10 s are full
LONGEST_S = 60.0


@dataclass
class Load:
    """Callers, each with a kind of request of its own; one of them requests more than the server accepts."""

    stop: threading.Event = field(default_factory=threading.Event)
    failures: list[str] = field(default_factory=list)
    refused: int = 0

    def call(self, send: Callable[[int], object]) -> None:
        """Sends requests with growing seeds until `stop` is set."""
        seed = 0
        while not self.stop.wait(PAUSE_S):
            seed += 1
            try:
                send(seed)
            except ServerError as error:
                if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    self.refused += 1
                else:
                    self.failures.append(f"{error.code.name} {error.text}")


@dataclass
class Watched:
    """What the tests look at."""

    prometheus: Prometheus
    load: Load


def _infer(client: InferenceServerClient, seed: int) -> None:
    """One request as a user of Triton sends it."""
    inputs = []
    for name, dtype, shape in (
        ("latent", "FP32", [1, Z]), ("label", "INT64", [1]), ("noise", "FP32", [1, Z]),
    ):  # fmt: skip
        tensor = InferInput(name, shape, dtype)
        tensor.set_data_from_numpy(np.full(shape, seed % 3, np.int64 if dtype == "INT64" else np.float32))
        inputs.append(tensor)
    client.infer("styled", inputs)


@pytest.fixture(scope="module")
def watched(needs_prometheus: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A server and its Prometheus after SCRAPES seconds of load, which goes on."""
    folder = tmp_path_factory.mktemp("watched")
    repository = folder / "repository"
    write_styled(repository, "styled")
    write_golden(repository / "styled" / "1", write_judge(folder / "judge.onnx", ["N", "H", "W", 1]))
    write_translator(repository, "translator")
    image = np.zeros((16, 16, 3), np.uint8)
    load = Load()
    with ExitStack() as stack:
        server = stack.enter_context(running(repository, *OPTIONS))
        client = stack.enter_context(Client(server.address, retries=0))
        triton = stack.enter_context(InferenceServerClient(server.address))
        requests: list[Callable[[int], object]] = [
            lambda seed: client.generate("styled", seeds=seed, labels=0),
            lambda seed: list(client.generate_stream("styled", seeds=range(seed, seed + 4), labels=0)),
            lambda seed: client.generate("styled", seeds=range(seed, seed + 99), labels=0),
            lambda seed: client.translate("translator", image),
            lambda seed: _infer(triton, seed),
        ]
        callers = [threading.Thread(target=load.call, args=(send,)) for send in requests]
        for caller in callers:
            caller.start()
            stack.callback(caller.join, LONGEST_S)
        stack.callback(load.stop.set)
        targets = {"ganserve-0": f"127.0.0.1:{server.http_port}"}
        prometheus = stack.enter_context(Prometheus(folder, targets, RULES))
        prometheus.wait_until(
            lambda: any(series.points[0][1] >= SCRAPES for series in prometheus.query("count_over_time(up[1m])")),
            f"{SCRAPES} scrapes", LONGEST_S,
        )  # fmt: skip
        yield Watched(prometheus, load)
