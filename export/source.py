"""The checkpoint to export, a file, a folder or a zoo entry: fetched, read and built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from artifact.spec import Provenance, Scalar
from export.errors import ExportError
from models.architecture import ArchitectureError, Generator
from models.catalogue import assumed, build, require_architecture
from models.checkpoints.folders import read_at
from models.checkpoints.formats import loading_call
from models.checkpoints.read import Checkpoint, CheckpointError
from models.zoo import fetch
from models.zoo.entries import ENTRIES


@dataclass(frozen=True)
class Source:
    """A built generator and where it came from; `labels` are the zoo entry's, empty otherwise.

    `path`: the file or folder that was read. `assumed`: what no tensor and no file says of the network, by the name of
    the setting that changes it.
    """

    architecture: str
    generator: Generator
    checkpoint: Checkpoint
    provenance: Provenance
    path: Path
    labels: tuple[str, ...] = ()
    assumed: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided while reading, and what was assumed, with the way to change it."""
        found = (*self.checkpoint.notes, *self.generator.notes)
        if not self.assumed:
            return found
        listed = ", ".join(f"{key}={value}" for key, value in self.assumed.items())
        return (
            *found,
            f"assumed, since the file does not say it: {listed}; --set KEY=VALUE changes it",
        )


def open_source(
    checkpoint: Path | str,
    arch: str,
    overrides: Mapping[str, str],
    cache_dir: Path | None,
    progress: Callable[[str], None],
    key: str | None = None,
) -> Source:
    """The generator in a checkpoint file or folder, or that of a zoo entry, which is fetched first if needed.

    A name of the zoo means the zoo unless a file of that name exists. `key` says which of several networks in a file.

    Raises:
        ExportError: it cannot be fetched, read or built.
    """
    try:
        require_architecture(arch)
    except ArchitectureError as error:
        raise ExportError(str(error)) from None
    entry = None if Path(checkpoint).exists() else ENTRIES.get(str(checkpoint))
    try:
        path = fetch.pull(entry.name, cache_dir, progress) if entry else Path(checkpoint)
        if entry is None and not path.exists():
            raise ExportError(f"{checkpoint}: no such file, and no zoo entry; the zoo has {', '.join(ENTRIES)}")
        found = read_at(path, arch, key)
        settings = {**entry.settings, **overrides} if entry else overrides
        architecture, generator = build(found.state, arch, settings, found.config)
    except fetch.ZooError as error:
        raise ExportError(str(error)) from None
    except CheckpointError as error:
        raise ExportError(f"{error}{_own_process(path, str(error))}") from None
    except ArchitectureError as error:
        raise ExportError(f"{Path(checkpoint).name}: {error}{_own_process(path, str(error))}") from None
    if entry:
        provenance = Provenance(f"zoo {entry.name}: {entry.source}", entry.licence, found.sha256)
        return Source(architecture, generator, found, provenance, path, entry.labels)
    provenance = Provenance(path.name, "not stated in the file", found.sha256)
    unsaid = assumed(architecture, generator, overrides, found.config)
    source = Source(architecture, generator, found, provenance, path, assumed=unsaid)
    return replace(source, provenance=replace(provenance, notes=source.notes))


def _own_process(path: Path, error: str) -> str:
    """The call that exports a network in the user's process, where its code may run; empty if that is not the way."""
    network = loading_call(path) or ("netG" if error.startswith("no known generator") else "")
    if not network:
        return ""
    arguments = 'latent_size=..., range=(-1, 1), repository="...", name="..."'
    return f"; a network of your own is exported in your process: ganserve.export_module({network}, {arguments})"
