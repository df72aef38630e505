"""`model_repository_agents`: Triton's checksum agent, which compares files with hashes in config.pbtxt."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.repository import CONFIG, is_inside
from server.errors import NotServing

AGENT = "checksum"
# Triton's agent has MD5 only.
_HASHES: Mapping[str, Callable[[], Any]] = {
    "MD5": partial(hashlib.md5, usedforsecurity=False),
    "SHA256": hashlib.sha256,
}


def verify_checksums(config: ModelConfig, folder: Path) -> None:
    """Compares files of the model's folder with what the config says of them. Blocks; on any thread.

    A parameter's key is `MD5:<file>`, its path as from the model's folder; the value is the hash in hex.

    Raises:
        NotServing: another agent, another hash, or a file that is not what it should be.
    """
    for agent in config.model_repository_agents.agents:
        if agent.name != AGENT:
            raise NotServing(f"{CONFIG}: model_repository_agents: {agent.name!r} is not supported; {AGENT!r} is")
        for key, expected in sorted(agent.parameters.items()):
            kind, _, name = key.partition(":")
            if kind not in _HASHES or not is_inside(name):
                raise NotServing(
                    f"{CONFIG}: {AGENT}: {key!r} is not supported; {' and '.join(_HASHES)} of a file in the model's "
                    "folder are, as in MD5:1/model.onnx"
                )
            try:
                with (folder / name).open("rb") as file:
                    found = hashlib.file_digest(file, _HASHES[kind]).hexdigest()
            except OSError as error:
                raise NotServing(f"{CONFIG}: {AGENT}: {name} cannot be read: {error.strerror}") from None
            if found != expected.strip().lower():
                raise NotServing(f"{CONFIG}: {AGENT}: {name} has {kind} {found}, the config has {expected}")
