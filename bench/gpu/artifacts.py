"""What is measured: exported versions, found or made, and the torch modules of the same checkpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from artifact.repository import ONNX, read_manifest
from artifact.spec import Spec
from bench.gpu.figures import Subject
from bench.gpu.report import Unavailable, first_line


@dataclass(frozen=True)
class Version:
    """An exported version and what it says of itself."""

    folder: Path
    spec: Spec

    @property
    def graph(self) -> Path:
        return self.folder / ONNX


@dataclass(frozen=True)
class Artifacts:
    """Versions in the repositories given, else in the work folder, else exported into it."""

    work: Path
    repositories: Sequence[Path]
    checkpoints: Mapping[str, Path]
    cache: Path | None
    may_export: bool = True

    def version(self, model: str, precision: str) -> Version:
        """The newest version of that precision, exported now where there is none.

        Raises:
            Unavailable: there is none and it cannot be exported here.
        """
        found = self._found(model, precision)
        if found is None and not self.may_export:
            raise Unavailable("no version of it was brought, and none is exported here (--no-export)")
        if found is None:
            self._export(model, precision)
            found = self._found(model, precision)
        if found is None:
            raise Unavailable("the export wrote no version of this precision")
        return found

    def _found(self, model: str, precision: str) -> Version | None:
        for root in (*self.repositories, self.work / precision):
            folders = [path for path in (root / model).glob("*") if path.name.isdigit()]
            for folder in sorted(folders, key=lambda path: int(path.name), reverse=True):
                spec = read_manifest(folder)
                if spec is not None and spec.precision == precision and spec.tensors == "uint8":
                    return Version(folder, spec)
        return None

    def _export(self, model: str, precision: str) -> None:
        print(f"exporting {model} {precision}", flush=True)
        try:
            # what export needs beside torch may be missing where only measuring was meant to be done
            from export.pipeline import Request, export

            checkpoint = self.checkpoints.get(model, model)
            export(Request(checkpoint, self.work / precision, model, precision=precision, cache_dir=self.cache))
        except Exception as error:  # no package, no network, no room: this model is not measured
            raise Unavailable(f"cannot be exported here: {first_line(error)}") from error


def subjects(model: str, spec: Spec, tiles_px: Sequence[int]) -> list[Subject]:
    """The model at each size that it is measured at."""
    return [Subject(model)] if spec.task.draws else [Subject(model, side_px) for side_px in tiles_px]
