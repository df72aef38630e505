"""What a caller's metadata makes of a request's identity."""

import asyncio
import json
import logging
import re
from contextvars import copy_context

import pytest

from server.batching.device import Device
from server.observability.context import MAX_ID_CHARS, RequestContext, current
from server.observability.logs import JsonLines

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
OWN_ID = re.compile(r"[0-9a-f]{12}-[0-9a-f]+")


def asked(**metadata: str | bytes) -> RequestContext:
    """A request with that metadata; underscores stand for dashes."""
    return RequestContext("a.B", "C", object(), [(key.replace("_", "-"), value) for key, value in metadata.items()])


def test_the_callers_id_goes_before_its_trace_and_that_before_one_of_ours() -> None:
    assert asked(traceparent=PARENT, x_request_id="mine").id == "mine"
    assert asked(traceparent=PARENT).id == TRACE
    one, other = asked().id, asked().id
    assert OWN_ID.fullmatch(one)
    assert OWN_ID.fullmatch(other)
    assert one != other


def test_an_id_stays_the_same_for_as_long_as_its_request() -> None:
    request = asked()
    assert request.id == request.id == dict(request.log_fields())["request_id"]


@pytest.mark.parametrize("fine", ["a", "with space", "~!@#$%^&*()_+{}|:<>?", "x" * MAX_ID_CHARS])
def test_printable_ascii_of_at_most_128_characters_is_taken_as_it_is(fine: str) -> None:
    assert asked(x_request_id=fine).id == fine


@pytest.mark.parametrize(
    "hostile",
    ["a\nb", "a\rb", "\x1b[31m", "\x00", "tab\t", "größe", "\u2028", "x" * (MAX_ID_CHARS + 1), "y" * 10_000, b"b"],
)
def test_any_other_id_is_replaced_and_the_caller_is_told_which_counts(hostile: str | bytes) -> None:
    request = asked(x_request_id=hostile)
    assert OWN_ID.fullmatch(request.id)
    assert request.has_caller_id
    assert asked(x_request_id=hostile, traceparent=PARENT).id == TRACE


def test_an_empty_id_is_none() -> None:
    assert not asked(x_request_id="").has_caller_id


@pytest.mark.parametrize(
    ("header", "valid"),
    [
        (PARENT, True),
        (PARENT.replace("00-", "01-", 1) + "-later", True),
        (PARENT + "-later", False),
        (PARENT.replace("00-", "ff-", 1), False),
        (PARENT.upper(), False),
        (PARENT.replace(TRACE, "0" * 32), False),
        (PARENT.replace("b7ad6b7169203331", "0" * 16), False),
        (PARENT[:-1], False),
        (PARENT + "\n", False),
        ("", False),
    ],
)
def test_a_traceparent_counts_where_the_standard_takes_it(header: str, valid: bool) -> None:
    assert asked(traceparent=header).trace_id == (TRACE if valid else "")


def test_a_line_outside_of_a_request_names_none() -> None:
    assert current.get() is None
    made = logging.LogRecord("server.app", logging.INFO, __file__, 1, "stopping", (), None)
    assert "request_id" not in json.loads(JsonLines().format(made))


def test_a_line_that_names_another_request_itself_keeps_that_name() -> None:
    made = logging.LogRecord("server.batching.batcher", logging.ERROR, __file__, 1, "inference failed", (), None)
    made.fields = {"request_id": "theirs"}

    def formatted() -> dict[str, str]:
        current.set(asked(x_request_id="mine"))
        read: dict[str, str] = json.loads(JsonLines().format(made))
        return read

    assert copy_context().run(formatted)["request_id"] == "theirs"
    made.fields = {}
    assert copy_context().run(formatted)["request_id"] == "mine"


async def test_a_turn_of_a_device_belongs_to_no_request() -> None:
    """Whoever asked for it first: it runs the work of others too."""
    device = Device("cpu", 1)
    taken: asyncio.Future[RequestContext | None] = asyncio.get_running_loop().create_future()

    class Source:
        is_short = fills_batch = False

        def take(self, lanes: int, may_use_whole_device: bool) -> None:
            taken.set_result(current.get())

        def has_work(self) -> bool:
            return False

    current.set(asked(x_request_id="first"))
    device.offer(Source())
    assert await taken is None
    device.close()
