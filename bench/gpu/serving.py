"""The repositories that servers are measured over: each version by one engine, in batches as large as are measured."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from artifact.repository import CONFIG, ONNX, ONNX_FP32, PLAN, write_version
from bench.gpu.artifacts import Version
from bench.gpu.figures import Subject
from bench.gpu.plans import Plans
from bench.gpu.report import Results
from bench.gpu.runs import Way
from bench.gpu.torch_baseline import Torch


@dataclass(frozen=True)
class Model:
    """A model with all that could be had of it, by precision."""

    versions: Mapping[str, Version]
    plans: Mapping[str, Plans]
    subjects: list[Subject]
    found: Torch | None
    ways: list[Way]


@dataclass
class Serving:
    """A repository of one precision, to be served by one engine: `onnx` or `tensorrt`, as the server calls them."""

    engine: str
    precision: str
    folder: Path
    most_rows: int
    versions: dict[str, Version] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"

    def add(self, results: Results, model: Model) -> list[Subject]:
        """Puts a copy of the model in; what can be measured of it then."""
        name = model.subjects[0].model
        version = model.versions.get(self.precision)
        if version is None:
            return []  # said before
        spec = replace(version.spec, plan=None)
        names = [ONNX, ONNX_FP32]
        files = {file: version.folder / file for file in names if (version.folder / file).is_file()}
        if self.engine == "tensorrt":
            built = model.plans[self.precision].opened
            if built is None:
                results.skip(f"server, {name}, {self}", "no TensorRT engine of it could be opened")
                return []
            files[PLAN], spec = built.path, replace(spec, plan=built.plan)
        config = batched((version.folder.parent / CONFIG).read_text(), self.most_rows)
        write_version(self.folder, name, 1, spec, _copied(files, self.folder.with_suffix(".files")), config)
        self.versions[name] = version
        return model.subjects


def batched(config: str, rows: int) -> str:
    """The config with that largest batch, whatever it said before; as it was for a model without a batch axis."""
    return re.sub(r"^max_batch_size: [1-9]\d*$", f"max_batch_size: {rows}", config, flags=re.MULTILINE)


def _copied(files: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Copies that may be moved away."""
    folder.mkdir(parents=True, exist_ok=True)
    return {name: Path(shutil.copy(path, folder / name)) for name, path in files.items()}
