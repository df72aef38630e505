"""A model that a client hands over with its load request: a config, and files in place of the model's folder."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.repository import is_inside
from server.errors import InvalidRequest, NotServing, Overloaded
from server.repository.model_config import leave_size

MAX_CONFIG = 1 << 20
# Below the model's folder: version, a graph's folder, a folder of its weights, a file.
MAX_DEPTH = 4
MAX_FILES = 1000
# What a model counts at least: an engine takes memory however small its file is.
LEAST_BYTES = 1 << 20


@dataclass(frozen=True)
class Override:
    """`config` is in place of config.pbtxt, for one load; `files`, by path, of all that the model's folder has."""

    config: ModelConfig
    files: Mapping[str, bytes]

    @property
    def nbytes(self) -> int:
        """What it counts of `max_override_bytes`: nothing if the files are the repository's."""
        return max(LEAST_BYTES, sum(map(len, self.files.values()))) if self.files else 0

    def store(self, name: str) -> Path:
        """Writes the files into a folder that only this user reads, and nobody but the caller removes. Blocks.

        Returns:
            The model's folder in it.

        Raises:
            NotServing: they cannot be written; nothing is left of them.
        """
        private = Path(tempfile.mkdtemp(prefix="ganserve-model-"))
        try:
            for path, data in self.files.items():
                file = private / name / path
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("xb") as target:
                    target.write(data)
        except OSError as error:
            shutil.rmtree(private, ignore_errors=True)
            raise NotServing(f"the files of {name!r} cannot be written: {error.strerror}") from None
        return private / name


def read_override(name: str, config: str | None, files: Mapping[str, bytes]) -> Override | None:
    """What a load request for the model hands over; None: it is a plain one.

    `config`: JSON. `files`: by path as from the model's folder. Blocks; on any thread.

    Raises:
        InvalidRequest: the config cannot be parsed, is missing beside files, or a path leads elsewhere.
    """
    if config is None and not files:
        return None
    if config is None:
        raise InvalidRequest(
            f"failed to load {name!r}, failed to poll from model repository: files need the parameter 'config' beside "
            "them, since nothing of the model's folder is read"
        )
    if len(config) > MAX_CONFIG:
        raise InvalidRequest(f"load parameter 'config' has {len(config)} characters; at most {MAX_CONFIG}")
    try:
        fields = json.loads(config)
        if not isinstance(fields, dict):
            raise ValueError("it is not an object")
        parsed = json_format.Parse(config, ModelConfig())
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"Invalid config override: {' '.join(str(error).split())[:300]}") from None
    leave_size(parsed, is_stated=not {"max_batch_size", "maxBatchSize"}.isdisjoint(fields))
    _check(name, files)
    return Override(parsed, files)


def _check(name: str, files: Mapping[str, bytes]) -> None:
    if files and (not name.isprintable() or "/" in name or name.startswith(".") or not name):
        raise InvalidRequest(f"{name!r} cannot be the name of a model")
    if len(files) > MAX_FILES:
        raise InvalidRequest(f"{len(files)} files; at most {MAX_FILES}")
    for path in files:
        what = f"load parameter 'file:{path[:200]}'"
        parts = path.split("/")
        if not (is_inside(path) and path.isprintable()) or len(parts) > MAX_DEPTH or parts[0].startswith("."):
            raise InvalidRequest(
                f"{what}: must be a path in the model's folder of at most {MAX_DEPTH} names, as in file:1/model.onnx"
            )
        if path.endswith(".plan"):
            raise InvalidRequest(f"{what}: a TensorRT engine is native code, and is taken from the repository only")
        if any("/".join(parts[:end]) in files for end in range(1, len(parts))):
            raise InvalidRequest(f"{what}: lies below another file")


class OverrideBudget:
    """Bytes of what clients handed over: of requests that wait or load, and of models that serve. Loop thread only."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._loading = 0
        self._served: dict[str, int] = {}

    def take(self, nbytes: int) -> None:
        """Counts a request until `give_back`.

        Raises:
            Overloaded: it would be too many.
        """
        held = self._loading + sum(self._served.values())
        if nbytes and held + nbytes > self._limit:
            raise Overloaded(
                f"{nbytes} bytes of files, {held} held by models that were handed over, limit {self._limit} "
                "(max_override_bytes)"
            )
        self._loading += nbytes

    def give_back(self, nbytes: int) -> None:
        """The request has ended."""
        self._loading -= nbytes

    def serves(self, name: str, nbytes: int, keeps_old: bool = False) -> None:
        """The model serves what counts so many bytes; 0: nothing that was handed over. `keeps_old`: and what it served
        before."""
        before = self._served.pop(name, 0)
        nbytes += before if keeps_old else 0
        if nbytes:
            self._served[name] = nbytes
