"""`metric_tags` and `model_metrics` of config.pbtxt on the page of metrics."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import aio as triton

from tests.server.api.test_kserve import latent_input
from tests.server.conftest import Running, Start, read_page

pytestmark = pytest.mark.parametrize("frontend", ["native"])  # of gRPC: it makes no difference here
FAMILY = "nv_inference_first_response_histogram_ms"


def metrics_of(buckets: str) -> str:
    return f'''model_metrics {{ metric_control {{
        metric_identifier {{ family: "{FAMILY}" }} histogram_options {{ buckets: [{buckets}] }} }} }}'''


async def lines(running: Running) -> list[str]:
    code, text = await asyncio.to_thread(read_page, f"{running.url}/metrics")
    assert code == 200
    return text.splitlines()


async def infer(running: Running, times: int = 1) -> None:
    async with triton.InferenceServerClient(running.target) as client:
        for value in range(times):
            await client.infer("tiny", [latent_input(np.full((1, 4), value, np.float32))])


def write(repository: Path, text: str) -> None:
    (repository / "tiny" / "config.pbtxt").write_text(f"max_batch_size: 8 {text}")


async def test_tags_are_labels_of_the_models_triton_metrics(start: Start, repository: Path) -> None:
    write(repository, 'metric_tags { key: "team" value: "a \\"b\\"" } metric_tags { key: "cost2" value: "" }')
    running = await start()
    await infer(running)
    labels = r'model="tiny",version="1",_cost2="",_team="a \"b\""'
    found = await lines(running)
    assert f"nv_inference_request_success{{{labels}}} 1" in found
    assert [line for line in found if line.startswith(f"nv_model_load_duration_secs{{{labels}}} ")]
    assert f'nv_inference_request_failure{{{labels},reason="OTHER"}} 0' in found
    assert 'nv_inference_request_success{model="auto",version="1"} 0' in found
    assert not [line for line in found if line.startswith("ganserve_") and "_team" in line]


async def test_a_model_has_tritons_histogram_with_the_buckets_that_it_sets(start: Start, repository: Path) -> None:
    write(repository, metrics_of("-1, 0.5, 60000"))
    running = await start()
    await infer(running, 3)
    found = [line for line in await lines(running) if FAMILY in line]
    start_of = f'{FAMILY}_bucket{{model="tiny",version="1",le='
    assert found[:2] == [f"# HELP {FAMILY} Time of requests answered", f"# TYPE {FAMILY} histogram"]
    assert f'{start_of}"-1.0"}} 0' in found
    assert f'{start_of}"60000.0"}} 3' in found
    assert f'{start_of}"+Inf"}} 3' in found
    assert f'{FAMILY}_count{{model="tiny",version="1"}} 3' in found
    assert len(found) == 8, "of no other model"


async def counted(running: Running) -> dict[str, str]:
    split = (line.split("} ") for line in await lines(running) if line.startswith(f"{FAMILY}_"))
    return {name.rpartition("le=")[2] or name: value for name, value in split}


async def test_a_reload_keeps_the_counts_of_the_same_buckets_and_forgets_others(start: Start, repository: Path) -> None:
    write(repository, metrics_of(""))
    running = await start()
    await infer(running)
    first = await counted(running)
    assert [bound for bound in first if bound.startswith('"')] == [
        '"100.0"', '"500.0"', '"2000.0"', '"5000.0"', '"+Inf"'
    ]  # fmt: skip
    async with triton.InferenceServerClient(running.target) as client:
        await client.load_model("tiny")
        assert await counted(running) == first
        write(repository, metrics_of("1"))
        await client.load_model("tiny")
        assert (await counted(running))['"+Inf"'] == "0"
        write(repository, "")
        await client.load_model("tiny")
        assert await counted(running) == {}
        await infer(running)
        write(repository, metrics_of("1"))
        await client.load_model("tiny")
        await client.unload_model("tiny")
        assert await counted(running) == {}


async def test_an_answer_from_the_cache_is_counted_too(start: Start, repository: Path) -> None:
    write(repository, f"{metrics_of('1')} response_cache {{ enable: true }}")
    running: Any = await start()
    await infer(running)
    await infer(running)
    assert (await counted(running))['"+Inf"'] == "2"
