"""A burst of concurrent calls, and what the server's own metrics say about it and about every model."""

import asyncio
import time
from collections.abc import Iterator, Sequence

from demo.metrics_page import Page, describe_batches
from ganserve import AsyncClient

CALLERS = 16
CALLS_EACH = 16
FEW = 10  # below this a quantile says more about the histogram's buckets than about the server


async def run_burst(server: str, model: str) -> float:
    """Seconds that CALLERS concurrent callers take for CALLS_EACH calls each, one image a call."""
    async with AsyncClient(server) as client:

        async def call(caller: int) -> None:
            for turn in range(CALLS_EACH):
                await client.generate(model, seeds=caller * CALLS_EACH + turn)

        started = time.monotonic()
        await asyncio.gather(*(call(caller) for caller in range(CALLERS)))
        return time.monotonic() - started


def report_burst(before: Page, after: Page, model: str, seconds: float) -> None:
    """Prints throughput and batch sizes of the burst, from the pages before and after it."""
    name, sizes = "ganserve_images_total", "ganserve_batch_size"
    images = after.total(name, model=model) - before.total(name, model=model)
    batches = after.distribution(sizes, model=model) - before.distribution(sizes, model=model)
    print(f"\nBurst: {CALLERS} callers, {CALLS_EACH} calls each, one image of {model} a call, in {seconds:.2f} s:")
    print(f"  {images:.0f} images, {images / seconds:.0f} a second; batch sizes: {describe_batches(batches)}")


def report_phases(page: Page, models: Sequence[str]) -> None:
    """Prints images, latency and batch sizes of each model."""
    print(f"\nFrom /metrics, times in ms, p50 / p95, below {FEW} calls the mean:")
    rows: list[Sequence[str]] = [("model", "images", "request", "queue", "compute", "encode", "batch sizes")]
    for model in models:
        rows.append((model, f"{page.total('ganserve_images_total', model=model):.0f}", *_latencies(page, model)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print()


def _latencies(page: Page, model: str) -> Iterator[str]:
    for name in (f"ganserve_{phase}_seconds" for phase in ("request_duration", "queue", "compute", "encode")):
        seconds = page.distribution(name, model=model)
        if seconds.total >= FEW:
            yield f"{seconds.quantile(0.5) * 1e3:.1f} / {seconds.quantile(0.95) * 1e3:.1f}"
        elif seconds.total:
            yield f"mean {page.total(f'{name}_sum', model=model) / seconds.total * 1e3:.1f}"
        else:
            yield "-"
    yield describe_batches(page.distribution("ganserve_batch_size", model=model))
