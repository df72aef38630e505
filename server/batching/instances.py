"""A model's engines, one on each of its devices, and what its work costs there."""

from collections.abc import Callable, Mapping

from server.batching.batch import Batch
from server.batching.cost import Pace
from server.batching.device import Device
from server.engines.base import Engine

Shapes = Mapping[str, tuple[int, ...]]


class Instance:
    """One engine on one device, which is offered the model's work and comes for it when a lane is free.

    Loop thread only.
    """

    def __init__(self, device: Device, engine: Engine, instances: "Instances") -> None:
        self.device = device
        self.engine = engine
        self.pace = Pace(device.lanes)
        self._instances = instances

    @property
    def brief(self) -> bool:
        """Whether a row takes so little time that handing it between threads counts."""
        return self.pace.brief

    def take(self, slots: int, quiet: bool) -> Batch | None:
        """The next batch, None where nothing may leave now; see `Source`. Rows are left for the other devices that
        are free."""
        return self._instances.form(self, slots + self._instances.free_besides(self), quiet)

    def has_work(self) -> bool:
        """Whether there is more for a lane."""
        return self._instances.has_work()


class Instances:
    """All of a model's instances. What is offered is offered to each: the first that is free takes it, the others
    find nothing in their turn and drop it. `form` makes a batch for an instance, of the queue that all share.
    """

    def __init__(
        self,
        engines: Mapping[Device, Engine],
        form: Callable[[Instance, int, bool], Batch | None],
        has_work: Callable[[], bool],
    ) -> None:
        self.all = tuple(Instance(device, engine, self) for device, engine in engines.items())
        self.form = form
        self.has_work = has_work

    def offer(self) -> None:
        """Says on every device that there is work."""
        for instance in self.all:
            instance.device.offer(instance)

    def free_besides(self, taker: Instance) -> int:
        """Lanes without work on the other devices."""
        if len(self.all) == 1:
            return 0
        return sum(instance.device.free for instance in self.all if instance is not taker)

    def check(self, shapes: Shapes) -> None:
        """Refuses shapes that an engine does not take: it may be the one that gets the job.

        Raises:
            InvalidRequest: the text has what it takes.
        """
        for instance in self.all:
            instance.engine.check(shapes)

    def least_s(self, nbytes: int) -> float:
        """About how long so many bytes take at least, 0 where a device is yet to be measured."""
        first, *others = self.all
        least = first.pace.seconds(nbytes)
        for other in others:  # rather than min(): this runs twice for each row, nearly always of one instance
            least = min(least, other.pace.seconds(nbytes))
        return least

    def wait_s(self, waiting_bytes: int) -> float:
        """About how long what runs and what waits will take, 0 before anything was measured.

        Models on one device take turns: each other one that waits there stretches this queue.
        """
        rates = [
            1.0 / (instance.pace.second_per_byte * max(1, instance.device.sources))
            for instance in self.all
            if instance.pace.second_per_byte
        ]
        if not rates:
            return 0.0
        # A device that has not run the model yet is taken to be like those that have.
        bytes_per_s = sum(rates) / len(rates) * len(self.all)
        return (waiting_bytes + sum(instance.pace.running_bytes for instance in self.all)) / bytes_per_s
