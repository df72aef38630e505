"""The callers of a soak, each a thread with connections of its own that goes on until told to stop."""

import random
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bench.caller.server import Target
from ganserve.v1 import images_pb2 as pb
from ganserve.v1.images_pb2_grpc import ImageServiceStub
from tests.hostile import connections, images, messages
from tests.hostile.messages import METHODS, PLAIN, STYLED, TRANSLATOR, UPSCALER, Case

CALL_S = 60.0
# Between the calls of one caller, so that the server is busy and not only full.
PAUSE_S = 0.02
CONTROL_PAUSE_S = 2.0
# A slow reader takes one image in so long, and leaves after so many.
READ_S, READS = 0.1, 50
CANCELLED_AFTER_S = 0.01
# As in k8s/base/deployment.yaml.
PROBE_S = 5.0


@dataclass
class Soak:
    """What the callers share. `counts`: how often which caller got which status."""

    target: Target
    models: dict[str, list[pb.Model]]  # by task
    requests: list[bytes]  # good ModelInfer requests
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    stop: threading.Event = field(default_factory=threading.Event)
    failures: list[str] = field(default_factory=list)  # callers that have ended by an error of their own

    @property
    def generators(self) -> list[pb.Model]:
        return [*self.models.get("unconditional", ()), *self.models.get("class-conditional", ())]

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """A connection that no other caller shares."""
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
        with grpc.insecure_channel(f"{self.target.host}:{self.target.grpc_port}", options=options) as channel:
            yield channel

    def call(self, caller: str, function: Callable[[], object]) -> None:
        """Counts the status with which it ends."""
        status = "OK"
        try:
            function()
        except grpc.RpcError as error:
            status = error.code().name
        self.counts[caller, status] += 1


Caller = Callable[[Soak, random.Random], None]


def run(soak: Soak, name: str, caller: Caller, seed: int) -> None:
    """The caller until the soak stops; an error that is not the server's ends it, which fails the soak."""
    try:
        caller(soak, random.Random(seed))
    except Exception as error:
        soak.failures.append(f"{name}: {error!r}")


def generate(soak: Soak, rng: random.Random) -> None:
    """Images in every encoding."""
    with soak.channel() as channel:
        stub = ImageServiceStub(channel)
        while not soak.stop.wait(PAUSE_S):
            request = _images_of(rng.choice(soak.generators), rng, rng.choice((1, 1, 4, 16)))
            soak.call("generate", lambda r=request: stub.Generate(r, timeout=CALL_S))  # type: ignore[misc]


def stream(soak: Soak, rng: random.Random) -> None:
    """Streams, read to the end."""
    with soak.channel() as channel:
        stub = ImageServiceStub(channel)
        while not soak.stop.wait(PAUSE_S):
            request = _images_of(rng.choice(soak.generators), rng, 64)
            soak.call("stream", lambda r=request: list(stub.GenerateStream(r, timeout=CALL_S)))  # type: ignore[misc]


def leave(soak: Soak, rng: random.Random) -> None:
    """Calls that are cancelled while they run."""
    with soak.channel() as channel:
        stub = ImageServiceStub(channel)
        while not soak.stop.wait(PAUSE_S):
            call: Any = stub.GenerateStream(_images_of(rng.choice(soak.generators), rng, 256), timeout=CALL_S)
            threading.Timer(rng.random() * CANCELLED_AFTER_S, call.cancel).start()
            soak.call("leave", lambda c=call: list(c))  # type: ignore[misc]


def read_slowly(soak: Soak, rng: random.Random) -> None:
    """Streams of which few images are read, slowly, on connections that are then dropped."""
    while not soak.stop.is_set():
        with soak.channel() as channel:
            request = _images_of(rng.choice(soak.generators), rng, 1024, pb.IMAGE_FORMAT_RAW)
            answers = ImageServiceStub(channel).GenerateStream(request, timeout=CALL_S)

            def read(answers: Any = answers) -> None:
                for _, _ in zip(range(READS), answers, strict=False):
                    if soak.stop.wait(READ_S):
                        break
                answers.cancel()

            soak.call("read slowly", read)


def infer(soak: Soak, rng: random.Random) -> None:
    """Tensors, with and without a deadline that may be too short."""
    with soak.channel() as channel:
        call: Any = channel.unary_unary(messages.path_of("ModelInfer"))
        while not soak.stop.wait(PAUSE_S):
            message, timeout_s = rng.choice(soak.requests), rng.choice((0.005, 0.25, CALL_S))
            soak.call("infer", lambda m=message, t=timeout_s: call(m, timeout=t))  # type: ignore[misc]


