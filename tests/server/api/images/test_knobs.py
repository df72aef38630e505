"""Generate with models that take noise, truncation and w; every parameter a model does not have is refused."""

import asyncio
import re
from typing import Any

import numpy as np
import pytest

from ganserve.v1 import images_pb2 as pb

ONE = pb.Seeds(values=[1])
SEEDS = pb.Seeds(values=[3, 7])


async def pixels(world: Any, **fields: Any) -> list[Any]:
    reply = await world.stub.Generate(pb.GenerateRequest(**fields))
    return [world.pixels(image) for image in reply.images]


async def test_noise_is_what_follows_the_latent_in_the_stream_of_the_seed(world: Any) -> None:
    reply = await world.stub.Generate(pb.GenerateRequest(model="pyramid", seeds=SEEDS))
    assert [image.noise_seed for image in reply.images] == [3, 7]
    for image in reply.images:
        assert np.array_equal(world.pixels(image), world.face(image.seed, noise=world.noise(image.seed)))


async def test_noise_may_come_from_another_seed_for_all_or_for_each(world: Any) -> None:
    for noise_seeds, expected in (([9], [9, 9]), ([9, 4_294_967_295], [9, 4_294_967_295])):
        reply = await world.stub.Generate(pb.GenerateRequest(model="pyramid", seeds=SEEDS, noise_seeds=noise_seeds))
        assert [image.noise_seed for image in reply.images] == expected
        for image in reply.images:
            assert np.array_equal(world.pixels(image), world.face(image.seed, noise=world.noise(image.noise_seed)))


async def test_a_noise_seed_equal_to_the_seed_changes_nothing(world: Any) -> None:
    plain = await pixels(world, model="pyramid", seeds=SEEDS)
    same = await pixels(world, model="pyramid", seeds=SEEDS, noise_seeds=[3, 7])
    other = await pixels(world, model="pyramid", seeds=SEEDS, noise_seeds=[7, 3])
    assert np.array_equal(plain, same)
    assert not np.array_equal(plain, other)


async def test_noise_of_explicit_latents_is_of_seed_0(world: Any) -> None:
    latent = np.random.RandomState(5).randn(2, 8).astype("<f4")
    found = await pixels(world, model="pyramid", latents=pb.Latents(data=latent.tobytes()))
    assert np.array_equal(found, [world.generate(row, noise=world.noise(0)) for row in latent])


async def test_a_model_without_noise_reports_no_noise_seed(world: Any) -> None:
    reply = await world.stub.Generate(pb.GenerateRequest(model="faces", seeds=ONE))
    assert not reply.images[0].HasField("noise_seed")


async def test_truncation_is_one_for_all_or_one_for_each(world: Any) -> None:
    noise = [world.noise(seed) for seed in SEEDS.values]
    for asked, psis in (([], (1, 1)), ([0.5], (0.5, 0.5)), ([-2, 2], (-2, 2))):
        found = await pixels(world, model="styles", seeds=SEEDS, labels=["one"], truncations=asked)
        expected = [world.face(seed, 1, psi, noise[i]) for i, (seed, psi) in enumerate(zip((3, 7), psis, strict=True))]
        assert np.array_equal(found, expected)


async def test_w_is_drawn_as_it_stands_for_all_layers_or_for_each(world: Any) -> None:
    one = np.random.RandomState(0).randn(2, 8).astype("<f4")
    every = np.random.RandomState(1).randn(2, 3, 8).astype("<f4")
    reply = await world.stub.Generate(pb.GenerateRequest(model="styles", ws=pb.Ws(data=one.tobytes())))
    for image, w in zip(reply.images, one, strict=True):
        assert np.array_equal(
            world.pixels(image), world.generate(w, noise=world.noise(0), w=np.broadcast_to(w, (3, 8)))
        )
        assert (image.HasField("seed"), image.HasField("label"), image.noise_seed) == (False, False, 0)
    found = await pixels(world, model="styles", ws=pb.Ws(data=every.tobytes(), per_layer=True), noise_seeds=[4, 5])
    expected = [world.generate(w[0], noise=world.noise(4 + i), w=w) for i, w in enumerate(every)]
    assert np.array_equal(found, expected)


