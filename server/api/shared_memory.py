"""System shared memory: tensors of callers on the same machine, who name a place in memory instead of sending bytes.

Regions are read and written through their file descriptors, never mapped: a caller who cuts its file short would end
the process with SIGBUS.
"""

import os
import re
import stat
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.errors import InvalidRequest, RegionExists, RegionNotFound, Unsupported

REGION = "shared_memory_region"
OFFSET = "shared_memory_offset"
BYTE_SIZE = "shared_memory_byte_size"
FOLDER = Path("/dev/shm")
# Each holds a file descriptor.
MAX_REGIONS = 256
_KEY = re.compile(r"/?(?!\.{1,2}$)[^/\0]{1,250}")


@dataclass(frozen=True)
class Region:
    """A range of a segment that a caller registered. Its descriptor is closed once nobody, no running request either,
    has the region any more."""

    name: str
    key: str
    offset: int
    byte_size: int
    descriptor: int


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
            InvalidRequest: the segment has become shorter than was registered.
        """
        try:
            data = os.pread(self.region.descriptor, self.byte_size, self.region.offset + self.offset)
        except OSError as error:
            raise self._failed(error) from None
        if len(data) < self.byte_size:
            raise InvalidRequest(f"{self.what}: shared memory region {self.region.name!r} has become shorter")
        return data

    def write(self, data: bytes) -> None:
        """Writes an output to its beginning. Any thread.

        Raises:
            InvalidRequest: the place is too small.
        """
        if len(data) > self.byte_size:
            raise InvalidRequest(
                f"shared memory size specified with the request for {self.what} ({self.byte_size} bytes) should be at "
                f"least {len(data)} bytes to hold the results"
            )
        view = memoryview(data)
        try:
            while view:
                at = self.region.offset + self.offset + len(data) - len(view)
                view = view[os.pwrite(self.region.descriptor, view, at) :]
        except OSError as error:  # no space is left for a segment with holes
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> InvalidRequest:
        return InvalidRequest(f"{self.what}: shared memory region {self.region.name!r}: {error.strerror}")


class SystemSharedMemory:
    """The regions that callers have registered. Loop thread only."""

    def __init__(self, is_allowed: bool, folder: Path = FOLDER) -> None:
        """`is_allowed`: the setting `shared_memory`."""
        self._is_allowed = is_allowed
        self._folder = folder
        self._regions: dict[str, Region] = {}

    def status(self, name: str) -> list[Region]:
        """The region of that name, all without a name.

        Raises:
            RegionNotFound: there is none.
        """
        if not name:
            return list(self._regions.values())
        return [self._find(name)]

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Opens a range of the segment that the caller made by `shm_open(key)`.

        Raises:
            Unsupported: shared memory is off, or this system has no /dev/shm.
            RegionExists: the name is taken.
            InvalidRequest: no such segment, or it is shorter.
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
        if not _KEY.fullmatch(key):
            raise InvalidRequest(f"shared memory region {name!r}: key {key!r} is no name of a segment")
        if not byte_size:
            raise InvalidRequest(f"shared memory region {name!r}: byte_size must be at least 1")
        try:
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(self._folder / key.removeprefix("/"), flags)
        except OSError as error:
            raise InvalidRequest(f"unable to open shared memory region {name!r}: {error.strerror}, {key!r}") from None
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or offset + byte_size > found.st_size:
            os.close(descriptor)
            raise InvalidRequest(
                f"failed to register shared memory region {name!r}: {key!r} has {found.st_size} bytes, offset {offset} "
                f"and byte_size {byte_size} need {offset + byte_size}"
            )
        self._regions[name] = region = Region(name, key, offset, byte_size, descriptor)
        weakref.finalize(region, os.close, descriptor)

    def unregister(self, name: str) -> None:
        """Forgets the region of that name, all without a name. A name that is not registered is no error, as in Triton.

        Raises:
            Unsupported: shared memory is off.
        """
        self._check_allowed()
        if name:
            self._regions.pop(name, None)
        else:
            self._regions.clear()

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
            raise RegionNotFound(f"unable to find shared memory region: {name!r}")
        return region

    def _check_allowed(self) -> None:
        if not self._is_allowed:
            raise Unsupported("shared memory is off: GANSERVE_SHARED_MEMORY is false; send raw_input_contents")
