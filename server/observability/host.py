"""CPU and memory of the machine, from /proc; zeros if there is none."""

from pathlib import Path


class Host:
    """Reads /proc at each call; about 0.1 ms."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._stat = proc / "stat"
        self._meminfo = proc / "meminfo"
        self._last_busy, self._last_total = self._ticks()

    def cpu_utilization(self) -> float:
        """Share of all cores in use since the last call, 0..1."""
        busy, total = self._ticks()
        passed = total - self._last_total
        share = (busy - self._last_busy) / passed if passed > 0 else 0.0
        self._last_busy, self._last_total = busy, total
        return round(min(max(share, 0.0), 1.0), 4)

    def memory_bytes(self) -> tuple[int, int]:
        """(total, used); used leaves out what the kernel would give back at once."""
        kib = {name: int(rest.split()[0]) for name, _, rest in _fields(self._meminfo, ":")}
        total = kib.get("MemTotal", 0)
        return total << 10, (total - kib.get("MemAvailable", total)) << 10

    def _ticks(self) -> tuple[int, int]:
        for name, _, rest in _fields(self._stat, " "):
            if name == "cpu":
                # user nice system idle iowait irq softirq steal; guest times are already inside user and nice
                ticks = [int(field) for field in rest.split()[:8]]
                return sum(ticks) - sum(ticks[3:5]), sum(ticks)
        return 0, 0


def _fields(path: Path, separator: str) -> list[tuple[str, str, str]]:
    try:
        return [line.partition(separator) for line in path.read_text().splitlines()]
    except OSError:
        return []
