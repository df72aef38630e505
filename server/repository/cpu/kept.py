"""Which engine was chosen for a graph, kept in the engine cache, and which one a process tried when it ended.

<cache>/cpu/<key>.json                       the choice, and what it depends on
<cache>/cpu/<key>.<candidate>.<id>.trying    exists, and is locked, while a process tries that candidate

A `.trying` file that nobody has locked was left by a process that ended while it ran the candidate: by a crash of the
library, or because it was killed. Several processes may share a cache; each choice is written in one rename.
"""

import atexit
import contextlib
import fcntl
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

TRYING = ".trying"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """What serves a graph: `engine` and `precision` of the candidate, and `why`: one line, "" if nothing was compared.

    `note`: what is wrong with it, if it was requested all the same.
    """

    engine: str
    precision: str
    why: str = ""
    note: str = ""

    def __str__(self) -> str:
        name = f"{self.engine} {self.precision}".strip()
        return f"{name}: {self.why}" if self.why else name


UNKNOWN = Choice("", "")


class KeptChoices:
    """The choices in one folder, which is made when something is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def key_of(facts: Mapping[str, object]) -> str:
        """The name of a choice: if one of the facts differs, it is another one."""
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]

    def read(self, key: str) -> Choice | None:
        """The choice, None if there is none that can be read."""
        path = self.folder / f"{key}.json"
        try:
            found = json.loads(path.read_bytes())
            choice = Choice(**found["choice"])
            if not all(isinstance(value, str) for value in asdict(choice).values()):
                raise ValueError("a value is no text")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("kept choice of an engine not readable", extra={"fields": {"file": str(path), "reason": error}})
            return None
        return choice

    def write(self, key: str, facts: Mapping[str, object], choice: Choice) -> None:
        """Keeps a choice in one rename.

        Raises:
            OSError: it cannot be written; nothing is left of it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"choice": asdict(choice), "facts": facts}, indent=2)
        with tempfile.NamedTemporaryFile("w", dir=self.folder, prefix=".writing-", delete=False) as file:
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(self.folder / f"{key}.json")
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise

    def check_writable(self) -> None:
        """Checks that marks can be left.

        Raises:
            OSError: they cannot.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.folder):
            pass

    @contextlib.contextmanager
    def trying(self, key: str, candidate: str) -> Iterator[None]:
        """Marks the candidate as running; the mark stays if the process ends inside.

        Raises:
            OSError: the mark cannot be left.
        """
        with tempfile.NamedTemporaryFile("w", dir=self.folder, prefix=".writing-", delete=False) as file:
            path = Path(file.name)

            def remove() -> None:
                path.unlink(missing_ok=True)

            atexit.register(remove)  # an orderly end that comes while a thread is still here is no crash
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX)
                # Its name comes after its lock: nobody ever sees it without one while this process lives.
                marked = self.folder / f"{key}.{candidate}.{path.name.removeprefix('.writing-')}{TRYING}"
                path = path.rename(marked)
                yield
            finally:
                atexit.unregister(remove)
                remove()

    def crashed(self, key: str, candidate: str) -> Path | None:
        """The mark of a process that ended while it ran the candidate, None if there is none."""
        for path in sorted(self.folder.glob(f"{key}.{candidate}.*{TRYING}")):
            try:
                with path.open() as file:
                    fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:  # locked by a process that runs it now, or removed by it just now
                continue
            return path
        return None