def transform(soak: Soak, rng: random.Random) -> None:
    """Images that are enlarged or translated."""
    good = images.good()
    with soak.channel() as channel:
        stub = ImageServiceStub(channel)
        while not soak.stop.wait(PAUSE_S):
            for model in soak.models.get("super-resolution", ()):
                request = pb.UpscaleRequest(model=model.name, image=good)
                soak.call("upscale", lambda r=request: stub.Upscale(r, timeout=CALL_S))  # type: ignore[misc]
            for model in soak.models.get("image-to-image", ()):
                translate = pb.TranslateRequest(model=model.name, image=good)
                soak.call("translate", lambda r=translate: stub.Translate(r, timeout=CALL_S))  # type: ignore[misc]


def control(soak: Soak, rng: random.Random) -> None:
    """Loads every model again, and now and then unloads one before."""
    names = sorted({model.name for models in soak.models.values() for model in models})
    with soak.channel() as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        while not soak.stop.wait(CONTROL_PAUSE_S):
            name = rng.choice(names)
            if rng.random() < 0.25:
                unload = service_pb2.RepositoryModelUnloadRequest(model_name=name)
                soak.call("unload", lambda r=unload: stub.RepositoryModelUnload(r, timeout=CALL_S))  # type: ignore[misc]
            load = service_pb2.RepositoryModelLoadRequest(model_name=name)
            timeout_s = rng.choice((0.01, CALL_S))  # some leave before it is loaded
            soak.call("load", lambda r=load, t=timeout_s: stub.RepositoryModelLoad(r, timeout=t))  # type: ignore[misc]
            soak.call("load", lambda r=load: stub.RepositoryModelLoad(r, timeout=CALL_S))  # type: ignore[misc]


def corpus(soak: Soak) -> list[Case]:
    """The hostile messages of the tests, at the models that there are.

    Without those that would load and unload, and those that a front end's library may answer with INTERNAL.
    """
    cases = (case for case in messages.cases() if grpc.StatusCode.INTERNAL not in case.codes)
    return [_aimed(case, soak) for case in cases if case.rpc not in messages.CONTROL]


def attack_once(soak: Soak) -> None:
    """Every message of the corpus, one after the other."""
    with soak.channel() as channel:
        for case in corpus(soak):
            messages.send(channel, case, CALL_S)


def attack(soak: Soak, rng: random.Random) -> None:
    """Messages of the corpus, by chance."""
    cases = corpus(soak)
    while not soak.stop.is_set():
        with soak.channel() as channel:
            for case in rng.sample(cases, 200):
                soak.counts["attack", messages.send(channel, case, CALL_S).name] += 1
                if soak.stop.wait(PAUSE_S):
                    return


def send_bytes(soak: Soak, rng: random.Random) -> None:
    """The corpus's bytes, for both ports."""
    metrics_host, _, port = soak.target.metrics.rpartition(":")
    inputs = [((metrics_host, int(port)), each.data) for each in connections.http()]
    inputs += [(soak.target.address, each.data) for each in connections.http2()]
    while not soak.stop.wait(PAUSE_S):
        address, data = rng.choice(inputs)
        try:
            answer = connections.send(address, data)
        except OSError as error:
            soak.counts["bytes", type(error).__name__] += 1
        else:
            soak.counts["bytes", "answered" if answer else "no answer"] += 1


def probe(soak: Soak, rng: random.Random) -> None:
    """Kubernetes' question, once a second, with the limit of time of our manifests."""
    while not soak.stop.wait(1.0):
        started = time.monotonic()
        try:
            with urllib.request.urlopen(f"http://{soak.target.metrics}/livez", timeout=PROBE_S):
                late = time.monotonic() - started > 1.0
                soak.counts["probe", "late" if late else "OK"] += 1
        except OSError:
            soak.counts["probe", "failed"] += 1


CALLERS: dict[str, Caller] = {
    "generate": generate,
    "stream": stream,
    "leave": leave,
    "read slowly": read_slowly,
    "infer": infer,
    "transform": transform,
    "control": control,
    "attack": attack,
    "bytes": send_bytes,
    "probe": probe,
}


def _images_of(model: pb.Model, rng: random.Random, count: int, kind: int | None = None) -> pb.GenerateRequest:
    encoding = pb.Encoding(format=rng.choice((1, 2, 3, 4)) if kind is None else kind)  # type: ignore[arg-type]
    labels = ["0"] if model.task == "class-conditional" else []
    return pb.GenerateRequest(model=model.name, count=count, labels=labels, encoding=encoding)


def _aimed(case: Case, soak: Soak) -> Case:
    """The case with the name of a model that there is in place of that of the tests' own."""
    own = {
        PLAIN: soak.generators,
        STYLED: soak.generators,
        UPSCALER: soak.models.get("super-resolution", []),
        TRANSLATOR: soak.models.get("image-to-image", []),
    }
    message: Any = GetMessageClass(METHODS[case.rpc].input_type)()
    try:
        message.ParseFromString(case.message)
    except DecodeError:
        return case
    for name in ("model_name", "model", "name"):
        found = own.get(getattr(message, name, ""))
        if found:
            setattr(message, name, found[0].name)
            return replace(case, message=message.SerializeToString())
    return case
