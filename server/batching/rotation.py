"""Whose turn it is: clients one after the other, and in a model with priority levels the highest level first."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from server.batching.job import Client, Turn

Head: TypeAlias = Callable[[list[Turn]], Turn | None]
"""The first turn of a heap that has a job, None if there is none; what must not run any more is taken out."""


class Rotation:
    """Clients in turn, each with a heap of what its requests have waiting. `items`: of all of them."""

    __slots__ = ("items", "lines", "order")

    def __init__(self) -> None:
        self.items = 0
        self.lines: dict[Client, list[Turn]] = {}
        self.order: deque[Client] = deque()

    def __len__(self) -> int:
        """How many clients take turns."""
        return len(self.order)

    def add(self, client: Client, turn: Turn) -> None:
        """Something of the client waits."""
        line = self.lines.get(client)
        if line is None:
            line = self.lines[client] = []
            self.order.append(client)
        heapq.heappush(line, turn)

    def pick(self, head: Head) -> Turn | None:
        """What the client whose turn it is has first; it goes to the back. `head`: the first live turn of a heap."""
        late: Turn | None = None
        for _ in range(len(self.order)):
            client = self.order[0]
            turn = head(self.lines[client])
            if turn is None:
                self.order.popleft()
                del self.lines[client]
                continue
            self.order.rotate(-1)
            if not turn.late:
                return turn
            late = late or turn
        return late

    def look_at(self, number: int, head: Head) -> None:
        """Takes out what one client has that must not run any more; nobody loses a turn."""
        if self.order:
            head(self.lines[self.order[number % len(self.order)]])


class Leveled:
    """Clients in turn at each priority level, and all of a level before the next one. `items`: of all of them."""

    __slots__ = ("_levels", "_numbers", "items")

    def __init__(self) -> None:
        self.items = 0
        self._levels: dict[int, Rotation] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        """How many clients take turns, counted at each level."""
        return sum(map(len, self._levels.values()))

    def add(self, client: Client, turn: Turn) -> None:
        """Something of the client waits."""
        index = client.level.index
        if index not in self._levels:
            self._levels[index] = Rotation()
        self._levels[index].add(client, turn)

    def pick(self, head: Head) -> Turn | None:
        """What goes first. Of the levels behind, which may wait long, those whose time is over are told so."""
        found: Turn | None = None
        for index in sorted(self._levels):
            rotation = self._levels[index]
            if found is not None:
                rotation.look_at(next(self._numbers), head)
                continue
            found = rotation.pick(head)
            if found is None:
                del self._levels[index]
        return found
