"""What of a model is to be loaded: its folder, its config, and which of its versions."""

import logging
from pathlib import Path
from typing import NamedTuple

from tritonclient.grpc.model_config_pb2 import ModelConfig

from server.errors import GanserveError, NotServing
from server.repository.ensemble_config import is_ensemble
from server.repository.loader import unexpected
from server.repository.model_config import VersionChoice, check_config, choose_versions, read_config
from server.repository.scan import find, versions

log = logging.getLogger(__name__)


class ModelFolder(NamedTuple):
    """A model as it was read. `config`: None if it has none."""

    path: Path
    config: ModelConfig | None
    choice: VersionChoice


def read_model(
    root: Path,
    name: str,
    config_name: str | None = None,
    path: Path | None = None,
    config: ModelConfig | None = None,
) -> ModelFolder:
    """Reads the model's folder in the repository at `root`, or the one at `path`. Blocks; on any thread.

    `config_name`: see `read_config`. `config`: in place of the folder's.

    Raises:
        ModelNotFound: no such model.
        NotServing: nothing of it can be loaded.
    """
    try:
        path = find(root, name) if path is None else path
        if config is None:
            config = read_config(path, config_name)
        else:
            check_config(config, path)
        # An ensemble's version is an empty folder, which not every store keeps.
        present = versions(path) or ([1] if is_ensemble(config) else [])
        choice = choose_versions(config, present)
    except GanserveError:
        raise
    except Exception as error:
        raise unexpected(error) from error
    named = () if config is None else config.version_policy.specific.versions
    if missing := sorted(set(named) - set(choice.versions)):
        log.warning(
            "version_policy names versions that are not there", extra={"fields": {"model": name, "versions": missing}}
        )
    if not choice.versions:
        why = (
            f"version_policy names others than {present}"
            if present
            else "a version is a folder named by a number without leading zeros"
        )
        raise NotServing(f"no version of {name!r} to serve: {why}")
    return ModelFolder(path, config, choice)
