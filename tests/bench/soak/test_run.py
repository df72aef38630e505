"""What a soak counts as trouble."""

from collections import Counter
from typing import Any

from bench.soak.process import Held
from bench.soak.run import Result, Sample

MIB = 1 << 20
REST = Held(100 * MIB, 20, 10)


GOOD = Counter({("generate", "OK"): 9, ("attack", "INVALID_ARGUMENT"): 5, ("leave", "CANCELLED"): 2})


def result(end: Held = REST, busy_mib: tuple[int, ...] = (150,) * 8, counts: Any = GOOD, log: str = "") -> Result:
    samples = [Sample(10.0 * n, Held(size * MIB, 30, 12)) for n, size in enumerate(busy_mib, 1)]
    return Result(REST, end, samples, counts, log, [])


def test_a_server_that_holds_what_it_held_is_well() -> None:
    assert result().problems() == []
    assert result(Held(149 * MIB, 20, 18), (150, 160, 150, 160, 150, 160, 155, 150)).problems() == []


def test_what_is_kept_at_rest_is_trouble() -> None:
    assert result(Held(151 * MIB, 21, 19)).problems() == [
        "RSS at rest grew from 100 to 151 MiB",
        "descriptors at rest grew from 20 to 21",
        "threads at rest grew from 10 to 19",
    ]


def test_growth_under_load_is_trouble() -> None:
    assert result(busy_mib=(100, 120, 140, 160, 180, 200, 220, 240)).problems() == [
        "RSS under load grew by 1.50 from the first half to the last quarter"
    ]


def test_faults_of_the_server_are_trouble_and_rejections_are_not() -> None:
    counts = Counter({("infer", "INTERNAL"): 1, ("probe", "failed"): 2, ("stream", "RESOURCE_EXHAUSTED"): 3})
    assert result(counts=counts, log="x\nTraceback (most").problems() == [
        "infer: 1 x INTERNAL",
        "probe: 2 x failed",
        "stream: not one call succeeded",
        "infer: not one call succeeded",
        "probe: not one call succeeded",
        "1 tracebacks in the log",
    ]
