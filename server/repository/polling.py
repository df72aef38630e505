"""What changed on disk since the last look at it, for `--model-control poll`."""

import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from server.repository.scan import scan

# Of the files of a model: path, modification, size, inode. A file that is replaced by a rename has another inode.
Files: TypeAlias = tuple[tuple[str, int, int, int], ...]
# Below a model's folder: version, a graph's folder, a folder of its weights.
_DEPTH = 3


class Found(NamedTuple):
    """What a look found: models that were added or changed, those that are gone, and why others cannot be read."""

    changed: Sequence[str]
    gone: Sequence[str]
    broken: Mapping[str, str]


class Changes:
    """Compares looks at the repository. Blocks; on any thread, one call at a time.

    What is new, changed or gone counts once it is the same at two looks: whoever copies files takes a while.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, Files] = {}  # as it counts
        self._seen: dict[str, Files] = {}  # at the last look

    def start(self) -> None:
        """Takes what is there as known.

        Raises:
            OSError: the repository cannot be read.
        """
        self._seen, _ = self._look()
        self._known = dict(self._seen)

    def find(self) -> Found:
        """What counts as changed since the last look.

        Raises:
            OSError: the repository cannot be read.
        """
        found, broken = self._look()
        changed = [name for name, files in found.items() if self._seen.get(name) == files != self._known.get(name)]
        gone = [name for name in self._known if name not in found and name not in self._seen]
        self._seen = found
        self._known |= {name: found[name] for name in changed}
        for name in gone:
            del self._known[name]
        return Found(changed, gone, broken)

    def _look(self) -> tuple[dict[str, Files], Mapping[str, str]]:
        """The files of each model; of one that cannot be read those of the last look."""
        entries = scan(self._root)
        found: dict[str, Files] = {}
        for name in (*entries.models, *entries.broken):
            try:
                found[name] = tuple(_walk(self._root / name, "", _DEPTH))
            except OSError:
                if name in self._seen:
                    found[name] = self._seen[name]
        return found, entries.broken


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, int, int, int]]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        try:
            status = path.stat()
        except FileNotFoundError:  # just removed, or a link that leads nowhere
            continue
        name = f"{prefix}{path.name}"
        if not stat.S_ISDIR(status.st_mode):
            yield name, status.st_mtime_ns, status.st_size, status.st_ino
        elif depth > 1:
            yield name, 0, 0, status.st_ino
            yield from _walk(path, f"{name}/", depth - 1)
