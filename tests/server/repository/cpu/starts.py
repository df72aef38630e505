"""Starts of servers that share an engine cache, each in a process of its own, which a candidate may end."""

import logging
import multiprocessing
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.environment import read_settings
from server.observability import logs
from server.repository.cpu.choice import CpuChooser
from server.repository.cpu.contest import Candidate
from tests.server.repository.cpu.graphs import Candidates, Outputs, version_of

LIMIT_S = 60
# All are forked from one process that has imported this module.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


@dataclass
class Started:
    """How a process ended (see Process.exitcode), the engine that it chose ("" if it did not get there), its log."""

    status: int | None
    engine: str
    log: str


def start(folder: Path, ends: str = "") -> Started:
    """Opens the graph `folder`/m/1 with a reference and with candidates, one of which may end the process.

    `ends`: "compared" or "measured", while "crashing" is; "opened", when the one that is chosen is opened again.
    """
    told = [folder / "engine", folder / "log"]
    for path in told:
        path.write_text("")
    process = PROCESSES.Process(target=_open, args=(folder, ends, *told))
    process.start()
    process.join(LIMIT_S)
    return Started(process.exitcode, *(path.read_text() for path in told))


def _die(*_: object) -> Any:
    signal.raise_signal(signal.SIGSEGV)  # of this thread, which does not go on meanwhile


def _open(folder: Path, ends: str, engine: Path, log: Path) -> None:
    handler = logging.FileHandler(log)  # written at once, unlike the server's own, which has a thread for it
    handler.setFormatter(logs.JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    made = Candidates()
    reference, other = made.make("reference", delay_s=0.004), made.make("other")
    given = [reference, other]
    if ends == "opened":
        given[1] = Candidate(other.engine, other.precision, other.distribution, _die)
    elif ends:

        def die(outputs: Outputs, items: int, whole_device: bool) -> Outputs:
            return _die() if whole_device == (ends == "measured") else outputs

        given.insert(1, made.make("crashing", change=die))
    chooser = CpuChooser(read_settings(repository=folder, engine_cache=folder / "cache"), 2, 2, reference)
    engine.write_text(chooser.open(version_of(folder / "m" / "1"), "model.onnx", True, given)[1].engine)
