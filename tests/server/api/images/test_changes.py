"""What a request changes in latents, w above all, is made when it is needed, and its memory counted before."""

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest

from artifact.directions import Directions
from ganserve.v1 import images_pb2 as pb
from server.api.generate_request import read_generate_request
from server.api.image_url import ImagesByUrl, ImageUrl
from server.api.images import ImageService
from server.api.kept_answers import KeptAnswers
from server.api.limits import Limits
from server.api.marks import Marks
from server.api.transport import GRPCIO, NATIVE
from server.images.latent_space import LatentSpace
from server.images.memory import Hold, MemoryBudget
from server.images.workers import Workers
from server.settings import Settings
from tests.server.api.images.conftest import LAYERS, STYLES, Z


class Mapping:
    """A mapping network whose w is the latent in every layer; counts its runs."""

    def __init__(self) -> None:
        self.runs = 0

    def run(self, arrays: Any, whole_device: bool) -> Any:
        self.runs += 1
        return {"w": np.repeat(arrays["latent"][:, None], LAYERS, axis=1)}


def give_mapping(world: Any) -> Mapping:
    """Has the model `styles` make w."""
    mapping = Mapping()
    models = world.repository._models["styles"]
    models[3] = replace(models[3], latents=replace(models[3].space, mapping=mapping))
    return mapping


def request(**given: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(model="styles", labels=["0"], **given)


async def test_who_has_an_image_costs_no_mapping_and_an_image_costs_it_once(world: Any) -> None:
    mapping = give_mapping(world)
    limits, budget = Limits.of(Settings(repository=".")), MemoryBudget(1 << 30)
    workers = Workers(2, 30.0)
    images = ImageService(
        world.repository, limits, workers, budget, world.metrics, Marks(Settings(repository="."), workers)
    )
    by_url = ImagesByUrl(images, KeptAnswers(1 << 20), budget, world.metrics, has_keys=False)
    wanted = request(seeds=pb.Seeds(values=[7]), mixes=[pb.Mix(seeds=[3], layers="0")])
    context: Any = Caller(budget)
    head = await by_url.GetImage(ImageUrl(wanted, "", [], True), context)
    assert (head.reply, mapping.runs) == (None, 0)
    found = await by_url.GetImage(ImageUrl(wanted, "", [], False), context)
    assert (found.tag, mapping.runs) == (head.tag, 2), "one for the image and one for what is mixed in"
    again = await by_url.GetImage(ImageUrl(wanted, "", [found.tag.removeprefix("W/")], False), context)
    assert (again.has, mapping.runs) == (True, 2)
    other = request(seeds=pb.Seeds(values=[7]), mixes=[pb.Mix(seeds=[4], layers="0")])
    assert (await by_url.GetImage(ImageUrl(other, "", [], True), context)).tag != found.tag
    workers.close()


class Caller:
    """The context of one call, for what GetImage asks of it."""

    def __init__(self, budget: MemoryBudget) -> None:
        self.hold = Hold(budget)
        self.ends: list[Any] = []

    def time_remaining(self) -> None:
        return None

    def add_done_callback(self, function: Any) -> None:
        self.ends.append(function)


async def test_an_image_that_others_wait_for_stays_counted_when_its_first_caller_leaves(world: Any) -> None:
    engine, limits, budget = world.engine("faces"), Limits.of(Settings(repository=".")), MemoryBudget(1 << 30)
    workers = Workers(2, 30.0)
    images = ImageService(
        world.repository, limits, workers, budget, world.metrics, Marks(Settings(repository="."), workers)
    )
    by_url = ImagesByUrl(images, KeptAnswers(1 << 20), budget, world.metrics, has_keys=False)
    steps = [pb.Step(model="big")] * 7  # 6 px a side become 768
    raw = pb.Encoding(format=pb.IMAGE_FORMAT_RAW)
    wanted = pb.GenerateRequest(model="faces", seeds=pb.Seeds(values=[1]), then=steps, encoding=raw)
    url = ImageUrl(wanted, "", [], False)
    engine.gate.clear()
    callers: Any = [Caller(budget) for _ in range(2)]
    first, second = [asyncio.create_task(by_url.GetImage(url, caller)) for caller in callers]
    await world.until(lambda: engine.running)
    assert budget.held_bytes > 1 << 20
    first.cancel()
    for function in callers[0].ends:
        function(None)
    callers[0].hold.release()
    assert budget.held_bytes > 1 << 20, "it is being made"
    engine.gate.set()
    answer = await second
    assert answer.reply is not None
    size = len(answer.reply.images[0].data)
    assert size < budget.held_bytes == callers[1].hold.nbytes < size + 2048, "until its caller has read it"
    callers[1].hold.release()
    assert budget.held_bytes == 0
    workers.close()


@pytest.mark.parametrize("frontend", [GRPCIO, NATIVE])
async def test_w_is_counted_before_it_is_made(serve: Any, frontend: str) -> None:
    async with serve(frontend, max_held_bytes=1 << 20) as world:
        mapping = give_mapping(world)
        many = request(count=4096, first_seed=0, return_w=True, encoding=pb.Encoding(format=pb.IMAGE_FORMAT_RAW))
        engine = world.engine("styles")
        engine.gate.clear()
        waiting = world.stub.Generate(many)  # fits, since no other holds anything
        await world.until(lambda: engine.running)
        runs = mapping.runs
        assert runs == 4096
        text = await world.refusal(world.stub.Generate(many), grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert "(max_held_bytes)" in text
        assert mapping.runs == runs
        engine.gate.set()
        assert len((await waiting).images) == 4096


def test_reading_a_request_makes_no_w_and_says_how_much_it_will_take() -> None:
    mapping: Any = Mapping()
    space = LatentSpace(STYLES, Directions(), mapping)
    job = read_generate_request(request(count=3, return_w=True), space, Limits.of(Settings(repository=".")))
    assert (mapping.runs, job.w, job.changing_bytes) == (0, None, 3 * LAYERS * Z * 4)
    made = job.changed()
    assert (mapping.runs, made.w is not None, made.changing_bytes) == (3, True, 0)
    assert made.w is not None
    np.testing.assert_array_equal(made.w[:, 0], job.arrays["latent"])
    assert made.reply_bytes == job.reply_bytes
