"""How busy the devices are, by a clock in the test's hand."""

import pytest

from server.observability.metrics import Metrics
from server.observability.saturation import LaneTime, Saturation
from tests.server.observability.test_metrics import read, value


class Machine:
    """Devices whose lanes work as told, and the clock."""

    def __init__(self, **lanes: int) -> None:
        self.now_s = 100.0
        self.lanes = lanes
        self.busy_s = dict.fromkeys(lanes, 0.0)
        self.saturation = Saturation(self.read, lambda: self.now_s)

    def read(self) -> list[LaneTime]:
        return [LaneTime(name, 0, lanes, self.busy_s[name]) for name, lanes in self.lanes.items()]

    def work(self, seconds: int, **busy_lanes: float) -> None:
        """So many seconds with so many lanes busy on average, sampled at the end of each."""
        for _ in range(seconds):
            self.now_s += 1
            for name, busy in busy_lanes.items():
                self.busy_s[name] += busy
            self.saturation.sample()


def test_half_of_the_lanes_busy_is_half_saturated() -> None:
    machine = Machine(cpu=4)
    machine.work(10, cpu=2.0)
    assert machine.saturation.share() == 0.5


def test_the_window_slides() -> None:
    machine = Machine(cpu=2)
    machine.work(60, cpu=2.0)
    assert machine.saturation.share() == 1.0
    machine.work(5)
    assert machine.saturation.share() == 0.5
    machine.work(5)
    assert machine.saturation.share() == 0.0


def test_the_share_goes_on_between_two_samples() -> None:
    machine = Machine(cpu=1)
    machine.work(10)
    machine.now_s += 2.5
    machine.busy_s["cpu"] += 2.5
    assert machine.saturation.share() == 0.2


def test_the_busiest_device_counts_since_the_idle_lanes_of_another_help_nobody() -> None:
    machine = Machine(cpu=8, gpu=1)
    machine.work(10, cpu=0.8, gpu=0.9)
    assert machine.saturation.share() == pytest.approx(0.9)


def test_a_device_that_comes_later_is_taken_to_have_been_idle() -> None:
    machine = Machine(cpu=1)
    machine.work(5)
    machine.lanes["gpu"], machine.busy_s["gpu"] = 1, 0.0
    machine.work(5, gpu=1.0)
    assert machine.saturation.share() == 0.5


def test_without_devices_or_time_nothing_is_saturated() -> None:
    assert Machine().saturation.share() == 0.0
    assert Machine(cpu=1).saturation.share() == 0.0


def test_the_share_is_never_more_than_all() -> None:
    machine = Machine(cpu=1)
    machine.work(10, cpu=1.0001)
    assert machine.saturation.share() == 1.0


def test_the_page_has_what_each_devices_lanes_did() -> None:
    metrics = Metrics()
    metrics.watch_lanes(lambda: [LaneTime("cuda:0", 1, 1, 2.5), LaneTime("cpu", 0, 4, 0.25)])
    seen = read(metrics)
    assert seen["ganserve_device_lanes", (("device", "cpu"), ("slot", "0"))] == 4
    assert seen["ganserve_device_busy_seconds_total", (("device", "cuda:0"), ("slot", "1"))] == 2.5
    assert 0.0 <= value(metrics, "ganserve_saturation") <= 1.0


def test_the_page_has_readiness_as_it_is_at_the_scrape() -> None:
    metrics = Metrics()
    assert value(metrics, "ganserve_ready") == 0, "before anybody says otherwise"
    ready = {"faces": True, "digits": False}
    metrics.watch_readiness(lambda: all(ready.values()), lambda: ready)
    assert value(metrics, "ganserve_ready") == 0
    assert value(metrics, "ganserve_model_ready", model="digits") == 0
    assert value(metrics, "ganserve_model_ready", model="faces") == 1
    del ready["digits"]
    assert value(metrics, "ganserve_ready") == 1
    assert ("ganserve_model_ready", (("model", "digits"),)) not in read(metrics)
