"""Images of many seeds from a server, in their order, of which a bounded number is on its way at a time."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

from ganserve.client.client import Client
from ganserve.client.errors import Overloaded, Unavailable
from ganserve.client.messages import MAX_UNARY_IMAGES
from ganserve.client.options import GenerateOptions
from ganserve.client.results import GeneratedImage
from ganserve.datasets.contents import SEEDS, class_text
from ganserve.datasets.description import Description
from ganserve.datasets.errors import DataSetError

CALLS = 4  # at a time: the server always has a next one
CANDIDATE_STEP = 2654435769  # from one candidate's seed to the next, docs/critic.md
CALL_BYTES = 32 << 20  # of one call's images, uncompressed
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0


@dataclass(frozen=True)
class Source:
    """Where images come from.

    Attributes:
        client: of the server.
        options: of every call, besides seeds and labels.
        in_flight: images on their way at most.
        patience_s: how long a call is repeated while the server is overloaded or away.
        say: takes a line for people.
    """

    client: Client
    options: GenerateOptions
    in_flight: int
    patience_s: float
    say: Callable[[str], None]

    def images(self, about: Description, wanted: range) -> Iterator[GeneratedImage]:
        """The images `wanted` of a data set, in their order.

        Raises:
            DataSetError: the server answers with another version or class than it was asked for.
            ServerError: a call failed for good.
        """
        width, height, channels = about.size
        most = min(self.in_flight // CALLS, CALL_BYTES // (width * height * channels), MAX_UNARY_IMAGES)
        n = max(1, most // (self.options.get("best_of") or 1))  # candidates count as images
        calls = max(1, min(CALLS, self.in_flight // n))
        parts = (wanted[start : start + n] for start in range(0, len(wanted), n))
        stop = Event()
        threads = ThreadPoolExecutor(calls)
        waiting: deque[tuple[range, Future[list[GeneratedImage]]]] = deque()
        try:
            for part in parts:
                waiting.append((part, threads.submit(self._call, about, part, stop)))
                if len(waiting) == calls:
                    yield from _checked(about, *_first(waiting))
            while waiting:
                yield from _checked(about, *_first(waiting))
        finally:
            stop.set()
            threads.shutdown(wait=False, cancel_futures=True)  # what runs ends with the client

    def _call(self, about: Description, part: range, stop: Event) -> list[GeneratedImage]:
        options: GenerateOptions = {**self.options, "seeds": [about.contents.first_seed + index for index in part]}
        if about.contents.labels is not None:
            options["labels"] = [class_text(about.names, int(label)) for label in about.contents.labels[part]]
        ends_at = time.monotonic() + self.patience_s
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return self.client.generate(about.model, **options)
            except (Overloaded, Unavailable) as error:
                left_s = ends_at - time.monotonic()
                if left_s <= 0 or stop.is_set():
                    raise
                if pause_s == FIRST_PAUSE_S:
                    self.say(f"{error}; trying again for {left_s:.0f} s")
                if stop.wait(min(pause_s, left_s)):
                    raise
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _first(
    waiting: deque[tuple[range, Future[list[GeneratedImage]]]],
) -> tuple[range, list[GeneratedImage]]:
    part, call = waiting.popleft()
    return part, call.result()


def _candidates(about: Description, seed: int) -> set[int]:
    """The seeds whose image may be that of `seed`."""
    return {(seed + number * CANDIDATE_STEP) % SEEDS for number in range(about.parameters.get("best_of") or 1)}


def _checked(about: Description, part: range, images: list[GeneratedImage]) -> Iterator[GeneratedImage]:
    for index, image in zip(part, images, strict=True):
        wanted = about.contents.first_seed + index, about.contents.label(index), about.version
        if image.seed not in _candidates(about, wanted[0]) or (image.label, image.version) != wanted[1:]:
            got = image.seed, image.label, image.version
            raise DataSetError(f"asked for seed, class and version {wanted}, the server answered with {got}")
        yield image
