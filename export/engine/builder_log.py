"""TensorRT's builder while it works: its errors and warnings, its progress, and how it is stopped."""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from artifact.tensorrt import message

Progress: TypeAlias = Callable[[str, float | None], None]
"""Called with a step, and the share of it that is done (0..1) or None."""

# An error that follows every other one on a machine without a driver.
NO_DRIVER = "cudaError 35"
# A warning, but the engine then declares shapes that the network cannot compute.
CONTRADICTED = "not self-consistent"
# What the parser says of an operator that it does not know: nothing that helps.
UNKNOWN = re.compile(r"^(false)?$|Plugin not found")


class Problems:
    """What the builder logged as errors and warnings, in order; nothing is printed."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []

    @property
    def contradiction(self) -> str:
        """How a profile contradicts the network; "" if none does."""
        return next((one_line(text) for text in self.warnings if CONTRADICTED in text), "")

    @property
    def reason(self) -> str:
        """TensorRT's own text for what went wrong, in one line."""
        errors = [text for text in self.errors if NO_DRIVER not in text] or self.errors
        return "; ".join(dict.fromkeys(one_line(text) for text in errors)) or "TensorRT gave no reason"


def one_line(text: str) -> str:
    """TensorRT's message, without the lines that every one has where there is no driver."""
    lines = [line for line in text.splitlines() if NO_DRIVER not in line] or text.splitlines()
    return message(" ".join(lines))


@dataclass
class _Phase:
    name: str
    steps: int
    done: int = 0


@dataclass
class Phases:
    """The builder's nested phases as one share of the whole, which never falls. Called on the builder's threads."""

    progress: Progress
    failure: Exception | None = None  # what `progress` raised; the build is then stopped
    _open: list[_Phase] = field(default_factory=list)
    _share: float = 0.0
    _stopped: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Makes the builder give up at its next step."""
        self._stopped.set()

    def start(self, name: str, steps: int) -> None:
        """A phase begins, within the one that began last."""
        self._open.append(_Phase(name, max(1, steps)))
        self._show()

    def step(self, name: str, step: int) -> bool:
        """Step `step` (from 0) of a phase is done. Returns whether to go on."""
        for phase in self._open:
            if phase.name == name:
                phase.done = step + 1
        self._show()
        return not self._stopped.is_set()

    def finish(self, name: str) -> None:
        """The phase is over."""
        self._open = [phase for phase in self._open if phase.name != name]
        if not self._open:
            self._share = 1.0

    def _show(self) -> None:
        share = 0.0
        for phase in reversed(self._open):
            share = min(1.0, (phase.done + share) / phase.steps)
        self._share = max(self._share, share)
        try:
            self.progress(f"building the TensorRT engine: {self._open[-1].name}", self._share)
        except Exception as error:  # must not pass through the library's own code
            self.failure = error
            self.stop()


def logger(trt: Any, problems: Problems) -> Any:
    """An `ILogger` that fills `problems`."""
    errors = (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR)

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity in errors:
                problems.errors.append(text)
            elif severity == trt.ILogger.WARNING:
                problems.warnings.append(text)

    return Logger()


def set_flags(trt: Any, config: Any, precision: str) -> None:
    """Sets the builder flags of every engine, as far as this library has them.

    fp32 excludes TF32, whose products have 10 bits, so that an engine gives what the CPU gives. In half precision, NaN
    must reach the output `finite`. Only engines whose memory the caller allocates can be captured in a CUDA graph.
    """
    if precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)
    for name in ("REQUIRE_USER_ALLOCATION", *(() if precision == "fp32" else ("STRICT_NANS",))):
        flag = getattr(trt.BuilderFlag, name, None)
        if flag is not None:
            config.set_flag(flag)


def monitor(trt: Any, phases: Phases) -> Any:
    """An `IProgressMonitor` that reports to `phases`."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            phases.start(name, steps)

        def step_complete(self, name: str, step: int) -> bool:
            return phases.step(name, step)

        def phase_finish(self, name: str) -> None:
            phases.finish(name)

    return Monitor()


def unsupported_nodes(parser: Any) -> list[str]:
    """What the parser refused, each with its node: every operator it does not know, or the first it cannot use."""
    found = []
    for error in (parser.get_error(index) for index in range(parser.num_errors)):
        why = one_line(str(error.desc()))
        if not error.node_operator():
            found.append(why)
            continue
        node = f"{error.node_operator()} at node {error.node_name() or f'#{error.node()}'!r}"
        found.append(node if UNKNOWN.search(why) else f"{node} ({why})")
    return found
