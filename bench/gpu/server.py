"""The same models through `ganserve serve`: callers who wait, ModelInfer, one image per call or many."""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bench.caller import exposition
from bench.caller.loops import call_once
from bench.caller.server import INFER, Target, TargetError, rejection, started
from bench.caller.wire import OK, WireError
from bench.cpu.load import Workload
from bench.gpu.artifacts import Version
from bench.gpu.device import Device
from bench.gpu.figures import Served, Subject
from bench.gpu.rates import TIME_UP, feed_of
from bench.gpu.report import Results, first_line
from bench.gpu.serving import Serving
from bench.percentiles import percentile

CONNECTIONS = 4
DISTINCT_REQUESTS = 8
IN_FLIGHT_BYTES = 4 << 30  # replies of one phase together: beyond that memory is measured, not the server
KSERVE_OF = {"float32": "FP32", "float16": "FP16", "int64": "INT64", "uint8": "UINT8"}
QUEUE_BYTES = 16 << 30


@dataclass(frozen=True)
class Phases:
    """What a server is loaded with, the most valuable first: callers, images per call, seconds for each phase, when to
    begin no more."""

    callers: Sequence[int]
    images_per_call: Sequence[int]
    seconds: float
    end_s: float
    arguments: str = ""


def serve(results: Results, repository: Serving, subjects: Sequence[Subject], device: Device, phases: Phases) -> None:
    """Adds a row for every subject, number of callers and of images per call, from one server over all models."""
    if time.perf_counter() > phases.end_s:
        results.skip(f"server, {repository}", TIME_UP)
        return
    try:
        with started(repository.folder, f"{serve_arguments(repository, device)} {phases.arguments}") as target:
            ready = [subject for subject in subjects if _is_served(results, subject, repository, target)]
            workloads = _Workloads(results, repository, target)
            for callers, images, subject in product(phases.callers, phases.images_per_call, ready):
                _phase(workloads, subject, images, callers, device, phases)
    except TargetError as error:
        results.skip(f"server, {repository}", str(error).splitlines()[-1])  # the end of the server's log, if it died
    except (WireError, OSError, grpc.RpcError) as error:
        results.skip(f"server, {repository}", first_line(error))
    results.write()


def serve_arguments(repository: Serving, device: Device) -> str:
    """For a server that rejects nothing because of time or size."""
    engine = f" --engine {repository.engine}" if device.kind == "cuda" else ""
    return f"--device {device.kind}{engine} --shutdown-delay-s 0 --queue-target-s 0 --max-queue-bytes {QUEUE_BYTES}"


def _is_served(results: Results, subject: Subject, repository: Serving, target: Target) -> bool:
    _, reason = served(target, subject.model)
    if reason:
        results.skip(f"server, {subject} {repository}", reason)
    return not reason


@dataclass
class _Workloads:
    """Of one server: each is prepared when its first phase comes, and is kept for the later ones."""

    results: Results
    repository: Serving
    target: Target
    _made: dict[tuple[Subject, int], tuple[Workload, int] | None] = field(default_factory=dict)

    def of(self, subject: Subject, images: int) -> tuple[Workload, int] | None:
        """It, and the bytes of a reply; None where it cannot be called, which was said then."""
        if (subject, images) not in self._made:
            try:
                version = self.repository.versions[subject.model]
                self._made[subject, images] = prepare(self.target, subject, version, images)
            except TargetError as error:
                part = f"server, {subject} {self.repository}, {images} images per call"
                self.results.skip(part, first_line(error))
                self._made[subject, images] = None
        return self._made[subject, images]


def _phase(workloads: _Workloads, subject: Subject, images: int, callers: int, device: Device, phases: Phases) -> None:
    results, repository, target = workloads.results, workloads.repository, workloads.target
    part = f"server, {subject} {repository}, {images} images per call, {callers} callers"
    if time.perf_counter() > phases.end_s:
        results.skip(part, TIME_UP)
        return
    found = workloads.of(subject, images)
    if found is None:
        return
    workload, reply_bytes = found
    if callers * reply_bytes > IN_FLIGHT_BYTES:
        results.skip(part, f"{callers * reply_bytes / 1e9:.1f} GB of replies in flight")
        return
    platform, _ = served(target, subject.model)
    load = partial(_closed_loop, workload, callers, phases.seconds)
    version = repository.versions[subject.model]
    add(results, part, measured([target], workload, version, subject, platform, callers, device, load))


def add(results: Results, part: str, row: Served) -> None:
    """Adds the row; a phase in which nothing was answered has no figures, so that it is skipped."""
    if row.images_per_s:
        results.served.append(row)
        print(f"{part}: {row.images_per_s:.1f} images/s, limit: {row.limited_by}", flush=True)
    else:
        results.skip(part, f"no call was answered within the phase, {row.errors} ended with an error")
    results.write()


