"""The same models through `ganserve serve`: callers who wait, ModelInfer, one image per call or many."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bench.caller.loops import call_once
from bench.caller.server import INFER, Target, TargetError, rejection, started
from bench.caller.wire import OK, WireError
from bench.cpu.load import Workload
from bench.gpu.artifacts import Version
from bench.gpu.device import Device
from bench.gpu.rates import TIME_UP, feed_of
from bench.gpu.report import Results, Served, Subject, first_line
from bench.gpu.serving import Serving

CONNECTIONS = 4
DISTINCT_REQUESTS = 8
IN_FLIGHT_BYTES = 4 << 30  # replies of one phase together: beyond that memory is measured, not the server
KSERVE_OF = {"float32": "FP32", "float16": "FP16", "int64": "INT64", "uint8": "UINT8"}
QUEUE_BYTES = 16 << 30


@dataclass(frozen=True)
class Phases:
    """What a server is loaded with: callers, images per call, seconds for each phase, when to begin no more."""

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
    arguments = f"--device {device.kind} --shutdown-delay-s 0 --queue-target-s 0 --max-queue-bytes {QUEUE_BYTES}"
    if device.kind == "cuda":
        arguments += f" --engine {repository.engine}"
    try:
        with started(repository.folder, f"{arguments} {phases.arguments}") as target:
            for subject in subjects:
                _serve_subject(results, subject, repository, target, device, phases)
    except TargetError as error:
        results.skip(f"server, {repository}", str(error).splitlines()[-1])  # the end of the server's log, if it died
    except (WireError, OSError, grpc.RpcError) as error:
        results.skip(f"server, {repository}", first_line(error))
    results.write()


def _serve_subject(
    results: Results, subject: Subject, repository: Serving, target: Target, device: Device, phases: Phases
) -> None:
    version, precision = repository.versions[subject.model], repository.precision
    platform, reason = _served(target, subject.model)
    if reason:
        results.skip(f"server, {subject} {repository}", reason)
        return
    for images in phases.images_per_call:
        part = f"server, {subject} {repository}, {images} images per call"
        if time.perf_counter() > phases.end_s:
            results.skip(part, TIME_UP)
            continue
        try:
            workload, reply_bytes = _prepare(target, subject, version, images)
        except TargetError as error:
            results.skip(part, first_line(error))
            continue
        for callers in phases.callers:
            if callers * reply_bytes > IN_FLIGHT_BYTES:
                results.skip(f"{part}, {callers} callers", f"{callers * reply_bytes / 1e9:.1f} GB of replies in flight")
            elif time.perf_counter() > phases.end_s:
                results.skip(f"{part}, {callers} callers", TIME_UP)
            else:
                row = _phase(workload, subject, precision, platform, callers, images, device, phases.seconds)
                results.served.append(row)
                results.write()
                busy = "" if row.gpu_busy is None else f", GPU busy {row.gpu_busy:.2f}"
                print(f"{part}, {callers} callers: {row.images_per_s:.1f} images/s{busy}", flush=True)


def _phase(
    workload: Workload, subject: Subject, precision: str, platform: str, callers: int, images: int, device: Device,
    seconds: float,
) -> Served:  # fmt: skip
    counted = workload.target.counts(workload.model)
    began = _processor_s(workload.target.pid), time.process_time(), time.perf_counter()
    with device.watched() as busy:
        phase = workload.closed_loop(callers, seconds)
    spent = _processor_s(workload.target.pid), time.process_time(), time.perf_counter()
    server_s, caller_s, wall_s = (after - before for after, before in zip(spent, began, strict=True))
    mean_batch = workload.target.counts(workload.model).mean_batch_since(counted)
    return Served(
        str(subject), precision, platform, callers, images, phase.per_s * images, phase.latency_s(50),
        phase.latency_s(99), mean_batch, len(phase.answers) - len(phase.in_time), busy.share,
        server_s / wall_s, caller_s / wall_s,
    )  # fmt: skip


def _processor_s(pid: int) -> float:
    """Processor seconds that a process has used, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _prepare(target: Target, subject: Subject, version: Version, images: int) -> tuple[Workload, int]:
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


def _served(target: Target, model: str) -> tuple[str, str]:
    """What the server says runs the model, and why nothing does; a server that is up has tried every model."""
    with grpc.insecure_channel(f"{target.host}:{target.grpc_port}") as channel:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for entry in stub.RepositoryIndex(service_pb2.RepositoryIndexRequest()).models:
            if entry.name == model and entry.state != "READY":
                return "", f"{entry.state}: {entry.reason}"
        return str(stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=model)).platform), ""
