"""Measuring while models serve: pieces with rests between them."""

import threading
from typing import Any

import pytest

from server.repository.cpu.pace import MAX_REST_S, REST_TIMES, Pace


class Machine:
    """A clock, and lanes that compute requests, both moved by the test; resting takes its time on the clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self.busy_s = 0.0
        self.rests: list[float] = []
        monkeypatch.setattr("server.repository.cpu.pace.time.monotonic", lambda: self.now_s)
        monkeypatch.setattr(threading.Event, "wait", lambda event, timeout: self._rest(timeout))
        self.pace = Pace(lambda: self.busy_s)
        self.pace.begin()

    def _rest(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.now_s += seconds

    def measure(self, seconds: float, served_s: float) -> float:
        self.now_s += seconds
        self.busy_s += served_s
        return self.pace.rest()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_it_rests_after_each_piece_in_which_requests_were_computed(machine: Machine) -> None:
    found = [machine.measure(*piece) for piece in [(0.03, 0.01), (0.02, 0.0), (0.03, 0.05), (5.0, 1.0)]]
    assert found == pytest.approx([0.03 * REST_TIMES, 0.0, 0.03 * REST_TIMES, MAX_REST_S])
    assert machine.rests == [each for each in found if each]


def test_an_idle_server_is_measured_without_rests(machine: Machine) -> None:
    assert [machine.measure(0.03, 0.0) for _ in range(5)] == [0.0] * 5


def test_what_came_before_it_began_does_not_count(machine: Machine) -> None:
    machine.now_s += 60.0
    machine.busy_s += 1.0
    machine.pace.begin()
    assert machine.measure(0.03, 0.0) == 0.0


def test_a_server_that_stops_does_not_rest() -> None:
    busy: Any = iter(range(10))
    pace = Pace(lambda: float(next(busy)))
    pace.begin()
    pace.stop()
    assert pace.is_stopping
    pace.rest()  # ends at once: an event that is set keeps nobody waiting
