"""Shared memory: tensors of callers on the same machine, who name a place in memory instead of sending bytes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from server.api.infer_answer import Raw
from server.api.regions import CudaRegion, Region, SystemRegion
from server.errors import InvalidRequest, RegionExists, RegionNotFound, Unsupported

REGION = "shared_memory_region"
OFFSET = "shared_memory_offset"
BYTE_SIZE = "shared_memory_byte_size"
FOLDER = Path("/dev/shm")
# Each holds a file descriptor, or a stream of a GPU.
MAX_REGIONS = 256
_KEY = re.compile(r"/?(?!\.{1,2}$)[^/\0]{1,250}")

Kind = TypeVar("Kind", SystemRegion, CudaRegion)


@dataclass(frozen=True)
class Place:
    """Where in a region a tensor is. `what`: the tensor, for errors."""

    what: str
    region: Region
    offset: int
    byte_size: int

    def read(self) -> bytes:
        """Its bytes. Any thread.

        Raises:
            InvalidRequest: they cannot be read any more.
        """
        try:
            return self.region.read(self.offset, self.byte_size)
        except InvalidRequest as error:
            raise InvalidRequest(f"{self.what}: {error}") from None

    def write(self, data: Raw) -> None:
        """Writes an output to its beginning. Any thread.

        Raises:
            InvalidRequest: the place is too small, or cannot be written any more.
        """
        if len(data) > self.byte_size:
            raise InvalidRequest(
                f"shared memory size specified with the request for {self.what} ({self.byte_size} bytes) should be at "
                f"least {len(data)} bytes to hold the results"
            )
        try:
            self.region.write(self.offset, data)
        except InvalidRequest as error:
            raise InvalidRequest(f"{self.what}: {error}") from None


class SharedMemory:
    """The regions that callers have registered; system and CUDA regions share their names. Loop thread only."""

    def __init__(self, is_allowed: bool, folder: Path = FOLDER) -> None:
        """`is_allowed`: the setting `shared_memory`."""
        self._is_allowed = is_allowed
        self._folder = folder
        self._regions: dict[str, Region] = {}

    def status(self, kind: type[Kind], name: str) -> list[Kind]:
        """The region of that kind and name, all of the kind without a name.

        Raises:
            RegionNotFound: there is none.
        """
        if not name:
            return [region for region in self._regions.values() if isinstance(region, kind)]
        found = self._find(name)
        if not isinstance(found, kind):
            raise _not_found(name)
        return [found]

    def register_system(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Opens a range of the segment that the caller made by `shm_open(key)`.

        Raises:
            Unsupported: shared memory is off.
            RegionExists: the name is taken.
            InvalidRequest: no such segment, or it is shorter.
        """
        self.check_new(name)
        if not _KEY.fullmatch(key):
            raise InvalidRequest(f"shared memory region {name!r}: key {key!r} is no name of a segment")
        self.add(SystemRegion(name, self._folder, key, offset, byte_size))

    def check_new(self, name: str) -> None:
        """Before a region is opened.

        Raises:
            Unsupported: shared memory is off.
            RegionExists: the name is taken.
            InvalidRequest: no name, or there are too many regions.
        """
        self._check_allowed()
        if not name:
            raise InvalidRequest("shared memory region: the name must not be empty")
        if name in self._regions:
            raise RegionExists(f"shared memory region {name!r} already in manager; unregister it first")
        if len(self._regions) >= MAX_REGIONS:
            raise InvalidRequest(
                f"{len(self._regions)} shared memory regions are registered, the limit; unregister some"
            )

    def add(self, region: Region) -> None:
        """Registers an open region.

        Raises:
            RequestError: see `check_new`; others may have come while it was opened.
        """
        self.check_new(region.name)
        self._regions[region.name] = region

    def unregister(self, kind: type[Kind], name: str) -> None:
        """Forgets the region of that kind and name, all of the kind without a name. A name that is not registered is no
        error, as in Triton.

        Raises:
            Unsupported: shared memory is off.
        """
        self._check_allowed()
        for region in list(self._regions.values()):
            if isinstance(region, kind) and name in ("", region.name):
                del self._regions[region.name]

    def place(self, what: str, parameters: Mapping[str, Any]) -> Place | None:
        """Where a tensor is, by its parameters; None: not in shared memory.

        Raises:
            Unsupported: shared memory is off.
            RegionNotFound: no such region.
            InvalidRequest: not all parameters are there, or the place is not inside the region.
        """
        if REGION not in parameters:
            for key in (OFFSET, BYTE_SIZE):
                if key in parameters:
                    raise InvalidRequest(f"{what}: {key!r} is given without {REGION!r}")
            return None
        self._check_allowed()
        region = self._find(parameters[REGION].string_param)
        if BYTE_SIZE not in parameters:
            raise InvalidRequest(f"{what}: {REGION!r} needs {BYTE_SIZE!r}")
        byte_size = parameters[BYTE_SIZE].int64_param
        offset = parameters[OFFSET].int64_param if OFFSET in parameters else 0
        if offset < 0 or byte_size < 0 or offset + byte_size > region.byte_size:
            raise InvalidRequest(
                f"{what}: invalid offset {offset} + byte size {byte_size} for shared memory region {region.name!r} of "
                f"{region.byte_size} bytes"
            )
        return Place(what, region, offset, byte_size)

    def _find(self, name: str) -> Region:
        region = self._regions.get(name)
        if region is None:
            raise _not_found(name)
        return region

    def _check_allowed(self) -> None:
        if not self._is_allowed:
            raise Unsupported("shared memory is off: GANSERVE_SHARED_MEMORY is false; send raw_input_contents")


def _not_found(name: str) -> RegionNotFound:
    return RegionNotFound(f"unable to find shared memory region: {name!r}")
