"""`python -m bench peers`: our server and others over one graph, in turns, with callers as cheap as can be.

Each peer runs ONNX Runtime in our version, as its own documentation has it for throughput: batches of up to 16 where it
has them, raw bytes in and out. It is measured with one worker over all cores and with a worker of one thread for each
core, and at each number of callers the better one counts. So it is for the limit, which is measured in between.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from artifact.repository import ONNX
from bench.caller.loops import Kind, Phase, call_once, closed_loop
from bench.caller.payloads import facts_of, newest_version, random_inputs
from bench.caller.server import DISTINCT_REQUESTS, INFER, TargetError, infer_requests, model_inputs, started
from bench.caller.wire import OK, Answer, Connection, WireError
from bench.cpu.engine import Engine, Limit
from bench.cpu.tables import phase_figures
from bench.machine import core_count, facts
from bench.peers.catalogue import PEERS, Peer
from bench.peers.process import python_of, served, way_of
from bench.percentiles import spread
from bench.report import markdown_table, milliseconds, number, write_json

CALLERS = (1, 4, 16, 64)
WARM_CALLERS, WARM_S = 16, 0.7
LIMIT_S = 0.8  # for each round
MAX_LEVELS = 24  # between two engines, as the server has it for bfloat16
OURS = ("onnx", "auto")


@dataclass
class Contestant:
    """A server in one layout. `start` gives its port for as long as it serves."""

    name: str
    layout: str
    is_grpc: bool
    path: str
    kind: Kind
    messages: list[bytes]
    start: Callable[[], AbstractContextManager[int]]
    phases: dict[int, list[Phase]] = field(default_factory=lambda: {callers: [] for callers in CALLERS})

    @property
    def title(self) -> str:
        """Its name with its layout."""
        return f"{self.name} {self.layout}".strip()

    def measure(self, seconds: float, expected: NDArray[np.uint8]) -> None:
        """One round.

        Raises:
            TargetError: it does not start, or its image is another.
        """
        with self.start() as port:
            address = ("127.0.0.1", port)
            self._check(call_once(address, self.path, self.messages[0], self.kind), expected)
            run = partial(closed_loop, address, self.path, self.messages, kind=self.kind)
            run(callers=WARM_CALLERS, seconds=WARM_S)
            for callers, phases in self.phases.items():
                phases.append(run(callers=callers, seconds=seconds))

    def _check(self, answer: Answer, expected: NDArray[np.uint8]) -> None:
        if answer.status != OK:
            raise TargetError(f"{self.name} answers with status {answer.status}")
        pixels = answer.body or b""
        if self.is_grpc:
            pixels = b"".join(service_pb2.ModelInferResponse.FromString(pixels).raw_output_contents)
        found = np.frombuffer(pixels, np.uint8)
        if found.size != expected.size or np.abs(found.astype(int) - expected.ravel()).max() > MAX_LEVELS:
            raise TargetError(f"{self.name} answers with another image: {found.size} bytes")

    def per_s(self, callers: int) -> float:
        """The median of its rounds; 0 if it failed."""
        return spread([phase.per_s for phase in self.phases[callers]] or [0.0]).median

    def as_json(self) -> dict[str, object]:
        """All rounds."""
        found = {str(callers): phase_figures(phases) for callers, phases in self.phases.items()}
        errors = sum(len(phase.answers) - len(phase.in_time) for phases in self.phases.values() for phase in phases)
        return {"name": self.name, "layout": self.layout, "errors": errors, "callers": found}


def _layouts() -> list[tuple[int, int]]:
    """Workers and their threads."""
    cores = core_count()
    return [(1, cores)] + ([(cores, 1)] if cores > 1 else [])


class Field:
    """All that is measured, of one model that takes latents and nothing else."""

    def __init__(self, version: Path, pythons: Mapping[Peer, Path], cache: str) -> None:
        """`pythons`: the peers' interpreters. `cache`: a folder for the choices of our server."""
        engine = Engine(version)
        if [spec.name for spec in engine.specs] != ["latent"]:
            raise TargetError(f"{version.parent.name} takes more than a latent, which is all that the peers are given")
        self.limit = Limit(engine)
        self.failed: dict[str, str] = {}
        self.expected = engine.outputs(1)[0].astype(np.uint8, copy=False)
        requests = infer_requests(version.parent.name, engine.specs, facts_of(version))
        feeds = [random_inputs(engine.specs, 1, facts_of(version), seed) for seed in range(DISTINCT_REQUESTS)]
        latents = [feed["latent"] for feed in feeds]
        self.contestants = [
            Contestant(f"ganserve, {each}", "", True, INFER, Connection, requests, partial(_ours, version, each, cache))
            for each in OURS
        ]
        for peer, python in pythons.items():
            path, kind = way_of(peer)
            bodies = [json.dumps(each[0].tolist()).encode() if peer.takes_json else each.tobytes() for each in latents]
            messages = requests if peer.is_grpc else bodies
            for workers, threads in _layouts():
                start = partial(served, peer, python, version / ONNX, workers, threads, messages[0])
                layout = f"{workers} x {threads}"
                self.contestants.append(Contestant(peer.name, layout, peer.is_grpc, path, kind, messages, start))

    def measure(self, rounds: int, seconds: float) -> None:
        """All of them in turns, another one first in each round; one that fails is left out from then on."""
        for turn in range(rounds):
            first = turn * len(self.contestants) // rounds
            for each in (*self.contestants[first:], *self.contestants[:first]):
                if each.title in self.failed:
                    continue
                print(f"round {turn + 1}: {each.title}", file=sys.stderr)
                self.limit.measure(LIMIT_S)
                try:
                    each.measure(seconds, self.expected)
                except (TargetError, WireError, OSError) as error:
                    self.failed[each.title] = str(error)
        self.limit.measure(LIMIT_S)

    def markdown(self) -> str:
        """The table: at each number of callers the better layout of a peer, over the limit."""
        most = self.limit.images_per_s.median
        columns = ["server", "protocol", *(f"{each} callers" for each in CALLERS), "p50 / p99 ms"]
        rows = []
        for name in dict.fromkeys(each.name for each in self.contestants):
            layouts = [each for each in self.contestants if each.name == name]
            best = [_best(layouts, callers) for callers in CALLERS]
            cells = [_share(each, callers, most) for each, callers in zip(best, CALLERS, strict=True)]
            last = best[-1].phases[CALLERS[-1]]
            latency = [milliseconds(spread([phase.latency_s(each) for phase in last]).median) for each in (50, 99)]
            protocol = "gRPC" if layouts[0].is_grpc else "HTTP/1.1"
            rows.append([name, protocol, *cells, " / ".join(latency)])
        return "\n".join(markdown_table(columns, rows))


