"""Hostile inputs against a real server: each ends by blaming its sender, in time, and nobody else notices.

One server for each front end takes them all; the last test looks at what they have left behind.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pytest

from bench.soak.process import Held
from tests.hostile import connections, victim
from tests.hostile.connections import Bytes
from tests.hostile.messages import METHODS, Case, infer
from tests.hostile.victim import Victim

# One input may take so long: decoding what is large, and a shared machine.
INPUT_S = 5.0
LATE_THREADS = 2  # of pools, which start theirs when they are first needed
RSS_GROWTH = 1.5
WARM_ROUNDS = 10
# Senders of bytes at once: each mostly waits for the server to be quiet.
SENDERS = 16
SLOW_HEADS = 200

pytestmark = pytest.mark.slow


class Target:
    """The server with what was seen of it at rest."""

    def __init__(self, server: Victim) -> None:
        self.server = server
        for _ in range(WARM_ROUNDS):
            self.answers = server.good_answers()
            self.transforms = server.good_transforms()
        server.large_calls()
        for rpc in ("ModelInfer", "ModelStreamInfer"):
            server.play(Case("the first", rpc, infer().SerializeToString()))
        self.rest: Held = server.held

    def trouble_after(self, case: Case) -> str:
        """What is wrong with how the server took it; empty if nothing."""
        started = time.monotonic()
        code = self.server.play(case)
        took_s = time.monotonic() - started
        found = [self.harm()]
        if code not in case.codes:
            found.append(f"{code.name}, not {' or '.join(sorted(each.name for each in case.codes))}")
        if took_s > INPUT_S:
            found.append(f"{took_s:.1f} s")
        return "; ".join(filter(None, found))

    def harm(self) -> str:
        """What others can see of what was sent."""
        if self.server.process.process.poll() is not None:
            return "the server has ended"
        if "Traceback" in (added := self.server.new_log()):
            return f"traceback: {added[-2000:]}"
        return "" if self.server.good_answers() == self.answers else "another call has another answer"


@pytest.fixture(scope="module")
def corpus() -> dict[str, list[Case]]:
    return victim.corpus()


@pytest.fixture(scope="module", params=["native", "grpcio"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with victim.running(tmp_path_factory.mktemp("hostile"), "--frontend", request.param) as server:
        yield Target(server)


@pytest.mark.parametrize("rpc", METHODS)
def test_every_hostile_message_ends_with_a_status_that_blames_its_sender(
    target: Target, corpus: dict[str, list[Case]], rpc: str
) -> None:
    found = {case.id: trouble for case in corpus[rpc] if (trouble := target.trouble_after(case))}
    assert not found, f"{len(found)} of {len(corpus[rpc])}:\n" + "\n".join(f"{key}: {found[key]}" for key in found)
    assert target.server.good_transforms() == target.transforms


def send_all(address: tuple[str, int], inputs: list[Bytes], harm: Callable[[], str]) -> list[tuple[Bytes, bytes]]:
    """What the server answers to each; after every few nobody else may have noticed."""
    answers: list[tuple[Bytes, bytes]] = []
    with ThreadPoolExecutor(SENDERS) as senders:
        for first in range(0, len(inputs), SENDERS):
            group = inputs[first : first + SENDERS]
            answers += zip(group, senders.map(lambda each: connections.send(address, each.data), group), strict=True)
            assert not (trouble := harm()), f"{trouble}\nafter one of {[each.what for each in group]}"
    return answers


def test_bytes_on_the_http_port_are_answered_without_blaming_the_server(target: Target) -> None:
    for sent, answer in send_all(target.server.http_address, list(connections.http()), target.harm):
        assert not answer or answer.startswith(b"HTTP/1.1 "), f"{sent.what}: {answer[:100]!r}"
        assert answer[9:12] not in (b"500", b"503"), f"{sent.what}: {answer[:300]!r}"
        assert not sent.answered or answer, sent.what


def test_bytes_on_the_port_of_the_http_api_are_answered_without_blaming_the_server(target: Target) -> None:
    for sent, answer in send_all(target.server.rest_address, list(connections.http()), target.harm):
        assert not answer or answer.startswith(b"HTTP/1.1 "), f"{sent.what}: {answer[:100]!r}"
        assert answer[9:12] not in (b"500", b"503"), f"{sent.what}: {answer[:300]!r}"
        assert not sent.answered or answer, sent.what


def test_bytes_on_the_grpc_port_hurt_nobody(target: Target) -> None:
    send_all(target.server.grpc_address, list(connections.http2()), target.harm)


def test_a_path_that_is_not_utf8_does_not_end_the_service(target: Target) -> None:
    for _ in range(3):
        connections.send(target.server.grpc_address, connections.path_that_is_not_utf8())
        assert not target.harm()


@pytest.mark.parametrize("port", ["http", "rest", "grpc"])
def test_heads_that_do_not_end_lock_nobody_out(target: Target, port: str) -> None:
    address: tuple[str, int] = getattr(target.server, f"{port}_address")
    opened = connections.slow_heads(address, SLOW_HEADS)
    try:
        started = time.monotonic()
        answer = connections.send(target.server.http_address, b"GET /livez HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert not target.harm()
        assert time.monotonic() - started < INPUT_S
    finally:
        for connection in opened:
            connection.close()


def test_at_the_end_the_server_holds_no_more_than_before(target: Target) -> None:
    assert not target.harm()
    rest = target.rest
    most = Held(
        descriptors=rest.descriptors,
        threads=rest.threads + LATE_THREADS,
        rss_bytes=int(RSS_GROWTH * rest.rss_bytes),
    )

    def exceeded(held: Held) -> dict[str, tuple[int, int]]:
        """What is more than it may be: how much, and the most."""
        pairs = {name: (getattr(held, name), limit) for name, limit in asdict(most).items()}
        return {name: pair for name, pair in pairs.items() if pair[0] > pair[1]}

    held = target.server.settled(lambda held: not exceeded(held))
    assert not exceeded(held)
    assert len(target.server.process.log) < target.server.calls * victim.LOG_BYTES_PER_CALL
    assert target.server.good_transforms() == target.transforms
