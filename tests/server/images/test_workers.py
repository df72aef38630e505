import asyncio
import gc
import logging
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest

from server.errors import ImageTooLarge, InferenceFailed, InvalidRequest
from server.images.workers import Workers, check_time
from server.observability.context import RequestContext, current


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Workers]]:
    pools: list[Workers] = []

    def made(count: int = 1, limit_s: float = 30.0) -> Workers:
        pools.append(Workers(count, limit_s))
        return pools[-1]

    yield made
    for pool in pools:
        pool.close()


def busy(ended: threading.Event) -> None:
    """Works for ever, in pieces."""
    try:
        while True:
            check_time()
            time.sleep(0.001)
    finally:
        ended.set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.to_thread(time.sleep, 0.001)


async def test_results_and_errors_come_back(make: Any) -> None:
    workers = make(2)
    assert await asyncio.gather(*(workers.run(divmod, n, 3) for n in range(20))) == [divmod(n, 3) for n in range(20)]
    with pytest.raises(ZeroDivisionError):
        await workers.run(divmod, 1, 0)


async def test_the_loop_is_told_once_of_what_ends_before_it_looks(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workers, loop, told, last = make(), asyncio.get_running_loop(), [], threading.Event()
    tell = loop.call_soon_threadsafe

    def noted(*what: Any) -> None:
        told.append(what)
        tell(*what)

    monkeypatch.setattr(loop, "call_soon_threadsafe", noted)
    calls = [asyncio.ensure_future(workers.run(work, 7)) for work in [*[abs] * 8, lambda _: last.set()]]
    await asyncio.sleep(0)
    last.wait()  # as a loop that is busy
    assert await asyncio.gather(*calls) == [*[7] * 8, None]
    assert len(told) <= 2  # once for all before the last one


async def test_no_more_threads_run_than_there_should_be(make: Any) -> None:
    workers, running, largest = make(2), [0], [0]

    def work() -> None:
        running[0] += 1
        largest[0] = max(largest[0], running[0])
        time.sleep(0.002)
        running[0] -= 1

    await asyncio.gather(*(workers.run(work) for _ in range(20)))
    assert largest[0] == 2


async def test_what_takes_too_long_ends_at_its_next_piece(make: Any) -> None:
    ended = threading.Event()
    with pytest.raises(ImageTooLarge, match=r"more than 0.05 s \(codec_timeout_s\)"):
        await make(limit_s=0.05).run(busy, ended)
    assert ended.is_set()


async def test_the_work_of_a_caller_who_left_ends_and_is_not_begun(make: Any) -> None:
    workers, started, ended, begun = make(), threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        busy(ended)

    first = asyncio.create_task(workers.run(work))
    second = asyncio.create_task(workers.run(begun.set))
    await until(started.is_set)
    second.cancel()
    first.cancel()
    await until(ended.is_set)
    await workers.run(int)
    assert not begun.is_set()


async def test_a_thread_that_hangs_is_replaced_and_counts_until_it_comes_back(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    workers, gate = make(2, limit_s=0.02), threading.Event()
    with pytest.raises(InferenceFailed):
        await workers.run(gate.wait)
    assert not workers.is_failing, "one of two"
    assert await workers.run(divmod, 7, 3) == (2, 1)
    with caplog.at_level(logging.ERROR), pytest.raises(InferenceFailed):
        await workers.run(gate.wait)
    assert "codec thread hangs" in caplog.text
    assert workers.is_failing
    assert await asyncio.gather(*(workers.run(divmod, 7, 3) for _ in range(4))) == [(2, 1)] * 4
    gate.set()
    await until(lambda: not workers.is_failing)


def calling(workers: Workers, client: str, function: Callable[..., Any], *arguments: Any) -> asyncio.Task[Any]:
    """A call of that client."""

    async def call() -> Any:
        current.set(RequestContext("", "", None, (), client))
        return await workers.run(function, *arguments)

    return asyncio.ensure_future(call())


async def test_clients_take_turns(make: Any) -> None:
    workers, gate = make(), threading.Event()
    order: list[Any] = []
    calls = [calling(workers, "many", gate.wait), *(calling(workers, "many", order.append, n) for n in range(3))]
    calls.append(calling(workers, "few", order.append, "few"))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*calls)
    assert "few" in order[:2]


async def test_who_has_nothing_running_gets_a_thread_when_all_are_held_up(make: Any) -> None:
    workers, gates, begun = make(2), [threading.Event() for _ in range(4)], []

    def work(number: int) -> None:
        begun.append(number)
        gates[number].wait()

    calls = [calling(workers, "many", work, number) for number in range(4)]
    assert await asyncio.gather(*(calling(workers, client, divmod, 7, 3) for client in "abcd")) == [(2, 1)] * 4
    assert sorted(begun) == [0, 1], "its own wait"
    for gate in gates:
        gate.set()
    await asyncio.gather(*calls)


async def test_threads_are_added_only_to_as_many_again_and_calls_beside_them_have_longer(make: Any) -> None:
    workers, gate = make(1), threading.Event()
    begun: list[str] = []

    def work(client: str) -> None:
        begun.append(client)
        gate.wait()

    calls = [calling(workers, client, work, client) for client in "abcd"]
    await until(lambda: len(begun) == 2)
    works = list(workers._unfinished)
    assert sorted(each.allowed_s for each in works) == [30, 30, 60, 60]
    for each in works:  # as if long ago
        each.started_at = each.started_at and each.started_at - 1
    for _ in range(3):
        workers._relieve()
    assert sum(thread.is_alive() for thread in workers._extra) == 1
    gate.set()
    await asyncio.gather(*calls)
    assert sorted(begun) == list("abcd")


async def test_a_thread_that_was_added_and_hangs_is_not_replaced(make: Any) -> None:
    workers, gates = make(1), [threading.Event(), threading.Event()]
    calls = [calling(workers, client, gate.wait) for client, gate in zip("ab", gates, strict=True)]
    await until(lambda: any(each.is_extra for each in workers._unfinished))
    (extra,) = [each for each in workers._unfinished if each.is_extra]
    extra.started_at -= 121
    workers._look()
    with pytest.raises(InferenceFailed):
        await calls[1]
    assert (workers._threads, workers.is_failing) == (1, False)
    for gate in gates:
        gate.set()
    await calls[0]


async def test_what_is_short_does_not_wait_for_the_same_clients_long_calls(make: Any) -> None:
    workers, gate = make(), threading.Event()
    calls = [calling(workers, "one", gate.wait) for _ in range(2)]
    await asyncio.sleep(0)
    assert await workers.run(divmod, 7, 3, is_short=True) == (2, 1)
    gate.set()
    await asyncio.gather(*calls)


async def test_what_a_caller_sent_goes_when_he_leaves_before_his_turn(make: Any) -> None:
    class Sent:
        pass

    workers, gate, sent = make(), threading.Event(), Sent()
    seen = weakref.ref(sent)
    first = calling(workers, "one", gate.wait)
    second = calling(workers, "one", id, sent)
    del sent
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    del second
    gc.collect()
    assert seen() is None
    assert len(workers._unfinished) == 1
    gate.set()
    await first


async def test_the_end_does_not_wait_for_a_thread_that_hangs(make: Any) -> None:
    workers, gate = make(limit_s=30), threading.Event()
    task = asyncio.create_task(workers.run(gate.wait))
    await asyncio.sleep(0.01)
    started = time.monotonic()
    workers.close()
    assert time.monotonic() - started < 3
    task.cancel()
    gate.set()


async def test_what_failed_is_freed_at_once(make: Callable[..., Workers]) -> None:
    class Given:
        pass

    def fail(given: Given) -> None:
        raise InvalidRequest("bad")

    workers, given = make(), Given()
    seen = weakref.ref(given)
    gc.disable()
    try:
        with suppress(InvalidRequest):
            await workers.run(fail, given)
        del given
        await workers.run(len, "")  # the thread has put down what it had
        assert seen() is None
    finally:
        gc.enable()
