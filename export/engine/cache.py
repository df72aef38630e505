"""The cache of TensorRT engines, so that none is built twice, and of classic TensorRT's kernel timings."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from artifact.repository import sha256_of
from artifact.spec import ShapeRange, TensorRTPlan

# Raised if export builds engines in another way, so that the same facts give another engine.
RECIPE = 1


def plan_key(
    onnx_sha256: str,
    variant: str,
    version: str,
    compute_capabilities: Iterable[str],
    precision: str,
    profiles: Iterable[Mapping[str, ShapeRange]],
) -> str:
    """Hex sha256 of everything that an engine is built from, with and for; engines of one key are interchangeable."""
    facts = {
        "recipe": RECIPE,
        "onnx_sha256": onnx_sha256,
        "variant": variant,
        "version": version,
        "compute_capabilities": list(compute_capabilities),
        "precision": precision,
        "profiles": [{name: asdict(shapes) for name, shapes in profile.items()} for profile in profiles],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class PlanCache:
    """A folder that may be deleted at any time: `plans/<key>.plan` with its sha256 next to it, and `timing/`."""

    folder: Path

    def find(self, plan: TensorRTPlan) -> Path | None:
        """The engine kept for `plan`; None if there is none or its bytes have changed."""
        path = self._path(plan)
        digest = path.with_suffix(".sha256")
        try:
            return path if digest.read_text() == sha256_of(path) else None
        except OSError:
            return None

    def keep(self, plan: TensorRTPlan, built: Path) -> None:
        """Copies the engine `built` for `plan` into the cache, its sha256 last, so that a partial copy is ignored."""
        path = self._path(plan)
        with built.open("rb") as file:
            write(path, file.read())
        write(path.with_suffix(".sha256"), sha256_of(built).encode())

    def timing(self, plan: TensorRTPlan) -> Path:
        """The file of kernel timings of that library on that GPU."""
        return self.folder / "timing" / f"{'-'.join((plan.variant, plan.version, *plan.compute_capabilities))}.cache"

    def _path(self, plan: TensorRTPlan) -> Path:
        key = plan_key(
            plan.onnx_sha256, plan.variant, plan.version, plan.compute_capabilities, plan.precision, plan.profiles
        )
        return self.folder / "plans" / f"{key}.plan"


def write(path: Path, content: bytes | memoryview) -> None:
    """Writes a file in one rename, readable by everyone (temporary files are not), and creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:20]}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
