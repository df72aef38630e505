"""A call for each image of a list, several at a time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ganserve.client.pictures import Picture, Pictures

MAX_IN_FLIGHT = 8  # images of one list: enough for the server to form batches
T = TypeVar("T")


def in_order(call: Callable[[Picture], T], images: Pictures) -> list[T]:
    """The call's result for each image, MAX_IN_FLIGHT at a time. The first error ends it: no further one is sent."""
    with ThreadPoolExecutor(MAX_IN_FLIGHT) as threads:
        calls = [threads.submit(call, image) for image in images]
        try:
            return [each.result() for each in calls]
        finally:
            for each in calls:
                each.cancel()
