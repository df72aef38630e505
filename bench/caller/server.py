"""The server under test: started here or found running, the inputs that it accepts, its metrics page, and requests."""

import contextlib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from artifact.spec import TensorSpec
from bench.caller import exposition
from bench.caller.payloads import DTYPES, Facts, random_inputs
from ganserve.v1 import images_pb2

INFER = "/inference.GRPCInferenceService/ModelInfer"
GENERATE = "/ganserve.v1.ImageService/Generate"
READY_POLL_S = 0.1
START_LIMIT_S = 60.0
READY_LIMIT_S = 5.0
STOP_LIMIT_S = 45.0  # above the default shutdown delay and drain together
DISTINCT_REQUESTS = 64
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class TargetError(Exception):
    """A server that cannot be measured; the text says what was requested and what came back."""


@dataclass(frozen=True)
class Target:
    """Where a server listens. `metrics` is HOST:PORT of its HTTP side, `rest` of its HTTP API; "" if not known."""

    host: str
    grpc_port: int
    metrics: str
    frontend: str = "unknown"
    pid: int = 0  # of a server that was started here
    rest: str = ""

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.grpc_port

    def counts(self, model: str) -> exposition.Counts:
        """The model's counters now."""
        return exposition.counts(exposition.fetch(self.metrics), model)


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT taken apart.

    Raises:
        TargetError: it is not of that form.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise TargetError(f"{text!r}: must be HOST:PORT")
    return host, int(port)


@contextlib.contextmanager
def started(repository: Path, arguments: str, module: str = "") -> Iterator[Target]:
    """A server of our own on free ports over that repository, as a process that ends with the block.

    `module`: run in place of the command `ganserve`.

    Raises:
        TargetError: it ended, or said nothing readable, before it served; with the end of its log.
    """
    beside = Path(sys.executable).with_name("ganserve")
    command = str(beside) if beside.exists() else shutil.which("ganserve") or "ganserve"
    run = [sys.executable, "-m", module] if module else [command]
    line = [*run, "serve", "--repository", str(repository), "--grpc-port", "0", "--http-port", "0", "--json"]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen([*line, *shlex.split(arguments)], stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        rest = threading.Thread(target=_discard, args=(process.stdout,))
        try:
            target = replace(announced(process.stdout, log), pid=process.pid)
            rest.start()
            yield target
        finally:
            process.terminate()
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
            if rest.ident is not None:
                rest.join()


def _discard(output: IO[str]) -> None:
    """Reads to the end, since a full pipe would stop the server."""
    for _ in output:
        pass


def announced(output: IO[str], log: IO[str]) -> Target:
    """Where the server says, in the first line of its output, that it listens.

    Raises:
        TargetError: the line is something else; with the end of the log.
    """
    first = output.readline()
    try:
        said: dict[str, Any] = json.loads(first)
        grpc_port, http_port = int(said["grpc_port"]), int(said["http_port"])
    except (ValueError, KeyError, TypeError):
        log.seek(0)
        tail = "".join(log.readlines()[-20:])
        raise TargetError(f"the server's first line was {first!r}; its log ends:\n{tail}") from None
    rest = f"127.0.0.1:{said['rest_port']}" if said.get("rest_port", -1) > 0 else ""
    return Target("127.0.0.1", grpc_port, f"127.0.0.1:{http_port}", str(said.get("frontend", "unknown")), rest=rest)


def model_inputs(target: Target, model: str) -> list[TensorSpec]:
    """The model's inputs without the batch axis, once the model is ready.

    Raises:
        TargetError: it was not ready in time, or accepts tensors that cannot be made up.
    """
    with grpc.insecure_channel(f"{target.host}:{target.grpc_port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        end_s, pause = time.monotonic() + START_LIMIT_S, threading.Event()
        while not _is_ready(stub, model):
            if time.monotonic() > end_s:
                raise TargetError(f"{model} at {target.host}:{target.grpc_port}: not ready in {START_LIMIT_S:.0f} s")
            pause.wait(READY_POLL_S)
        metadata = stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=model))
    for entry in metadata.inputs:
        if entry.datatype not in DTYPES:
            raise TargetError(f"input {entry.name} of {model} is {entry.datatype}; known here: {', '.join(DTYPES)}")
    return [TensorSpec(entry.name, entry.datatype, tuple(entry.shape)[1:]) for entry in metadata.inputs]


def _is_ready(stub: Any, model: str) -> bool:
    """Whether the server says so.

    Raises:
        TargetError: nobody answers.
    """
    try:
        return bool(stub.ModelReady(service_pb2.ModelReadyRequest(name=model), timeout=READY_LIMIT_S).ready)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return False
        raise TargetError(f"ModelReady for {model}: {error.code().name}: {error.details()}") from None


def infer_requests(model: str, specs: list[TensorSpec], facts: Facts, images: int = 1) -> list[bytes]:
    """Serialized ModelInfer requests of `images` images each, raw contents, a seed for each image."""
    messages = []
    for number in range(DISTINCT_REQUESTS):
        request = service_pb2.ModelInferRequest(model_name=model)
        for spec, array in zip(specs, random_inputs(specs, images, facts, number * images).values(), strict=True):
            request.inputs.add(name=spec.name, datatype=spec.dtype, shape=array.shape)
            request.raw_input_contents.append(array.tobytes())
        messages.append(request.SerializeToString())
    return messages


def generate_requests(model: str, specs: list[TensorSpec], facts: Facts, images: int = 1) -> list[bytes]:
    """Serialized Generate requests of `images` PNGs each, a seed for each."""
    has_labels = any(spec.dtype == "INT64" for spec in specs)
    messages = []
    for first in range(0, DISTINCT_REQUESTS * images, images):
        seeds = range(first, first + images)
        labels = [str(seed % facts.classes if facts.classes else 0) for seed in seeds] if has_labels else []
        request = images_pb2.GenerateRequest(model=model, seeds=images_pb2.Seeds(values=seeds), labels=labels)
        messages.append(request.SerializeToString())
    return messages


def rejection(target: Target, path: str, message: bytes) -> str:
    """Why the server rejects this request, from another call with grpcio; empty if it now answers."""
    with grpc.insecure_channel(f"{target.host}:{target.grpc_port}") as channel:
        try:
            call: Any = channel.unary_unary(path)  # the stubs type it by serializers; without any it takes bytes
            call(message, timeout=READY_LIMIT_S)
        except grpc.RpcError as error:
            return error.details() or error.code().name
    return ""


def check_reply(path: str, body: bytes, images: int = 1) -> None:
    """Reads one reply in full.

    Raises:
        TargetError: it is not that many images as tensors, or not that many PNGs.
    """
    if path == GENERATE:
        found = images_pb2.GenerateReply.FromString(body).images
        if len(found) != images or not all(image.data.startswith(PNG_SIGNATURE) for image in found):
            raise TargetError(f"Generate answered with {len(found)} images, not with {images} PNG")
        return
    reply = service_pb2.ModelInferResponse.FromString(body)
    if not reply.outputs or len(reply.outputs) != len(reply.raw_output_contents):
        raise TargetError(f"{len(reply.outputs)} outputs with {len(reply.raw_output_contents)} raw contents")
    for output, raw in zip(reply.outputs, reply.raw_output_contents, strict=True):
        expected = int(np.prod(output.shape)) * DTYPES[output.datatype].itemsize
        if output.shape[0] != images or len(raw) != expected:
            raise TargetError(f"output {output.name}: shape {list(output.shape)}, {len(raw)} bytes, not {expected}")
