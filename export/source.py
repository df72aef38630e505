"""The checkpoint to export, a file, a folder or a zoo entry: fetched, read and built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from artifact.spec import Provenance
from export.errors import ExportError
from models.architecture import ArchitectureError, Generator
from models.catalogue import build
from models.checkpoints.folders import read_at
from models.checkpoints.read import Checkpoint, CheckpointError
from models.zoo import fetch
from models.zoo.entries import ENTRIES


@dataclass(frozen=True)
class Source:
    """A built generator and where it came from; `labels` are the zoo entry's, empty otherwise."""

    architecture: str
    generator: Generator
    checkpoint: Checkpoint
    provenance: Provenance
    labels: tuple[str, ...] = ()


def open_source(
    checkpoint: Path | str,
    arch: str,
    overrides: Mapping[str, str],
    cache_dir: Path | None,
    progress: Callable[[str], None],
) -> Source:
    """The generator in a checkpoint file or folder, or that of a zoo entry, which is fetched first if needed.

    A name of the zoo means the zoo unless a file of that name exists.

    Raises:
        ExportError: it cannot be fetched, read or built.
    """
    entry = None if Path(checkpoint).exists() else ENTRIES.get(str(checkpoint))
    try:
        path = fetch.pull(entry.name, cache_dir, progress) if entry else Path(checkpoint)
        if entry is None and not path.exists():
            raise ExportError(f"{checkpoint}: no such file, and no zoo entry; the zoo has {', '.join(ENTRIES)}")
        found = read_at(path)
        architecture, generator = build(found.state, arch, overrides, found.config)
    except (fetch.ZooError, CheckpointError) as error:
        raise ExportError(str(error)) from None
    except ArchitectureError as error:
        raise ExportError(f"{Path(checkpoint).name}: {error}") from None
    if entry:
        provenance = Provenance(f"zoo {entry.name}: {entry.source}", entry.licence, found.sha256)
        return Source(architecture, generator, found, provenance, entry.labels)
    return Source(architecture, generator, found, Provenance(path.name, "not stated in the file", found.sha256))