async def test_requests_with_different_parameters_share_a_batch(world: Any) -> None:
    engine = world.engine("styles")
    engine.gate.clear()
    asked: list[dict[str, Any]] = [
        {"seeds": ONE, "labels": ["0"]},
        {"seeds": ONE, "labels": ["1"], "truncations": [0.5]},
        {"seeds": ONE, "labels": ["1"], "noise_seeds": [8]},
        {"latents": pb.Latents(data=bytes(32)), "labels": ["0"]},
        {"ws": pb.Ws(data=bytes(32))},
    ]
    calls = [asyncio.ensure_future(pixels(world, model="styles", **asked[0]))]
    await world.until(lambda: engine.running)
    calls += [asyncio.ensure_future(pixels(world, model="styles", **fields)) for fields in asked[1:]]
    await world.until(lambda: world.queued("styles") == 4)
    engine.gate.set()
    together = await asyncio.gather(*calls)
    assert engine.batches == [1, 4]
    alone = [await pixels(world, model="styles", **fields) for fields in asked]
    assert np.array_equal(together, alone)


async def test_a_stream_has_the_same_parameters(world: Any) -> None:
    request = pb.GenerateRequest(
        model="styles", count=9, first_seed=5, labels=["1"], truncations=[0.5], noise_seeds=[2]
    )
    replies = [reply async for reply in world.stub.GenerateStream(request)]
    assert len(replies) == 9
    for reply in replies:
        expected = world.face(5 + reply.index, 1, 0.5, world.noise(2))
        assert np.array_equal(world.pixels(reply.image), expected)
        assert (reply.image.seed, reply.image.noise_seed) == (5 + reply.index, 2)


async def test_an_request_read_on_another_thread_is_the_same(world: Any) -> None:
    """From 128 images on the event loop hands the order over."""
    many = await pixels(world, model="pyramid", count=130, first_seed=0, noise_seeds=range(130))
    few = await pixels(world, model="pyramid", count=2, first_seed=128, noise_seeds=[128, 129])
    assert np.array_equal(many[128:], few)


LATENT = pb.Latents(data=bytes(32))
W = pb.Ws(data=bytes(32))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"model": "faces", "seeds": ONE, "noise_seeds": [1]}, "noise_seeds: 1 given, but the model takes no noise"),
        (
            {"model": "faces", "seeds": ONE, "truncations": [1]},
            "truncations: 1 given, but the model does not support it",
        ),
        ({"model": "faces", "seeds": ONE, "labels": ["0"]}, "labels: 1 given, but the model has no classes"),
        ({"model": "layered", "seeds": ONE}, "PNG does not support 5 channels; use RAW"),
        ({"model": "faces", "ws": W}, "ws: the model has no w; give seeds or latents"),
        ({"model": "pyramid", "seeds": SEEDS, "noise_seeds": [1, 2, 3]}, "noise_seeds: 3 given for 2 images"),
        ({"model": "digits", "seeds": SEEDS, "labels": ["0"], "truncations": [1, 1, 1]}, "truncations: 3 given for 2"),
        (
            {"model": "digits", "seeds": ONE, "labels": ["0"], "truncations": [1.1]},
            r"truncations: 1.1; must be 0.02..1",
        ),
        ({"model": "digits", "seeds": ONE, "labels": ["0"], "truncations": [0]}, r"truncations: 0; must be 0.02..1"),
        ({"model": "styles", "seeds": ONE, "labels": ["0"], "truncations": [float("nan")]}, "truncations: nan"),
        ({"model": "styles", "seeds": ONE, "labels": ["0"], "truncations": [float("inf")]}, "truncations: inf"),
        (
            {"model": "styles", "ws": W, "labels": ["0"]},
            "labels: 1 given together with ws, on which they have no effect",
        ),
        (
            {"model": "styles", "ws": W, "truncations": [1]},
            "truncations: 1 given together with ws, on which they have no effect",
        ),
        ({"model": "styles", "ws": W, "first_seed": 1}, "first_seed: 1 given without count"),
        ({"model": "styles", "ws": pb.Ws()}, "ws.data: 0 bytes is not n x 32"),
        ({"model": "styles", "ws": pb.Ws(data=bytes(36))}, "ws.data: 36 bytes is not n x 32"),
        ({"model": "styles", "ws": pb.Ws(data=bytes(32), per_layer=True)}, "ws.data: 32 bytes is not n x 96"),
        ({"model": "styles", "ws": pb.Ws(data=np.full(8, np.inf, "<f4").tobytes())}, "item 0, value 0 is inf"),
        ({"model": "styles", "latents": LATENT}, "labels: missing, but the model is class-conditional"),
        ({"model": "styles", "ws": pb.Ws(data=bytes(32 * 4097))}, "ws: 4097 images requested, at most 4096"),
    ],
)
async def test_a_parameter_that_a_model_does_not_have_is_rejected_and_never_ignored(
    world: Any, fields: dict[str, Any], text: str
) -> None:
    request = pb.GenerateRequest(**fields)
    assert re.search(text, await world.refusal(world.stub.Generate(request)))
    assert re.search(text, await world.refusal(world.stub.GenerateStream(request).read()))
    assert world.engine(fields["model"]).batches == []


