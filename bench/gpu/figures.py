"""What is found on a GPU, one class for each kind of figure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SERVED_ROWS = 64  # a server's largest batch on a GPU
NEARLY_ALL = 0.9


@dataclass(frozen=True)
class Subject:
    """A model at one size: `side_px` of the square pictures that go in, 0 for a model that draws."""

    model: str
    side_px: int = 0

    def __str__(self) -> str:
        return f"{self.model} {self.side_px}x{self.side_px}" if self.side_px else self.model


@dataclass(frozen=True)
class Parity:
    """How far an engine's pixels lie from the reference's, in uint8 levels over all of `rows` pictures."""

    subject: str
    engine: str
    precision: str
    reference: str
    rows: int
    largest_levels: float
    mean_levels: float
    psnr_db: float


@dataclass(frozen=True)
class Rate:
    """Images per second of one engine at one batch size; a figure that is None has its reason in `missing`.

    `hosted`: from arrays in host memory to arrays in host memory. `placed`: inputs and outputs stay on the device.
    """

    subject: str
    engine: str
    precision: str
    batch: int
    hosted: float | None = None
    placed: float | None = None
    missing: str = ""

    @property
    def device_share(self) -> float | None:
        """Time of a run on the device over time of the same run with its transfers."""
        return self.hosted / self.placed if self.hosted and self.placed else None


@dataclass(frozen=True)
class Served:
    """One closed-loop phase through gRPC.

    `gpu_busy` is the mean of NVML's utilization, 0..1; cores are processor seconds in a second, of the servers and of
    the callers, one thread for each server; `lane_busy` is the share of the time that the servers' lanes were in
    batches. `setup`: how it was served, "" for one server as it is.
    """

    subject: str
    precision: str
    platform: str
    callers: int
    images_per_call: int
    images_per_s: float
    p50_s: float
    p99_s: float
    mean_batch: float
    errors: int
    gpu_busy: float | None
    server_cores: float | None = None
    caller_cores: float | None = None
    lane_busy: float | None = None
    setup: str = ""
    processes: int = 1

    @property
    def limited_by(self) -> str:
        """The first of what is busy nearly all of the time; "-" where nothing was answered. A lane waits for the
        interpreter as well as for the GPU."""
        if not self.images_per_s:
            return "-"
        is_gpu = self.gpu_busy is not None and self.gpu_busy >= NEARLY_ALL
        for share, what in (
            (self.lane_busy, "the GPU" if is_gpu else "the lane (GPU or interpreter)"),
            (self.caller_cores and self.caller_cores / self.processes, "the caller"),
            (self.server_cores and self.server_cores / self.processes, "the server's threads together"),
        ):
            if share is not None and share >= NEARLY_ALL:
                return what
        return "round trips"


@dataclass(frozen=True)
class Rows:
    """Whether rows keep their bytes whatever else is in their batch: by batch size, the largest difference in levels
    from the same rows alone, and the share of values that differ."""

    subject: str
    engine: str
    precision: str
    largest_levels: Mapping[int, float]
    differing: Mapping[int, float]


@dataclass(frozen=True)
class Choice:
    """ONNX Runtime with one option changed: milliseconds of a run by batch with its data on the device, seconds until
    it ran first at each batch, and how far a row's pixels in the largest batch lie from those of the same row alone."""

    subject: str
    precision: str
    change: str
    milliseconds: Mapping[int, float] = field(default_factory=dict)
    first_s: Mapping[int, float] = field(default_factory=dict)
    row_levels: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Mixed:
    """Batches that follow each other: milliseconds of a run from host to host, and the GPU's memory that was taken."""

    subject: str
    precision: str
    sessions: str
    milliseconds: float
    memory_bytes: int


@dataclass(frozen=True)
class Finding:
    """One thing of the server that was looked at, whether it was as it must be, and what was seen."""

    part: str
    right: bool
    seen: str
