"""What was sent is counted before anything of the call waits."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ganserve.v1 import images_pb2 as pb
from server.api.images import ImageService
from server.api.limits import Limits
from server.api.marks import Marks
from server.errors import Overloaded
from server.images.header import LONG_BYTES
from server.images.memory import SENT_COPIES, MemoryBudget
from server.images.workers import Workers
from server.settings import Settings
from tests.server.api.images.test_changes import Caller

BYTES = bytes(2 * LONG_BYTES)


@pytest.mark.parametrize(
    ("rpc", "request_"),
    [
        ("Upscale", pb.UpscaleRequest(model="big", image=BYTES)),
        ("Translate", pb.TranslateRequest(model="styled", image=b"short", reference=BYTES)),
        ("Score", pb.ScoreRequest(model="faces", images=[BYTES])),
    ],
)
async def test_what_waits_for_its_header_is_counted(world: Any, rpc: str, request_: Any) -> None:
    settings, budget, gate = Settings(repository="."), MemoryBudget(4 * len(BYTES)), threading.Event()
    workers = Workers(1, 30.0)
    images = ImageService(
        world.repository, Limits.of(settings), workers, budget, world.metrics, Marks(settings, workers)
    )
    answer: Callable[..., Any] = getattr(images, rpc)
    busy = [asyncio.create_task(workers.run(gate.wait, is_short=True)) for _ in range(2)]
    await asyncio.sleep(0)
    model = world.repository._models["faces"][3]
    world.repository._models["faces"][3] = replace(model, critic=object())
    callers: Any = [Caller(budget), Caller(budget)]
    waits = asyncio.create_task(answer(request_, callers[0]))
    await asyncio.sleep(0)
    assert budget.held_bytes == SENT_COPIES * request_.ByteSize()
    with pytest.raises(Overloaded, match="max_held_bytes"):
        await answer(request_, callers[1])
    waits.cancel()
    await asyncio.wait([waits])
    for function in callers[0].ends:
        function(None)
    assert budget.held_bytes == 0
    gate.set()
    await asyncio.gather(*busy)
    workers.close()
