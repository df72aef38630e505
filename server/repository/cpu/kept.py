"""Which engine was chosen for a graph, kept in the engine cache, and which one a process tried when it ended.

<cache>/cpu/<key>.json                       the choice, and what it depends on
<cache>/cpu/<key>.<candidate>.<id>.trying    exists, and is locked, while a process tries that candidate

A `.trying` file that nobody has locked was left by a process that ended while it ran the candidate: by a crash of the
library, or because it was killed from outside. So one is a warning, and CRASHES of them are taken for the library's,
but for no longer than DAY_S. Several processes may share a cache; each choice is written in one rename.
"""

import atexit
import contextlib
import fcntl
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

TRYING = ".trying"
# Processes that ended while they ran a candidate, after which it is skipped.
CRASHES = 2
# What may have been a bad moment, a crash or a choice made in a hurry, counts for so long.
DAY_S = 24 * 3600.0

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
        """The choice, None if there is none that can be read or its day is over."""
        path = self.folder / f"{key}.json"
        try:
            found = json.loads(path.read_bytes())
            choice = Choice(**found["choice"])
            ends_at = found.get("ends_at")
            if ends_at is not None and not 0.0 < ends_at - time.time() <= DAY_S:
                return None
            if not all(isinstance(value, str) for value in asdict(choice).values()):
                raise ValueError("a value is no text")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("kept choice of an engine not readable", extra={"fields": {"file": str(path), "reason": error}})
            return None
        return choice

    def write(self, key: str, facts: Mapping[str, object], choice: Choice, is_lasting: bool = True) -> None:
        """Keeps a choice in one rename; for DAY_S only, if it is not lasting.

        Raises:
            OSError: it cannot be written; nothing is left of it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        ends_at = None if is_lasting else time.time() + DAY_S
        text = json.dumps({"choice": asdict(choice), "ends_at": ends_at, "facts": facts}, indent=2)
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

    def why_skipped(self, key: str, candidate: str) -> str:
        """Why the candidate is not to be run, "" if it may be: CRASHES processes ended while they ran it, or more."""
        marks = self._left_marks(f"{key}.{candidate}.")
        if not marks:
            return ""
        ended = f"{len(marks)} process{'es' if len(marks) > 1 else ''} ended while trying it"
        if len(marks) >= CRASHES:
            files = ", ".join(str(path) for path in marks)
            return f"{ended}: it is skipped for a day; delete {files} and {key}.json beside it to try it before"
        fields = {"engine": candidate, "reason": f"{ended}, by a crash or a kill; after {CRASHES} it is skipped"}
        log.warning("engine tried again", extra={"fields": fields})
        return ""

    def forget_crashes(self, key: str) -> None:
        """Removes the marks that processes left: every candidate has run to its end since."""
        for path in self._left_marks(f"{key}."):
            path.unlink(missing_ok=True)

    def _left_marks(self, prefix: str) -> list[Path]:
        """The marks of processes that ended while they ran a candidate, within DAY_S; older ones are removed."""
        found = []
        for path in sorted(self.folder.glob(f"{prefix}*{TRYING}")):
            with contextlib.suppress(OSError):  # locked by a process that runs it now, or removed by it just now
                with path.open() as file:
                    fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
                if time.time() - path.stat().st_mtime < DAY_S:
                    found.append(path)
                else:
                    path.unlink()
        return found