def _best(layouts: Sequence[Contestant], callers: int) -> Contestant:
    return max(layouts, key=lambda each: each.per_s(callers))


def _share(one: Contestant, callers: int, most: float) -> str:
    """Images per second over the limit, the images per second, and the layout."""
    if not one.phases[callers]:
        return "failed"
    per_s = one.per_s(callers)
    return f"{number(per_s / most)}: {per_s:.0f}" + (f" ({one.layout})" if one.layout else "")


@contextmanager
def _ours(version: Path, engine: str, cache: str) -> Iterator[int]:
    arguments = f"--engine {engine} --engine-cache {cache} --queue-target-s 0"
    with started(version.parents[1], arguments) as target:
        model_inputs(target, version.parent.name)  # waits until it is ready
        yield target.grpc_port


def run(arguments: argparse.Namespace) -> dict[str, object]:
    """Installs what is missing, measures, prints the table and returns the figures.

    Raises:
        TargetError: `--only` names none of PEERS, a peer cannot be installed, or the model takes more than a latent.
    """
    keys = [peer.key for peer in PEERS]
    if unknown := set(arguments.only) - set(keys):
        raise TargetError(f"--only {', '.join(sorted(unknown))}: must be of {', '.join(keys)}")
    chosen = [peer for peer in PEERS if not arguments.only or peer.key in arguments.only]
    pythons = {peer: python_of(peer, arguments.environments, ort.__version__) for peer in chosen}
    if arguments.install:
        return {}
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        measured = Field(newest_version(arguments.repository, arguments.model), pythons, cache)
        measured.measure(arguments.rounds, arguments.seconds)
    machine = facts()
    limit = measured.limit
    text = f"{machine['cores']} cores of {machine['processor']}, {machine['date']}, ONNX Runtime {ort.__version__}.\n\n"
    text += f"### `{arguments.model}`: served / limit, images/s (workers x threads)\n\n{measured.markdown()}\n\n"
    text += f"Engine limit {limit.images_per_s} images/s ({limit.best}). p50 / p99 of {CALLERS[-1]} callers.\n"
    text += "".join(f"\n{name} failed: {error.splitlines()[0]}\n" for name, error in measured.failed.items())
    print(text)
    results: dict[str, object] = {
        "seconds": time.monotonic() - began_s,
        "limit": limit.as_json(),
        "failed": measured.failed,
        "servers": [each.as_json() for each in measured.contestants],
    }
    if arguments.out is not None:
        stem = f"cpu-{machine['cores']}core-{machine['date']}-peers"
        (arguments.out / f"{stem}.md").write_text(text)
        write_json(arguments.out / f"{stem}.json", results)
    return results
