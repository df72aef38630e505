"""The server that hostile inputs are sent to: its models, its keys, good calls, and what it holds."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as kserve

from bench.soak.process import Held
from ganserve.v1 import images_pb2 as pb
from tests import serving
from tests.hostile import images, messages
from tests.hostile.messages import PLAIN, STYLED, TRANSLATOR, UPSCALER, Case, infer, path_of
from tests.server.conftest import write_tiny
from tests.server.graphs import write_styled, write_translator, write_upscaler

LIMIT_S = 10.0  # for one call
SETTLE_S = 30.0  # for connections to be forgotten, and for memory to be given back
POLL_S = 0.05
# What one call may leave in the log, bytes. More is a flood.
LOG_BYTES_PER_CALL = 2048
KEYS = {"caller": ("infer",), "operator": ("infer", "control", "metrics")}
MAX_MESSAGE_BYTES = 16 << 20


def write_repository(root: Path) -> None:
    """A model of each kind."""
    write_tiny(root, PLAIN)
    (root / PLAIN / "config.pbtxt").write_text('backend: "onnxruntime" max_batch_size: 8')
    write_styled(root, STYLED)
    write_upscaler(root, UPSCALER)
    write_translator(root, TRANSLATOR)
    for path in root.glob("*.onnx"):
        path.unlink()


def write_keys(path: Path) -> None:
    """The keys: each is its name."""
    path.write_text(
        "".join(
            f'[{name}]\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\nroles = {list(roles)}\n'
            for name, roles in KEYS.items()
        )
    )


class Victim:
    """A running server, a connection for hostile calls and one for good calls."""

    def __init__(self, process: serving.ServerProcess, hostile: grpc.Channel, good: grpc.Channel) -> None:
        self.process = process
        self._hostile, self._good = hostile, good
        self.calls = 0
        self._seen = 0  # characters of the log

    @property
    def grpc_address(self) -> tuple[str, int]:
        return "127.0.0.1", self.process.grpc_port

    @property
    def http_address(self) -> tuple[str, int]:
        return "127.0.0.1", self.process.http_port

    @property
    def rest_address(self) -> tuple[str, int]:
        """Of the HTTP API."""
        return "127.0.0.1", int(self.process.ready["rest_port"])

    @property
    def held(self) -> Held:
        return Held.by(self.process.process.pid)

    def good_answers(self) -> list[bytes]:
        """What an honest caller gets, without times."""
        infer_reply = kserve.ModelInferResponse.FromString(self._ask("ModelInfer", infer()))
        face = pb.GenerateRequest(model=STYLED, seeds=pb.Seeds(values=[3]), labels=["two"])
        generated = pb.GenerateReply.FromString(self._ask("Generate", face))
        return [infer_reply.SerializeToString(deterministic=True), generated.images[0].data]

    def good_transforms(self) -> list[bytes]:
        """The same of images, which take longer."""
        upscale = pb.UpscaleRequest(model=UPSCALER, image=images.good())
        translate = pb.TranslateRequest(model=TRANSLATOR, image=images.good())
        return [
            pb.UpscaleReply.FromString(self._ask("Upscale", upscale)).image.data,
            pb.TranslateReply.FromString(self._ask("Translate", translate)).image.data,
        ]

    def large_calls(self) -> None:
        """Calls of the size of the largest in the corpus, after which the server holds what it keeps for such."""
        for side in (2000, 600, 2000):
            pixels = bytes(side * side * 3)
            for rpc, message, model in (
                ("Upscale", pb.UpscaleRequest, UPSCALER),
                ("Translate", pb.TranslateRequest, TRANSLATOR),
            ):
                self._ask(rpc, message(model=model, image=pixels, raw_width=side, raw_height=side))

    def new_log(self) -> str:
        """What the server has logged since the last time."""
        log = self.process.log
        added, self._seen = log[self._seen :], len(log)
        return added

    def _ask(self, rpc: str, request: Any) -> bytes:
        self.calls += 1
        call: Any = self._good.unary_unary(path_of(rpc))
        message, metadata = request.SerializeToString(), key_of("caller")
        return bytes(call(message, timeout=LIMIT_S, metadata=metadata))

    def play(self, case: Case) -> grpc.StatusCode:
        """Sends the case and returns the status with which the call ended."""
        self.calls += 1
        return messages.send(self._hostile, case, LIMIT_S, key_of("caller"))

    def settled(self, is_rest: Callable[[Held], bool]) -> Held:
        """What it holds once that is rest, or after SETTLE_S; memory is given back after 10 s without work."""
        end_s = time.monotonic() + SETTLE_S
        while not is_rest(held := self.held) and time.monotonic() < end_s:
            time.sleep(POLL_S)
        return held


def key_of(name: str) -> tuple[tuple[str, str], ...]:
    """The header with that caller's key."""
    return (("authorization", f"Bearer {name}"),)


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Victim]:
    """A server with all models, two keys and small limits; must end with exit code 0."""
    write_repository(folder / "repository")
    write_keys(folder / "keys.toml")
    given = ("--api-keys", str(folder / "keys.toml"), "--model-control", "explicit", "--device", "cpu")
    limits = ("--max-message-bytes", str(MAX_MESSAGE_BYTES), *options)
    with serving.running(folder / "repository", *given, *limits) as process:
        each = (("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 100))  # a connection each
        with (
            grpc.insecure_channel(process.address, options=each) as hostile,
            grpc.insecure_channel(process.address, options=each) as good,
        ):
            yield Victim(process, hostile, good)


def corpus() -> dict[str, list[Case]]:
    """All messages by RPC."""
    found: dict[str, list[Case]] = {}
    for case in messages.cases():
        found.setdefault(case.rpc, []).append(case)
    return found
