"""The thread that watches the loop ends with it, whatever it is waiting for."""

import asyncio
import time

from server.last_resort import LastResort

HANG_S = 60.0


async def test_closing_does_not_wait_for_an_answer_that_only_the_closing_thread_could_give() -> None:
    for _ in range(200):
        watch = LastResort(HANG_S)
        watch.end_within(HANG_S)  # the watcher asks the loop, which is about to close it
        time.sleep(0.0005)  # noqa: ASYNC251  # so that it has asked, while the loop cannot answer
        began_s = time.monotonic()
        watch.close()
        assert time.monotonic() - began_s < HANG_S / 4
    await asyncio.sleep(0)
