"""Many conversions, some at a time, with one bar and a summary; what would stop them all stops them at once."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ganserve.cli.exit_codes import SOME_FAILED, exit_code_of
from ganserve.cli.media.plan import Conversion
from ganserve.cli.output import sentence
from ganserve.client.errors import AccessDenied, NotFound, Overloaded, Unavailable

FATAL = (AccessDenied, NotFound, Unavailable)  # the next input would fail alike
FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 10.0


@dataclass
class Summary:
    """What became of the inputs: reports of those that were written, and each error with its input."""

    total: int
    reports: list[dict[str, Any]] = field(default_factory=list)
    skipped: int = 0
    failures: list[tuple[Conversion, Exception]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def left(self) -> int:
        """Inputs that were not tried."""
        return self.total - len(self.reports) - self.skipped - len(self.failures)

    @property
    def exit_code(self) -> int:
        """0 if nothing failed; the error's own code if all failed alike; else SOME_FAILED."""
        codes = {exit_code_of(error) for _, error in self.failures}
        if not codes:
            return 0
        return codes.pop() if len(codes) == 1 and not self.reports and not self.skipped else SOME_FAILED

    def __str__(self) -> str:
        parts = [f"{len(self.reports)} written"]
        parts += [f"{self.skipped} skipped"] if self.skipped else []
        parts += [f"{len(self.failures)} failed"] if self.failures else []
        parts += [f"{self.left} not tried"] if self.left else []
        rate = f", {len(self.reports) / self.seconds:.2g}/s" if self.reports and self.seconds else ""
        return f"{', '.join(parts)}, {self.seconds:.1f} s{rate}"


def run(
    conversions: Sequence[Conversion],
    convert: Callable[[Conversion], dict[str, Any]],
    *,
    in_flight: int,
    skip_existing: bool,
    stop: Callable[[], None],
) -> Summary:
    """Converts every input, `in_flight` at a time, in their order.

    An input that fails is one line on stderr and the others go on, unless they would fail alike. `stop` ends what
    runs if the command is ended before.
    """
    summary = Summary(len(conversions))
    left = [each for each in conversions if not (skip_existing and each.target is not None and each.target.exists())]
    summary.skipped = len(conversions) - len(left)
    began = time.monotonic()
    with ThreadPoolExecutor(in_flight) as threads, _bar(len(left)) as advance:
        waiting = iter(left)
        running: dict[Future[dict[str, Any]], Conversion] = {}
        try:
            stopped = False
            while True:
                while not stopped and len(running) < in_flight and (each := next(waiting, None)) is not None:
                    running[threads.submit(convert, each)] = each
                if not running:
                    break
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    stopped = _collect(done, running.pop(done), summary) or stopped
                    advance()
        except BaseException:
            stop()
            raise
    order = {str(each): place for place, each in enumerate(conversions)}
    summary.reports.sort(key=lambda report: order[report["input"]])
    summary.seconds = time.monotonic() - began
    return summary


def _collect(done: Future[dict[str, Any]], conversion: Conversion, summary: Summary) -> bool:
    """Keeps the outcome; whether the others need not be tried."""
    error = done.exception()
    if error is None:
        summary.reports.append(done.result())
        return False
    if not isinstance(error, Exception):
        raise error
    summary.failures.append((conversion, error))
    print(f"ganserve: {conversion}: {sentence(error)}", file=sys.stderr, flush=True)
    return isinstance(error, FATAL)


def patiently(call: Callable[[], Any], limit_s: float, stop: threading.Event) -> Any:
    """The call's result; while the server is overloaded it is called again, for at most `limit_s`."""
    ends_at = time.monotonic() + limit_s
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return call()
        except Overloaded:
            if time.monotonic() + pause_s > ends_at or stop.wait(pause_s):
                raise
            pause_s = min(2 * pause_s, MAX_PAUSE_S)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    """A function to call when one more is done: on a terminal a bar with rate and time left."""
    if not sys.stderr.isatty() or total < 2:
        yield lambda: None
        return
    with progress_bar("images", total) as advance:
        yield lambda: advance(1)


@contextmanager
def progress_bar(unit: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A function that adds to what is done, shown on stderr with rate and time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.2g} {unit}/s" if task.speed else "")

    columns = (BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(unit, total=total)
        yield lambda n: progress.advance(task, n)
