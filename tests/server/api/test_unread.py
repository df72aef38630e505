"""Replies that their clients do not read, which front ends keep."""

import asyncio
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from PIL import Image
from pygrpc_native import STREAM_CLOSED, STREAM_SENT

from ganserve.v1 import images_pb2 as pb
from ganserve.v1.images_pb2_grpc import ImageServiceStub
from server.api.native_call import Method, NativeCall
from server.api.native_unread import NativeUnread
from server.api.unread import Unread, address_of
from server.images.memory import MemoryBudget
from tests.server.api.raw_http2 import message, raw_connection
from tests.server.graphs import write_upscaler

PATH = "/ganserve.v1.ImageService/Upscale"
SIDE = 800


async def why_refused(call: Any) -> str:
    """The text of a call that is rejected, empty if it is not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return str(error.details())
        raise
    return ""


async def test_an_unread_reply_gives_way_to_a_call_that_needs_its_memory(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("unread", "native_unread"):
        monkeypatch.setattr(f"server.api.{module}.BYTES_PER_S", 1 << 30)
    write_upscaler(tmp_path / "one", "upscaler")
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE)).save(file, "PNG")
    raw = pb.Encoding(format=pb.IMAGE_FORMAT_RAW)
    request = pb.UpscaleRequest(model="upscaler", image=file.getvalue(), encoding=raw)
    limit = 4 * (2 * SIDE) ** 2 * 3
    running = await start(repository=tmp_path / "one", stream_idle_s=0.5, max_held_bytes=limit, threads=1)
    options = [("grpc.max_receive_message_length", -1)]
    async with (
        grpc.aio.insecure_channel(running.target, options=options) as channel,
        raw_connection(running.target, window=0) as unread,
        raw_connection(running.target, window=0) as small,
    ):
        upscale = ImageServiceStub(channel).Upscale
        small.begin("/inference.GRPCInferenceService/ServerLive", message(b""), ends=True)
        unread.begin(PATH, message(request.SerializeToString()), ends=True)
        texts: list[str] = []
        async with asyncio.timeout(30):
            while not unread.is_lost or texts[-1]:
                texts.append(await why_refused(upscale(request)))
        assert [text for text in texts if "max_held_bytes" in text]
        assert not small.is_lost, "it holds next to nothing"


class Sending:
    """A call to `host` whose reply is on its way."""

    def __init__(self, host: str) -> None:
        self._host = host

    def peer(self) -> str:
        return f"ipv4:{self._host}:1"

    def add_done_callback(self, callback: Any) -> None:
        pass


def test_a_long_reply_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    moments, ended = [0.0], list[set[tuple[str, int]]]()
    monkeypatch.setattr("server.api.unread.time", SimpleNamespace(monotonic=lambda: moments[-1]))
    monkeypatch.setattr("server.api.unread.end_connections", lambda port, peers: ended.append(peers))
    replies: Any = Unread(1, idle_s=2.0)
    replies.add(Sending("short"), 0)
    replies.add(Sending("long"), 3 << 20)
    for moment in (1.9, 2.1, 5.1):
        moments.append(moment)
        replies.end_oldest()
    assert ended == [{("short", 1)}, {("short", 1), ("long", 1)}]


MB = 1_000_000
PEERS = {name: (name, 1) for name in ("reads", "drips", "slow")}


class Fronts:
    """What the native front end and the system say: bytes that were sent, replies left, and what has come to whom."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.sent, self.left = 100.0, 0, 0
        self.acked = dict.fromkeys(PEERS, 0)
        self.ended: list[set[str]] = []
        self.asked, self.asking_s = 0, 0.0  # how often, and what it takes
        module = "server.api.native_unread"
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(f"{module}.acknowledged", self._acknowledged)
        monkeypatch.setattr(f"{module}.end_connections", lambda _, peers: self.ended.append({p[0] for p in peers}))
        self.budget = MemoryBudget(100 * MB)
        self.unread = NativeUnread(1, 60.0, self.budget, lambda: (self.sent, self.left))

    def give(self, name: str, nbytes: int) -> None:
        self.left += 1
        self.unread.gave(f"ipv4:{name}:1", nbytes)

    def _acknowledged(self, _: int) -> dict[tuple[str, int], tuple[int, int]]:
        self.asked += 1
        self.now += self.asking_s
        return {PEERS[name]: (1, n) for name, n in self.acked.items()}

    def look(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.unread._look()


async def test_on_native_who_reads_is_left_alone_and_who_does_not_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    fronts = Fronts(monkeypatch)
    for name in PEERS:
        fronts.give(name, 30 * MB)
    fronts.look()
    assert fronts.budget.held_bytes == 90 * MB
    for _ in range(100):
        fronts.acked["reads"] += 30 * MB + 100  # and gets the next one
        fronts.give("reads", 30 * MB)
        fronts.sent += 30 * MB
        fronts.acked["drips"] += 1
        fronts.acked["slow"] = min(30 * MB, fronts.acked["slow"] + MB)
        fronts.look(1.0)
    assert not fronts.ended, "memory is not short"
    fronts.budget.when_short()
    assert fronts.ended == [{"drips"}]


async def test_on_native_the_most_that_is_unread_ends_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    fronts = Fronts(monkeypatch)
    for _ in range(140):  # of calls that are too small to be counted
        fronts.give("slow", MB // 2)
        fronts.give("drips", MB // 2)
    fronts.give("reads", MB // 2)
    fronts.acked["slow"] = 20 * MB
    fronts.sent = 20 * MB
    fronts.look()
    assert fronts.ended == []
    fronts.give("reads", 20 * MB)
    fronts.look(0.25)
    assert fronts.ended == [{"drips"}]


async def test_on_native_replies_that_were_dropped_unseen_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    fronts = Fronts(monkeypatch)
    for _ in range(40):
        fronts.give("slow", 2 * MB)
    fronts.left = 3  # their callers left at that moment: they will never be among what was sent
    fronts.look()
    assert fronts.budget.held_bytes == 6 * MB
    fronts.left = 0  # as it may be for a moment
    fronts.look()
    fronts.left = 3
    fronts.look()
    assert fronts.budget.held_bytes == 6 * MB
    fronts.left = 0
    fronts.look()
    fronts.look()
    fronts.give("slow", 2 * MB)
    fronts.look()
    assert fronts.budget.held_bytes == 2 * MB


async def test_on_native_who_cancels_and_reads_on_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    fronts = Fronts(monkeypatch)
    fronts.give("reads", 30 * MB)
    fronts.look()
    fronts.left, fronts.sent = 0, 30 * MB  # dropped: it never comes
    fronts.look(0.25)
    fronts.look(0.25)
    for _ in range(20):
        fronts.look(10.0)
        fronts.budget.when_short()
    fronts.give("drips", 20 * MB)  # from here on there is something unread
    fronts.give("reads", 10 * MB)
    fronts.look(0.25)
    fronts.left, fronts.sent = 1, 40 * MB
    for _ in range(20):
        fronts.look(10.0)
        assert fronts.budget.held_bytes == 20 * MB
    fronts.budget.when_short()
    assert fronts.ended == [{"drips"}], "and not who leaves less than that"


@pytest.mark.parametrize("follows", ["much that is read", "the connection's end"])
async def test_on_native_dropped_replies_are_not_counted_although_calls_wait(
    monkeypatch: pytest.MonkeyPatch, follows: str
) -> None:
    fronts = Fronts(monkeypatch)
    for _ in range(30):  # of each the front end says neither that it was sent nor that it was dropped
        fronts.give("reads", MB)
    fronts.left = 30  # calls whose messages arrive slowly
    fronts.look()
    assert fronts.budget.held_bytes == 30 * MB
    if follows == "much that is read":
        fronts.acked["reads"] += 30 * MB
    else:
        del fronts.acked["reads"]
    fronts.look(0.25)
    assert fronts.budget.held_bytes == 0


async def test_on_native_the_system_is_not_asked_for_more_than_a_twentieth_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fronts = Fronts(monkeypatch)
    fronts.give("slow", 60 * MB)
    fronts.asking_s = 0.1
    for _ in range(20):
        fronts.look(0.25)
        fronts.budget.when_short()
    assert fronts.asked == 3


@pytest.mark.parametrize(("state", "given"), [(STREAM_SENT, [3]), (STREAM_CLOSED, [])])
async def test_on_native_a_message_that_was_not_taken_is_not_counted(state: int, given: list[int]) -> None:
    front: Any = SimpleNamespace(stream_try_send=lambda number, data: state)
    noted: list[int] = []
    unread: Any = SimpleNamespace(gave=lambda peer, nbytes, is_reply: noted.append(nbytes))
    method = Method(lambda request, call: None, bytes, bytes, is_stream=True)
    await NativeCall(front, 1, method, 100, True, unread, (), "ipv4:a:1", None).write(b"abc")
    assert noted == given


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.1:1234", ("10.0.0.1", 1234)),
        ("ipv6:%5B::1%5D:80", ("::1", 80)),
        ("ipv6:%5B::ffff:10.0.0.1%5D:80", ("10.0.0.1", 80)),
        ("unix:", ("", 0)),
    ],
)
def test_a_peer_is_read_as_sockets_name_it(peer: str, address: tuple[str, int]) -> None:
    assert address_of(peer) == address
