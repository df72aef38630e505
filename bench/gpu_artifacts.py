"""What is measured: exported versions, found or made, and the torch modules of the same checkpoints."""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from bench.gpu_report import Subject, first_line
from models.artifact import PLAN, read_manifest
from models.spec import Spec

PROFILES = {"draws": ("1,64,256",), "pictures": ("1,16,256:64x64,64x64,256x256",)}


@dataclass(frozen=True)
class Version:
    """An exported version and what it says of itself."""

    folder: Path
    spec: Spec

    @property
    def plan(self) -> Path | None:
        """The TensorRT engine beside the graph."""
        path = self.folder / PLAN
        return path if self.spec.plan is not None and path.is_file() else None


class Unavailable(Exception):
    """Something that cannot be had on this machine; the text is the reason in one line."""


@dataclass(frozen=True)
class Artifacts:
    """Versions in the repositories given, else in the work folder, else exported into it."""

    work: Path
    repositories: Sequence[Path]
    checkpoints: Mapping[str, Path]
    cache: Path | None
    tensorrt: str | None

    def version(self, model: str, precision: str) -> Version:
        """The newest version of that precision, exported now where there is none.

        Raises:
            Unavailable: there is none and it cannot be exported here.
        """
        found = self._found(model, precision)
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
        """With an engine beside the graph where one was asked for and can be built, else the graph alone."""
        print(f"exporting {model} {precision}", flush=True)
        try:
            # what export needs beside torch may be missing where only measuring was meant to be done
            from export.exporting import Request, export

            draws = self._source(model).draws
            request = Request(
                self.checkpoints.get(model, model), self.work / precision, model, precision=precision,
                cache_dir=self.cache, tensorrt=self.tensorrt,
                profiles=PROFILES["draws" if draws else "pictures"] if self.tensorrt else (),
            )  # fmt: skip
            try:
                export(request)
            except Exception as error:
                if self.tensorrt is None:
                    raise
                print(f"no engine for {model} {precision}: {first_line(error)}", flush=True)
                export(dataclasses.replace(request, tensorrt=None, profiles=()))
        except Exception as error:
            raise Unavailable(f"cannot be exported here: {first_line(error)}") from error

    def _source(self, model: str) -> "Torch":
        return torch_model(self.checkpoints.get(model, model), self.cache)


@dataclass(frozen=True)
class Torch:
    """A generator's module in float32 on the CPU, with pixels inside; `half` is the same with its network in fp16."""

    draws: bool
    module: nn.Module
    half: nn.Module


class HalfNetwork(nn.Module):
    """A network in float16 between float32 tensors; what is not floating point passes as it is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).half()

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) float32, as the network gives."""
        given = (tensor.half() if tensor.is_floating_point() else tensor for tensor in inputs)
        picture: torch.Tensor = self.network(*given)
        return picture.float()


def torch_model(checkpoint: Path | str, cache: Path | None) -> Torch:
    """The generator of a checkpoint or zoo entry.

    Raises:
        Unavailable: it cannot be fetched, read or built here.
    """
    try:
        from export.source import open_source
        from export.wrapping import wrap

        generator = open_source(checkpoint, "auto", {}, cache, lambda line: None).generator
    except Exception as error:
        raise Unavailable(f"no checkpoint: {first_line(error)}") from error
    half = dataclasses.replace(generator, network=HalfNetwork(generator.network))
    return Torch(generator.task.draws, wrap(generator, "uint8"), wrap(half, "uint8"))


def subjects(model: str, spec: Spec, tiles_px: Sequence[int]) -> list[Subject]:
    """The model at each size that it is measured at."""
    return [Subject(model)] if spec.task.draws else [Subject(model, side_px) for side_px in tiles_px]
