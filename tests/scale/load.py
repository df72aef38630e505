"""Callers that never stop, and an account of every call."""

import threading
import time
from collections import Counter
from typing import Self

from ganserve import Client, ServerError
from tests.scale.replicas import LONGEST_S

PAUSE_S = 0.01  # between a caller's calls: constant load, not as much as two cores can do


class Load:
    """Callers in threads, some for each way to the replicas; every call that fails is kept with its reason.

    `clients`: by the name of the way. A caller requests one image after the other, every 20th time more than fit
    into one message, which come as a stream.
    """

    def __init__(self, clients: dict[str, Client], callers: int) -> None:
        self.answered: Counter[str] = Counter()
        self.lost: list[str] = []
        self._clients = clients
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._call, args=(way, client, number))
            for way, client in clients.items()
            for number in range(callers)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(LONGEST_S)
        for client in self._clients.values():
            client.close()

    def more(self, count: int) -> None:
        """Returns once so many more calls were answered on every way."""
        with self._changed:
            wanted = {way: self.answered[way] + count for way in self._clients}
            assert self._changed.wait_for(
                lambda: all(self.answered[way] >= count for way, count in wanted.items()), LONGEST_S
            ), f"answered {dict(self.answered)}, wanted {wanted}, lost {self.lost}"

    def _call(self, way: str, client: Client, number: int) -> None:
        requests = 0
        while not self._stop.wait(PAUSE_S):
            requests += 1
            began = time.monotonic()
            try:
                if requests % 20:
                    right = len(client.generate("styled", seeds=requests, labels=0, format="raw")) == 1
                else:
                    images = client.generate("styled", seeds=range(100), labels=0, format="raw")
                    right = [image.seed for image in images] == [*range(100)]
                problem = "" if right else "not the requested images"
            except ServerError as error:
                problem = f"{error.code.name} {error.text}"
            with self._changed:
                if problem:
                    self.lost.append(f"{way}, caller {number}, {time.monotonic() - began:.2f} s: {problem}")
                else:
                    self.answered[way] += 1
                self._changed.notify_all()
