"""Whether the server and each model are ready, and whether the process may go on; tells the health service."""

from server.api import kserve
from server.api.health import Health
from server.api.services import IMAGES
from server.batching.hang import Hangs
from server.images.workers import Workers
from server.repository.repository import Repository


class Readiness:
    """Asked at each probe and scrape; `update` is called when anything below it has changed. Loop thread only.

    `serving`: requests may come: no stop was asked for and, if strict, every model was tried.
    """

    def __init__(self, repository: Repository, hangs: Hangs, workers: Workers, health: Health, *, strict: bool) -> None:
        self._repository = repository
        self._hangs = hangs
        self._workers = workers
        self._health = health
        self._strict = strict
        self.serving = False

    def is_ready(self) -> bool:
        """Whether requests may come."""
        return self.readiness()[0]

    def readiness(self) -> tuple[bool, str]:
        """Whether requests may come, and one line for each model: its state, and why if it is not READY."""
        lines = [
            f"{entry.name} {entry.version or '-'} {entry.state}" + (f": {entry.said}" if entry.said else "")
            for entry in self._repository.index()
        ]
        if self._repository.problem:
            lines.append(self._repository.problem)
        lines += self._hanging()
        good = self.serving and self._repository.is_ready(self._strict) and not self._hanging()
        return good, "\n".join(["ready" if good else "not ready", *lines])

    def liveness(self) -> tuple[bool, str]:
        """Whether the process may go on: a run that hangs for good takes a thread that only a restart frees."""
        alive = not (self._hangs.is_dead or self._workers.is_failing)
        return alive, "\n".join(self._hanging()) or "OK"

    def update(self) -> None:
        """Tells the health service."""
        ready = self.is_ready()
        self._health.set("", ready)
        for service in (kserve.SERVICE, IMAGES.full_name):
            self._health.set(service, ready)
        served = {model.name for model in self._repository.ready()}  # while a model is read again, the old one
        for name in {entry.name for entry in self._repository.index()}:
            self._health.set(name, self.serving and name in served)

    def _hanging(self) -> list[str]:
        decoders = ["the threads that decode and encode images hang"] if self._workers.is_failing else []
        return [*self._hangs.texts, *decoders]
