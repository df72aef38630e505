"""The event loop that lends its turn: what other threads run in it, and what wakes its own thread for them."""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from server.shared_loop import ROUNDS, SharedLoop, call_in, new_loop

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll and eventfd are Linux's")
LIMIT_S = 30.0


@pytest.fixture
def run() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        yield lambda work: runner.run(asyncio.wait_for(work, LIMIT_S))


def elsewhere(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: Any) -> threading.Thread:
    """Another thread that gives the loop a callback."""
    thread = threading.Thread(target=call_in, args=(loop, callback, *args), name="elsewhere")
    thread.start()
    return thread


def call_and_join(loop: asyncio.AbstractEventLoop, callback: Callable[..., object]) -> None:
    elsewhere(loop, callback).join()


def test_a_callback_runs_in_the_loop_whichever_thread_has_it(run: Callable[..., Any]) -> None:
    async def check() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SharedLoop)
        seen: list[asyncio.AbstractEventLoop] = []
        done = asyncio.Event()

        async def work() -> None:
            assert asyncio.current_task() is not None
            await asyncio.sleep(0)
            seen.append(asyncio.get_running_loop())
            done.set()

        elsewhere(loop, lambda: asyncio.ensure_future(work()))
        await done.wait()
        assert seen == [loop]

    run(check())


def test_a_thread_that_finds_the_loop_waiting_runs_the_callback_itself(run: Callable[..., Any]) -> None:
    async def check() -> None:
        loop = asyncio.get_running_loop()
        names: list[str] = []

        def note() -> None:
            names.append(threading.current_thread().name)

        while "elsewhere" not in names:  # at some time the loop waits
            await asyncio.to_thread(call_and_join, loop, note)
        assert set(names) <= {"elsewhere", threading.current_thread().name}

    run(check())


def test_callbacks_of_many_threads_and_the_loop_never_run_at_once_and_none_is_lost(run: Callable[..., Any]) -> None:
    count, threads = 300, 4

    async def check() -> None:
        loop = asyncio.get_running_loop()
        inside, ran, overlaps = 0, 0, 0
        done = asyncio.Event()

        def callback() -> None:
            nonlocal inside, ran, overlaps
            inside += 1
            overlaps += inside > 1
            ran += 1
            inside -= 1
            if ran == count * threads:
                done.set()

        def give() -> None:
            for _ in range(count):
                call_in(loop, callback)

        givers = [threading.Thread(target=give) for _ in range(threads)]
        for giver in givers:
            giver.start()
        await done.wait()
        for giver in givers:
            await asyncio.to_thread(giver.join)
        assert (ran, overlaps) == (count * threads, 0)

    run(check())


def test_the_loop_hears_of_each_callback_that_threads_add_one_by_one(run: Callable[..., Any]) -> None:
    async def check() -> None:
        loop = asyncio.get_running_loop()

        def add() -> None:
            for _ in range(300):
                ran = threading.Event()
                loop.call_soon_threadsafe(ran.set)
                assert ran.wait(LIMIT_S / 3), "the loop waits for something else"

        await asyncio.gather(*(asyncio.to_thread(add) for _ in range(3)))

    run(check())


def test_a_timer_set_by_another_thread_ends_the_wait_of_the_loops_own(run: Callable[..., Any]) -> None:
    async def check() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(20):
            rang = asyncio.Event()
            elsewhere(loop, loop.call_later, 0.001, rang.set)
            await rang.wait()  # no timer of its own but the test's limit

    run(check())


def test_what_another_thread_makes_the_main_coroutine_do_ends_the_loop() -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        loop = runner.get_loop()

        async def check() -> str:
            ended = loop.create_future()
            elsewhere(loop, ended.set_result, "ended")
            return str(await ended)

        for _ in range(20):
            assert runner.run(check()) == "ended"


def test_callbacks_that_go_on_for_ever_are_left_to_the_loops_own_thread(run: Callable[..., Any]) -> None:
    async def check() -> None:
        loop = asyncio.get_running_loop()
        times = 0
        enough = asyncio.Event()

        def again() -> None:
            nonlocal times
            times += 1
            if times > 4 * ROUNDS:
                enough.set()
            else:
                loop.call_soon(again)

        await asyncio.to_thread(elsewhere(loop, again).join)  # it ends, however long that goes on
        await enough.wait()

    run(check())


def test_a_thread_that_gets_the_turn_after_its_callback_ran_does_not_wait_in_the_loops_place(
    run: Callable[..., Any],
) -> None:
    async def check() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SharedLoop)
        turn, ready, ran = loop._turn, loop._ready, asyncio.Event()
        errors: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: errors.append(context))

        class LateTurn:
            """One that a thread gets only when the loop's own has run what it came with, and waits again."""

            release, locked = turn.release, turn.locked

            def acquire(self, blocking: bool) -> bool:
                assert not blocking
                loop.call_soon_threadsafe(int)
                while ready:
                    time.sleep(0)
                return turn.acquire()

        loop._turn = LateTurn()  # type: ignore[assignment]
        thread = elsewhere(loop, ran.set)
        await asyncio.to_thread(thread.join, LIMIT_S / 3)
        assert not thread.is_alive(), "it waits for the loop's next timer or socket"
        assert ran.is_set()
        assert errors == []  # two threads cannot wait for the same sockets

    run(check())


def test_an_exit_in_a_callback_ends_the_loop_and_not_the_thread(run: Callable[..., Any]) -> None:
    def leave() -> None:
        raise SystemExit(3)

    async def check() -> None:
        elsewhere(asyncio.get_running_loop(), leave)
        await asyncio.Event().wait()

    with pytest.raises(SystemExit) as caught:
        run(check())
    assert caught.value.code == 3


def test_a_loop_in_debug_mode_runs_callbacks_on_its_own_thread(run: Callable[..., Any]) -> None:
    async def check() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        names: list[str] = []
        done = asyncio.Event()

        def note() -> None:
            names.append(threading.current_thread().name)
            done.set()

        for _ in range(5):
            done.clear()
            elsewhere(loop, note)
            await done.wait()
        assert set(names) == {threading.current_thread().name}

    run(check())


def test_a_closed_loop_takes_nothing() -> None:
    loop = new_loop()
    loop.close()
    with pytest.raises(RuntimeError):
        call_in(loop, print)


def test_a_generator_begun_on_another_thread_is_closed_when_nobody_has_it_any_more(run: Callable[..., Any]) -> None:
    async def check() -> None:
        closed = asyncio.Event()

        async def generate() -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                await asyncio.sleep(0)
                closed.set()

        async def begin() -> None:
            assert await anext(generate()) == 1

        elsewhere(asyncio.get_running_loop(), lambda: asyncio.ensure_future(begin()))
        await closed.wait()

    run(check())
