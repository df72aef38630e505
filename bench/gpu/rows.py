"""Whether a row of a batch has the bytes that it has alone: in every engine, and in ONNX Runtime as it is served."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from bench.gpu.artifacts import Version
from bench.gpu.device import Device
from bench.gpu.engines import onnx_way
from bench.gpu.figures import SERVED_ROWS, Rows, Subject
from bench.gpu.rates import DISTINCT_ROWS, TIME_UP, feed_of
from bench.gpu.report import Results, Unavailable, reason_of
from bench.gpu.runs import Hosted, Way
from server.engines.onnx.options import batch_sizes

BATCHES = (3, 16, SERVED_ROWS)
ALONE = 3


def check(
    results: Results, subjects: Sequence[Subject], versions: Mapping[str, Version], ways: Sequence[Way], device: Device,
    end_s: float,
) -> None:  # fmt: skip
    """Adds a row for every way and subject; what cannot run is skipped with its reason. `end_s`: begin no more then."""
    sizes = batch_sizes(SERVED_ROWS)
    served = [
        onnx_way(version, precision, device, SERVED_ROWS, sizes, "ONNX Runtime, as served")
        for precision, version in versions.items()
        if device.kind == "cuda"  # on a CPU it is the same engine
    ]
    for way in (*served, *ways):
        if way.hosted is None:
            continue
        if time.perf_counter() > end_s:
            results.skip(f"rows of {subjects[0].model}, {way}", TIME_UP)
            continue
        try:
            opened = way.hosted()
        except Exception as error:  # whatever an engine has against this machine is a result
            results.skip(f"rows of {subjects[0].model}, {way}", reason_of(error))
            continue
        try:
            for subject in subjects:
                if time.perf_counter() > end_s:
                    raise Unavailable(TIME_UP)
                results.rows.append(_compared(opened, versions[way.precision], subject, way))
        except Exception as error:
            results.skip(f"rows of {subject}, {way}", reason_of(error))
        finally:
            opened.close()
            device.free()


def _compared(opened: Hosted, version: Version, subject: Subject, way: Way) -> Rows:
    feed = feed_of(version, subject, max(BATCHES))
    alone = [opened.run({name: array[row : row + 1] for name, array in feed.items()})[0] for row in range(ALONE)]
    levels, differing = {}, {}
    for batch in BATCHES:
        pixels = opened.run({name: array[:batch] for name, array in feed.items()})
        # inputs repeat: row 16 is row 0 at another place of the batch
        apart = [
            np.abs(pixels[row].astype(np.int16) - alone[row % DISTINCT_ROWS])
            for row in range(batch)
            if row % DISTINCT_ROWS < ALONE
        ]
        levels[batch] = float(max(each.max() for each in apart))
        differing[batch] = float(np.mean([np.count_nonzero(each) / each.size for each in apart]))
    return Rows(str(subject), way.engine, way.precision, levels, differing)
