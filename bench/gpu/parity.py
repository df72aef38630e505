"""Whether every engine draws the reference's pixels, before any of them is timed."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from bench.gpu.artifacts import Version
from bench.gpu.device import Device
from bench.gpu.engines import onnx_way
from bench.gpu.figures import Parity, Subject
from bench.gpu.rates import feed_of
from bench.gpu.report import Results, Unavailable, reason_of
from bench.gpu.runs import Feed, Hosted, Pixels, Way
from bench.gpu.torch_baseline import Torch, TorchRun

ROWS = 4


def parity_feed(version: Version, subject: Subject) -> Feed:
    """Four rows: random latents for a model that draws, pictures with slopes, edges and stripes for the others."""
    if version.spec.task.draws:
        return feed_of(version, subject, ROWS)
    from export.graph.samples import synthetic_image

    side, channels = subject.side_px, version.spec.image_shape[2]
    return {
        version.spec.inputs[0].name: np.stack([synthetic_image(side, side, channels, seed) for seed in range(ROWS)])
    }


def reference_of(found: Torch | None, versions: Mapping[str, Version], feed: Feed) -> tuple[str, Pixels]:
    """What float32 gives on the CPU, and who computed it: torch where there is a checkpoint, else ONNX Runtime.

    Raises:
        Unavailable: neither can.
    """
    cpu = Device("cpu")
    if found is not None:
        return f"torch {torch.__version__} fp32, CPU", _run(lambda: TorchRun(found.module, cpu, False), feed)
    if "fp32" not in versions:
        raise Unavailable("no reference: neither a checkpoint nor a float32 graph")
    way = onnx_way(versions["fp32"], "fp32", cpu, ROWS)
    assert way.hosted is not None
    return "ONNX Runtime fp32, CPU", _run(way.hosted, feed)


def _run(open_way: Callable[[], Hosted], feed: Feed) -> Pixels:
    opened = open_way()
    try:
        return opened.run(feed)
    finally:
        opened.close()


def compare(pixels: Pixels, reference: Pixels) -> tuple[float, float, float]:
    """Largest and mean difference in levels, and the PSNR in dB, infinite where both are equal.

    Raises:
        ValueError: the shapes differ.
    """
    if pixels.shape != reference.shape:
        raise ValueError(f"pictures {pixels.shape}, the reference's are {reference.shape}")
    difference = np.abs(pixels.astype(np.float64) - reference.astype(np.float64))
    mean_square = float((difference**2).mean())
    psnr_db = float("inf") if mean_square == 0 else float(10 * np.log10(255.0**2 / mean_square))
    return float(difference.max()), float(difference.mean()), psnr_db


def check(
    results: Results, subjects: Sequence[Subject], versions: Mapping[str, Version], found: Torch | None,
    ways: Sequence[Way], device: Device,
) -> None:  # fmt: skip
    """Adds a row for every way and subject; what cannot run is skipped with its reason."""
    for subject in subjects:
        try:
            feed = parity_feed(next(iter(versions.values())), subject)
            name, expected = reference_of(found, versions, feed)
        except Exception as error:
            results.skip(f"parity of {subject}", reason_of(error))
            continue
        for way in ways:
            if way.hosted is None:
                continue
            part = f"parity of {subject}, {way}"
            try:
                largest, mean, psnr_db = compare(_run(way.hosted, feed), expected)
            except Exception as error:  # whatever an engine has against this machine is a result
                results.skip(part, reason_of(error))
                continue
            finally:
                device.free()
            results.parity.append(
                Parity(str(subject), way.engine, way.precision, name, len(expected), largest, mean, psnr_db)
            )
            print(f"{part}: {largest:.0f} levels at most, {psnr_db:.1f} dB", flush=True)