async def test_noise_beyond_the_memory_of_the_queue_is_rejected_with_the_number_that_fits(serve: Any) -> None:
    async with serve(max_queue_bytes=520) as world:
        text = await world.refusal(world.stub.Generate(pb.GenerateRequest(model="pyramid", count=11)))
        assert text == (
            "11 images of 52 bytes of latents and noise each, at most 10 per call (520 bytes, max_queue_bytes)"
        )
        assert len((await world.stub.Generate(pb.GenerateRequest(model="pyramid", count=10))).images) == 10


async def test_every_parameter_that_is_listed_is_taken_to_its_limits_and_no_further(world: Any) -> None:
    models = {model.name: model for model in (await world.stub.ListModels(pb.ListModelsRequest())).models}
    listed = {name: [knob.name for knob in model.knobs] for name, model in models.items()}
    assert listed["faces"] == ["seed", "latent"]
    assert listed["digits"] == ["seed", "latent", "label", "truncation"]
    assert listed["pyramid"] == ["seed", "latent", "noise_seed"]
    assert listed["styles"] == ["seed", "latent", "w", "label", "truncation", "noise_seed"]
    assert all(listed[name] == [] for name in ("big", "styled", "floats", "plain"))
    for name in ("digits", "styles"):
        knobs = {knob.name: knob for knob in models[name].knobs}
        label, psi = knobs["label"], knobs["truncation"]
        assert (label.minimum, label.maximum, psi.default) == (0, len(models[name].labels) - 1, 1)
        for at, beyond in ((psi.minimum, -0.01), (psi.maximum, 0.01)):
            request = pb.GenerateRequest(model=name, seeds=ONE, labels=[f"{label.maximum:.0f}"], truncations=[at])
            await world.stub.Generate(request)
            request.truncations[0] += beyond
            await world.refusal(world.stub.Generate(request))
        unknown = f"{label.maximum + 1:.0f}"
        await world.refusal(world.stub.Generate(pb.GenerateRequest(model=name, seeds=ONE, labels=[unknown])))
    knobs = {knob.name: knob for knob in models["styles"].knobs}
    assert (list(knobs["latent"].shape), list(knobs["w"].shape)) == ([8], [3, 8])
    most = int(knobs["seed"].maximum)
    assert (most, knobs["noise_seed"].maximum) == (4_294_967_295, most)
    await world.stub.Generate(pb.GenerateRequest(model="pyramid", seeds=pb.Seeds(values=[most]), noise_seeds=[most]))


async def test_the_list_says_what_images_go_in_and_come_out(world: Any) -> None:
    models = {model.name: model for model in (await world.stub.ListModels(pb.ListModelsRequest())).models}
    found = {name: (model.input_channels, model.channels, model.multiple_px) for name, model in models.items()}
    assert found["sketched"] == (3, 1, 4)
    assert found["big"] == (3, 3, 1)
    assert found["faces"] == (0, 3, 1)
