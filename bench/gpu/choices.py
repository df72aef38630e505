"""Ways to run ONNX Runtime on a GPU, side by side: what each choice of the server costs, and others would give."""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from bench.gpu.artifacts import Version
from bench.gpu.device import Device
from bench.gpu.engines import OrtOnDevice, ort_providers
from bench.gpu.figures import Choice, Mixed, Subject
from bench.gpu.rates import feed_of, seconds_per_run
from bench.gpu.report import first_line
from bench.gpu.runs import Feed
from server.engines.onnx.gpu import OnnxGpuEngine
from server.engines.onnx.options import batch_sizes

Outputs: TypeAlias = Mapping[str, NDArray[Any]]

BATCHES = (1, 16, 64)
MIXED = (1, 3, 8, 5, 2, 13, 16, 4)  # batches that follow each other, as callers make them
# What differs from the server's own options, one at a time.
CHANGES: Mapping[str, Mapping[str, str]] = {
    "as the server has it": {},
    "search heuristic": {"cudnn_conv_algo_search": "HEURISTIC"},
    "search exhaustive": {"cudnn_conv_algo_search": "EXHAUSTIVE"},
    "search default": {"cudnn_conv_algo_search": "DEFAULT"},
    "TF32 the other way": {},
    "channels last": {"prefer_nhwc": "1"},
    "bias fused": {"fuse_conv_bias": "1"},
    "channels last, bias fused": {"prefer_nhwc": "1", "fuse_conv_bias": "1"},
    "CUDA graph": {"enable_cuda_graph": "1"},
    "CUDA graph, channels last": {"enable_cuda_graph": "1", "prefer_nhwc": "1"},
}


def measure(version: Version, subject: Subject, device: Device, seconds: float) -> Iterator[Choice]:
    """A row for every change, as each is found."""
    outputs: dict[int, Outputs] = {}
    for change, options in CHANGES.items():
        changed = dict(options)
        if change.startswith("TF32"):
            changed["use_tf32"] = "1" if version.spec.precision == "fp32" else "0"
        try:
            yield _row(version, subject, device, change, changed, seconds, outputs)
        except Exception as error:  # whatever ONNX Runtime has against a way is a result
            yield Choice(str(subject), version.spec.precision, change, reason=first_line(error))


def _row(
    version: Version, subject: Subject, device: Device, change: str, options: Mapping[str, str], seconds: float,
    outputs: dict[int, Outputs],
) -> Choice:  # fmt: skip
    """`outputs`: those of the first row, whose shapes a graph must know."""
    spent, first = {}, {}
    rows: dict[int, Outputs] = {}
    graphed = "enable_cuda_graph" in options
    opened = None if graphed else OrtOnDevice(version, device, options)
    for batch in BATCHES:
        feed = feed_of(version, subject, batch)
        began_s = time.perf_counter()
        run = OrtOnDevice(version, device, options) if opened is None else opened  # a graph is of one set of shapes
        placed = run.place(feed, outputs.get(batch) if graphed else None)
        placed.start()
        placed.finish()
        first[batch] = time.perf_counter() - began_s
        spent[batch] = 1e3 * seconds_per_run(placed.start, placed.finish, seconds)
        rows[batch] = run.read()
        if graphed:
            run.close()
    if opened is not None:
        opened.close()
        outputs.update(rows)
    device.free()
    alone, among = (next(iter(rows[batch].values()))[:1].astype(np.int16) for batch in (1, BATCHES[-1]))
    apart = np.abs(among - alone)
    return Choice(str(subject), version.spec.precision, change, spent, first, float(apart.max()))


def mixed(version: Version, subject: Subject, device: Device, seconds: float) -> Iterator[Mixed]:
    """One session for all batches, and one for each power of two, over the same batches."""
    largest = max(MIXED)
    feeds: Sequence[Feed] = [feed_of(version, subject, batch) for batch in MIXED]
    for name, sizes in (("one", ()), ("a power of two each", batch_sizes(largest))):
        before = _memory(device)
        engine = OnnxGpuEngine(version.graph, ort_providers(version, device), largest, sizes=sizes)
        for feed in feeds:
            engine.run(feed, True)
        spent_s = seconds_per_run(partial(_run_all, engine, feeds), lambda: None, seconds) / len(feeds)
        taken = _memory(device) - before
        engine.close()
        yield Mixed(str(subject), version.spec.precision, name, 1e3 * spent_s, taken)


def _run_all(engine: OnnxGpuEngine, feeds: Sequence[Feed]) -> None:
    for feed in feeds:
        engine.run(feed, True)


def _memory(device: Device) -> int:
    if device.kind == "cpu":
        return 0
    free, total = torch.cuda.mem_get_info()
    return total - free
