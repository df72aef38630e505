"""`response_cache { enable: true }`: what is computed once, and what the statistics say of it, over real sockets."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import aio as triton
from tritonclient.utils import InferenceServerException

from server.api.response_cache import ENTRY_BYTES
from tests.server.api.test_kserve import latent_input, picture
from tests.server.conftest import Running, Start, read_page

CONFIG = 'backend: "onnxruntime" max_batch_size: 8 response_cache { enable: true }'


@pytest.fixture
def frontend() -> str:
    return "native"


@pytest.fixture
async def running(start: Start, repository: Path) -> Running:
    (repository / "tiny" / "config.pbtxt").write_text(CONFIG)
    return await start()


def latent(seed: int, items: int = 1) -> Any:
    return np.random.RandomState(seed).randn(items, 4).astype(np.float32)


async def ask(client: Any, array: Any, **options: Any) -> Any:
    answer = (await client.infer("tiny", [latent_input(array)], **options)).as_numpy("image")
    np.testing.assert_array_equal(answer, picture(array))
    return answer


async def counts(client: Any) -> tuple[int, int, int, int]:
    """Executions, successes, hits and misses."""
    found = (await client.get_inference_statistics("tiny")).model_stats[0]
    total = found.inference_stats
    return found.execution_count, total.success.count, total.cache_hit.count, total.cache_miss.count


async def test_an_equal_request_is_computed_once(client: Any, running: Running) -> None:
    await ask(client, latent(1))
    await ask(client, latent(1))
    await ask(client, latent(2))
    assert await counts(client) == (2, 3, 1, 2)
    _, page = await asyncio.to_thread(read_page, f"{running.url}/metrics")
    assert 'nv_cache_num_hits_per_model{model="tiny",version="1"} 1' in page


async def test_requests_that_come_at_once_are_computed_once(client: Any) -> None:
    await asyncio.gather(*(ask(client, latent(3)) for _ in range(20)))
    executions, successes, hits, misses = await counts(client)
    assert (executions, successes, hits + misses) == (1, 20, 20)
    assert misses == 1


async def test_the_same_bytes_in_another_shape_are_another_request(client: Any) -> None:
    await ask(client, latent(1, 2))
    await ask(client, latent(1, 2)[:1])
    await ask(client, latent(1, 2)[1:])
    assert (await counts(client))[0] == 3


async def test_a_model_that_was_loaded_again_answers_anew(client: Any) -> None:
    await ask(client, latent(1))
    await client.load_model("tiny")
    await ask(client, latent(1))
    assert (await counts(client))[2:] == (0, 2)  # counts go on


async def test_errors_are_not_kept(client: Any) -> None:
    for _ in range(2):
        with pytest.raises(InferenceServerException):
            await client.infer("tiny", [latent_input(latent(1)[:, :3])])
    await ask(client, latent(1))


async def test_a_caller_that_leaves_takes_nobodys_answer(client: Any) -> None:
    for seed in range(20):
        first = asyncio.create_task(ask(client, latent(seed)))
        second = asyncio.create_task(ask(client, latent(seed)))
        await asyncio.sleep(0)
        first.cancel()
        await second
        await asyncio.gather(first, return_exceptions=True)


async def test_the_memory_of_answers_is_limited(start: Start, repository: Path) -> None:
    (repository / "tiny" / "config.pbtxt").write_text(CONFIG)
    running = await start(response_cache_bytes=2 * (ENTRY_BYTES + 12))  # two images of 12 bytes
    async with triton.InferenceServerClient(running.target) as client:
        for seed in (1, 2, 1, 3, 1, 2):  # 3 takes the place of 2
            await ask(client, latent(seed))
        assert (await counts(client))[2:] == (2, 4)


async def test_an_answer_beyond_the_limit_is_not_kept(start: Start, repository: Path) -> None:
    (repository / "tiny" / "config.pbtxt").write_text(CONFIG)
    running = await start(response_cache_bytes=ENTRY_BYTES + 12)
    async with triton.InferenceServerClient(running.target) as client:
        await ask(client, latent(9, 3))
        await ask(client, latent(9, 3))
        assert (await counts(client))[2:] == (0, 2)


async def test_without_the_field_every_request_is_computed(start: Start) -> None:
    running = await start()
    async with triton.InferenceServerClient(running.target) as client:
        await ask(client, latent(1))
        await ask(client, latent(1))
        assert await counts(client) == (2, 2, 0, 0)
