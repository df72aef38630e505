"""The devices of one server, each with its worker threads, made when the first model is placed there."""

import asyncio
from functools import partial

from server.batching.device import Device
from server.batching.hang import Hangs
from server.engines.base import CPU
from server.engines.gpu_state import lost
from server.observability.saturation import LaneTime
from server.repository.placement import Placement, default_device


class Devices:
    """One device for the CPU, and one of one lane for each (GPU, slot); every model shares them. Loop thread only.

    `gpus`: those that a model may run on. `failed` gets the exception of the first device that failed.
    """

    def __init__(self, gpus: tuple[int, ...], lanes: int, hangs: Hangs | None = None) -> None:
        """`lanes`: of the CPU."""
        self._hangs = hangs
        self.gpus = gpus
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lanes = lanes
        self._made: dict[Placement, Device] = {}

    @property
    def names(self) -> str:
        """Those in use, `cuda:0,cuda:1`; the default one while there are none."""
        used = {placement.device for placement in self._made} or {default_device(self.gpus)}
        return ",".join(str(device) for device in sorted(used, key=lambda device: (device.kind == "cpu", device.index)))

    def at(self, placement: Placement) -> Device:
        """The device of a placement."""
        device = self._made.get(placement)
        if device is None:
            is_cpu = placement.device.kind == "cpu"
            lanes, is_lost = (self._lanes, lambda: "") if is_cpu else (1, partial(lost, placement.device.index))
            device = Device(str(placement.device), lanes, self._hangs, is_cpu, is_lost)
            device.failed.add_done_callback(self._failed)
            self._made[placement] = device
        return device

    def cpu_busy_s(self) -> float:
        """Seconds that the CPU's lanes ran batches until now. Any thread."""
        device = self._made.get(Placement(CPU))
        return 0.0 if device is None else device.busy_s

    def lane_times(self) -> list[LaneTime]:
        """How busy the lanes of each device were until now."""
        return [LaneTime(str(at.device), at.slot, device.lanes, device.busy_s) for at, device in self._made.items()]

    def close(self) -> None:
        """Ends every thread after the work it holds."""
        for device in self._made.values():
            device.close()

    def _failed(self, failed: asyncio.Future[None]) -> None:
        error = None if failed.cancelled() else failed.exception()
        if error is not None and not self.failed.done():
            self.failed.set_exception(error)
