"""What a process holds, by /proc."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Held:
    """Memory, open descriptors and threads of a process."""

    rss_bytes: int
    descriptors: int
    threads: int

    @staticmethod
    def by(pid: int) -> "Held":
        """Now.

        Raises:
            OSError: there is no such process any more.
        """
        folder = Path("/proc") / str(pid)
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        descriptors = sum(1 for _ in (folder / "fd").iterdir())
        return Held(int(status["VmRSS"].split()[0]) << 10, descriptors, int(status["Threads"]))
