"""Figures from a /metrics page, the page written by the server's own code."""

import math

import pytest

from demo.metrics_page import Distribution, Page, describe_batches
from server.observability.metrics import Metrics


def test_a_page_of_the_server_is_read() -> None:
    metrics = Metrics()
    metrics.model("faces", 1).observers.batch_size(3)
    metrics.served("faces", images=3, pixels=12)
    page = Page(metrics.render().decode())
    assert page.total("ganserve_images_total", model="faces") == 3
    assert page.total("ganserve_images_total", model="other") == 0
    assert describe_batches(page.distribution("ganserve_batch_size", model="faces")) == "3-4 (1x)"
    assert page.distribution("ganserve_batch_size", model="other").total == 0


def test_a_quantile_lies_within_its_bucket() -> None:
    times = Distribution((1.0, 2.0, 4.0, math.inf), (0, 4, 4, 2))
    assert times.total == 10
    assert times.quantile(0.2) == pytest.approx(1.5)
    assert times.quantile(0.6) == pytest.approx(3.0)
    assert times.quantile(0.99) == 4.0
    assert math.isnan(Distribution((1.0,), (0,)).quantile(0.5))


def test_the_difference_of_two_pages_is_what_came_between() -> None:
    later, earlier = Distribution((1.0, 2.0), (5, 7)), Distribution((1.0, 2.0), (5, 3))
    assert (later - earlier).counts == (0, 4)


def test_batches_are_described_by_their_sizes() -> None:
    sizes = Distribution((1.0, 2.0, 4.0, 8.0, math.inf), (20, 3, 0, 5, 1))
    assert describe_batches(sizes) == "1 (20x), 2 (3x), 5-8 (5x), over 8 (1x)"
    assert describe_batches(Distribution((1.0,), (0,))) == "none"
