"""What both clients try again, and for how long; tests/scale has the same with real servers that stop and die."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest

from ganserve import AsyncClient, Client, DeadlinePassed, Overloaded, ServerError
from tests.ganserve.fake_server import Call, Fake, image_of

Code = grpc.StatusCode
Retry = Callable[..., Any]

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "generate": ("faces", {"seeds": [1, 2]}),
    "generate_stream": ("faces", {"seeds": [1, 2]}),
    "upscale": ("sr", {"image": image_of(1)}),
    "translate": ("sketch", {"image": image_of(1)}),
}


@pytest.fixture
def call(call: Call) -> Retry:
    """`call` with as many retries as a client makes by default."""
    return partial(call, retries=4)


@pytest.mark.parametrize("method", CALLS)
def test_a_refused_call_is_tried_again(call: Retry, fake: Fake, method: str) -> None:
    model, what = CALLS[method]
    fake.service.refusals = [Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED]
    assert call(method, model, **what)
    assert len(fake.service.requests) == 3


@pytest.mark.parametrize("code", [Code.INVALID_ARGUMENT, Code.INTERNAL, Code.DEADLINE_EXCEEDED, Code.NOT_FOUND])
def test_what_would_fail_again_is_not_tried_again(call: Retry, fake: Fake, code: grpc.StatusCode) -> None:
    fake.service.refusals = [code]
    with pytest.raises(ServerError) as caught:
        call("generate", "faces", seeds=1)
    assert (caught.value.code, len(fake.service.requests)) == (code, 1)


@pytest.mark.parametrize("retries", [0, 1])
def test_it_is_tried_again_as_often_as_was_allowed(call: Retry, fake: Fake, retries: int) -> None:
    fake.service.refusals = [Code.RESOURCE_EXHAUSTED] * 5
    with pytest.raises(Overloaded, match="refused"):
        call("generate", "faces", seeds=1, retries=retries)
    assert len(fake.service.requests) == 1 + retries


def test_trying_again_ends_at_the_deadline(call: Retry, fake: Fake) -> None:
    fake.service.refusals = [Code.UNAVAILABLE] * 5
    began = time.monotonic()
    with pytest.raises(DeadlinePassed):
        call("generate", "faces", seeds=1, deadline_s=0.3)
    assert time.monotonic() - began < 3, "without the deadline it is 4 s"
    assert 1 < len(fake.service.requests) < 5


def test_a_large_image_is_sent_again(call: Retry, fake: Fake) -> None:
    fake.service.refusals = [Code.UNAVAILABLE]
    image = np.zeros((800, 1200, 3), np.uint8)
    assert call("upscale", "sr", image, format="png").width == 2400
    assert len(fake.service.requests) == 2


SEEDS = {"seeds": [9, 8, 7, 6, 5]}
WHATS: dict[str, dict[str, Any]] = {
    "seeds": SEEDS,
    "one for all": {**SEEDS, "labels": "3", "truncation": 0.5, "noise_seeds": 4},
    "one for each": {**SEEDS, "labels": range(5), "truncation": [0.0, 0.25, 0.5, 0.75, 1.0], "noise_seeds": range(5)},
    "steps": {**SEEDS, "then": ["up", ("paint", "2")]},
    "count": {"count": 5, "first_seed": 30},
    "latents": {"latents": np.arange(20, dtype=np.float32).reshape(5, 4)},
    "ws": {"ws": np.arange(20, dtype=np.float32).reshape(5, 2, 2)},
}  # fmt: skip


@pytest.mark.parametrize("what", WHATS)
def test_a_stream_that_is_cut_off_goes_on_with_what_has_not_come(call: Retry, fake: Fake, what: str) -> None:
    whole = call("generate_stream", "faces", format="raw", **WHATS[what])
    fake.service.requests.clear()
    fake.service.cuts = [(2, Code.UNAVAILABLE), (1, Code.CANCELLED)]
    images = call("generate_stream", "faces", format="raw", **WHATS[what])
    assert [image.index for image in images] == [4, 3, 2, 1, 0]
    assert [(i.seed, i.label, i.noise_seed) for i in images] == [(i.seed, i.label, i.noise_seed) for i in whole]
    first, second, third = fake.service.requests
    assert [fake.service.count(request) for request in (first, second, third)] == [5, 3, 2]
    for field in ("labels", "truncations"):
        values = list(getattr(first, field))
        assert list(getattr(third, field)) == (values if len(values) < 2 else values[:2])
    for rows in ("latents", "ws"):
        assert getattr(third, rows).data == getattr(first, rows).data[: 2 * 16]
    assert list(third.then) == list(first.then)
    assert third.ws.per_layer == first.ws.per_layer


def test_seeds_that_the_server_chooses_are_requested_by_number(call: Retry, fake: Fake) -> None:
    fake.service.cuts = [(2, Code.UNAVAILABLE)]
    assert [image.index for image in call("generate_stream", "faces", count=5, format="raw")] == [4, 3, 2, 1, 0]
    assert [request.count for request in fake.service.requests] == [5, 3]


@pytest.mark.parametrize(("code", "retries"), [(Code.UNAVAILABLE, 0), (Code.INTERNAL, 4)])
def test_a_stream_does_not_go_on_without_retries_or_after_a_fault(
    fake: Fake, code: grpc.StatusCode, retries: int
) -> None:
    fake.service.cuts = [(2, code)]
    with Client(fake.server, retries=retries) as client:
        stream = client.generate_stream("faces", seeds=range(5))
        assert [next(stream).seed, next(stream).seed] == [4, 3]
        with pytest.raises(ServerError, match="cut"):
            next(stream)
    assert len(fake.service.requests) == 1


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_more_retries_than_grpc_makes_are_refused(client: Any) -> None:
    with pytest.raises(ValueError, match=r"retries must be 0\.\.4, got 5"):
        client("localhost:1", retries=5)
