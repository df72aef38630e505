"""TensorRT engines for what is measured: built here for the GPU at hand, the one beside the graph as a last resort."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifact.repository import PLAN
from artifact.shapes import has_free_sizes, sized
from artifact.spec import ShapeRange, TensorRTPlan
from bench.gpu.artifacts import Version
from bench.gpu.report import Unavailable, first_line

TUNED_ROWS = 64
SMALLER_ROWS = 64  # where an engine for the largest batches takes more memory than there is
PORTABLE: tuple[str, ...] = ()
TARGETS = (("current",), PORTABLE)


@dataclass(frozen=True)
class Built:
    """An engine's file and what it is."""

    path: Path
    plan: TensorRTPlan


@dataclass
class Plans:
    """The engine of one version: the first of the candidates that this GPU takes; `opened` once it was.

    `sides_px`: of the pictures that are measured, for a model whose pictures have free sizes.
    """

    version: Version
    folder: Path
    variant: str | None
    most_rows: int
    sides_px: Sequence[int]
    opened: Built | None = None
    _refused: dict[str, str] = field(default_factory=dict)  # reason -> the first candidate that it was said of

    def open(self) -> Any:
        """The server's engine of it.

        Raises:
            Unavailable: no candidate can be built and opened here; says why of each.
        """
        from server.engines.base import DeviceId
        from server.engines.tensorrt.engine import TensorRTEngine

        if self._refused and self.opened is None:
            raise self._unavailable()
        for name, make in [("", self._again)] if self.opened else self._candidates():
            try:
                built = make()
                engine = TensorRTEngine(built.path, built.plan, DeviceId("cuda"), True)
            except Exception as error:  # whatever speaks against one candidate, the next may do
                self._refused.setdefault(first_line(error), name)
                print(f"TensorRT, {name}: {first_line(error)}", flush=True)
                continue
            self.opened = built
            return engine
        raise self._unavailable()

    def _unavailable(self) -> Unavailable:
        reasons = "; ".join(f"{name}: {reason}" for reason, name in self._refused.items())
        return Unavailable(reasons or "no engine was asked for, and none lies beside the graph")

    def _again(self) -> Built:
        assert self.opened is not None
        return self.opened

    def _candidates(self) -> Iterator[tuple[str, Callable[[], Built]]]:
        if self.variant is not None:
            for rows in dict.fromkeys((self.most_rows, min(self.most_rows, SMALLER_ROWS))):
                for target in TARGETS:
                    what = f"{self.variant} for {target[0] if target else 'every GPU'}, up to {rows} rows"
                    yield what, lambda rows=rows, target=target: self._build(rows, target)  # type: ignore[misc]
        beside, plan = self.version.folder / PLAN, self.version.spec.plan
        if plan is not None and beside.is_file():
            yield "the engine beside the graph", lambda: Built(beside, plan)

    def _build(self, rows: int, target: tuple[str, ...]) -> Built:
        from export.engine.build import build

        assert self.variant is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        precision = self.version.spec.precision
        path = self.folder / f"{precision}-{rows}-{'-'.join(target) or 'portable'}.plan"
        plan = build(
            self.version.graph, path, variant=self.variant, precision=precision, compute_capabilities=target,
            profiles=self.profiles(rows), cache_dir=self.folder / "cache",
        )  # fmt: skip
        return Built(path, plan)

    def profiles(self, rows: int) -> list[dict[str, ShapeRange]]:
        """One for each size of pictures, from one row to `rows`."""
        inputs = self.version.spec.inputs
        free = has_free_sizes(inputs)
        tuned = min(rows, TUNED_ROWS)

        def profile(side_px: int) -> dict[str, ShapeRange]:
            shapes = {tensor.name: sized(tensor, side_px) for tensor in inputs}
            return {name: ShapeRange((1, *shape), (tuned, *shape), (rows, *shape)) for name, shape in shapes.items()}

        return [profile(side_px) for side_px in (sorted(self._sides()) if free else [0])]

    def _sides(self) -> set[int]:
        """What is measured, and the tile that a server warms."""
        tile = self.version.spec.tile
        return {*self.sides_px, *([tile.size_px] if tile is not None else [])}
