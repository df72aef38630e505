"""One version of a model as it is on disk."""

from dataclasses import dataclass
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.repository import sha256_of
from artifact.spec import Spec
from server.repository.model_config import AUTO_MAX_BATCH_SIZE, AUTO_SIZE


@dataclass(frozen=True)
class ModelVersion:
    """What a version's engines are opened from. `config`, `spec`: None if there is no config.pbtxt, no manifest."""

    name: str
    version: int
    folder: Path
    config: ModelConfig | None
    spec: Spec | None

    @property
    def leaves_size(self) -> bool:
        """Whether only the graph can say if there is a batch axis."""
        return self.config is None or self.config.max_batch_size == AUTO_SIZE

    @property
    def max_batch_size(self) -> int:
        """The config's; without one, what Triton assumes of a model with a batch axis."""
        return AUTO_MAX_BATCH_SIZE if self.config is None or self.leaves_size else int(self.config.max_batch_size)

    def sha256(self, file_name: str) -> str:
        """Of one of its files: the manifest's, else computed."""
        known = {} if self.spec is None else self.spec.files
        return known.get(file_name) or sha256_of(self.folder / file_name)