@dataclass(frozen=True)
class Load:
    """What the callers of one phase saw: calls answered in a second, their latencies, the calls that failed."""

    calls_per_s: float
    latencies_s: Sequence[float]
    errors: int
    caller_cores: float


def _closed_loop(workload: Workload, callers: int, seconds: float) -> Load:
    phase = workload.closed_loop(callers, seconds)
    answered = phase.in_time
    return Load(
        phase.per_s, [answer.latency_s for answer in answered], len(phase.answers) - len(answered),
        phase.processor_s / phase.seconds,
    )  # fmt: skip


def measured(
    targets: Sequence[Target], workload: Workload, version: Version, subject: Subject, platform: str, callers: int,
    device: Device, load: Callable[[], Load], setup: str = "",
) -> Served:  # fmt: skip
    """One phase, with what the servers and the GPU did meanwhile."""
    before = [_Meter.read(target, workload.model) for target in targets]
    with device.watched() as busy:
        seen = load()
    after = [_Meter.read(target, workload.model) for target in targets]
    spent = [new - old for old, new in zip(before, after, strict=True)]
    runs = sum(each.executions for each in spent)
    return Served(
        str(subject), version.spec.precision, platform, callers, workload.images, seen.calls_per_s * workload.images,
        percentile(seen.latencies_s, 50), percentile(seen.latencies_s, 99),
        sum(each.inferences for each in spent) / runs if runs else math.nan, seen.errors, busy.share,
        sum(each.processor_s / each.processor_at_s for each in spent), seen.caller_cores,
        sum(each.lane_s / each.at_s for each in spent) / len(spent), setup, len(targets),
    )  # fmt: skip


class _Meter(NamedTuple):
    """What a server has done until now, and when that was: after a phase its page comes late, while it still works.

    `lane_s`: seconds in batches, over the number of lanes. `at_s`: of the page; `processor_at_s`: of `processor_s`.
    """

    inferences: float
    executions: float
    lane_s: float
    at_s: float
    processor_s: float
    processor_at_s: float

    @classmethod
    def read(cls, target: Target, model: str) -> "_Meter":
        page = exposition.fetch(target.metrics)
        at_s, counts = time.perf_counter(), exposition.counts(page, model)
        busy, lanes = (
            sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(f"{name}{{"))
            for name in ("ganserve_device_busy_seconds_total", "ganserve_device_lanes")
        )
        lane_s = busy / lanes if lanes else math.nan
        now_s = time.perf_counter()
        return cls(counts.inferences, counts.executions, lane_s, at_s, _processor_s(target.pid), now_s)

    def __sub__(self, other: "_Meter") -> "_Meter":
        return _Meter(*(new - old for new, old in zip(self, other, strict=True)))


def _processor_s(pid: int) -> float:
    """Processor seconds that a process has used, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def prepare(target: Target, subject: Subject, version: Version, images: int) -> tuple[Workload, int]:
    """The workload, and the bytes of the reply to it, after one was read in full.

    Raises:
        TargetError: the call failed, or its reply has other images than were requested.
    """
    messages = [_request(subject.model, version, subject, images, first) for first in range(DISTINCT_REQUESTS)]
    answer = call_once(target.address, INFER, messages[0])
    if answer.status != OK or answer.body is None:
        details = rejection(target, INFER, messages[0])
        raise TargetError(f"the first call ended with gRPC status {answer.status}: {details}")
    reply = service_pb2.ModelInferResponse.FromString(answer.body)
    (output,), (raw,) = reply.outputs, reply.raw_output_contents
    if output.shape[0] != images or len(raw) != int(np.prod(output.shape)):
        raise TargetError(f"{output.name} has shape {list(output.shape)} in {len(raw)} bytes, requested {images}")
    return Workload(target, subject.model, INFER, messages, CONNECTIONS, images), answer.reply_bytes


def _request(model: str, version: Version, subject: Subject, images: int, first: int) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=model)
    for name, rows in feed_of(version, subject, images + first).items():
        array = rows[first:]
        request.inputs.add(name=name, datatype=KSERVE_OF[array.dtype.name], shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    serialized: bytes = request.SerializeToString()
    return serialized


def served(target: Target, model: str) -> tuple[str, str]:
    """What the server says runs the model, and why nothing does; a server that is up has tried every model."""
    with grpc.insecure_channel(f"{target.host}:{target.grpc_port}") as channel:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for entry in stub.RepositoryIndex(service_pb2.RepositoryIndexRequest()).models:
            if entry.name == model and entry.state != "READY":
                return "", f"{entry.state}: {entry.reason}"
        return str(stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=model)).platform), ""
