"""A version's files: read and verified, and what they are if they are not what they should be."""

from collections.abc import Iterator
from pathlib import Path

from artifact.formats import other_format
from artifact.repository import IS_EMPTY, ArtifactError, placeholder, read_manifest, verify
from artifact.spec import Spec
from server.repository.engine_choice import file_names
from server.repository.model_version import ModelVersion

# Files that may well be markup, as OpenVINO's .xml: no sign of a download that failed.
DOCUMENTS = (".html", ".htm", ".xml", ".svg", ".md", ".txt")


def read_verified(folder: Path) -> Spec | None:
    """The version's spec, its files verified.

    Raises:
        ArtifactError: a file is not what it should be.
        SpecError: the manifest cannot be read.
        OSError: a file cannot be read.
    """
    for name, what in _placeholders(folder):
        if what != IS_EMPTY:
            raise ArtifactError(f"{name} {what}")
    spec = read_manifest(folder)
    if spec is not None:
        verify(folder, spec)
    return spec


def why_not_opened(version: ModelVersion) -> list[str]:
    """What may be why a graph cannot be opened: files are empty, or it is no graph."""
    try:
        found = [f"{name} {what}" for name, what in _placeholders(version.folder) if what == IS_EMPTY]
        graph, _ = file_names(version)
        if not found and (version.folder / graph).is_file() and (what := other_format(version.folder / graph)):
            found.append(f"{graph} {what}")
        return found
    except OSError:
        return []


def _placeholders(folder: Path) -> Iterator[tuple[str, str]]:
    """Which files of a version stand in for others, and what they are. Pages are looked for only where no page should
    be."""
    for path in sorted((*folder.glob("*"), *folder.glob("*/*"))):  # a graph may be in a folder with its weights
        if path.suffix not in DOCUMENTS and path.is_file() and (what := placeholder(path)):
            yield path.relative_to(folder).as_posix(), what
