"""The C library's allocator, told to give memory back: a server at rest holds what it needs, not what it once held.

glibc raises the size from which an allocation has pages of its own, up to 32 MiB, whenever one that had them is freed.
So after one large image its buffers come from the threads' arenas, which keep what is freed in the middle of them.
"""

import ctypes
import logging
from collections.abc import Callable
from typing import Any

# From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# From this size on an allocation is pages of its own, which go back when it is freed. What is free at the end of an
# arena goes back if it is as much. Smaller: more page faults. Larger: more memory stays.
THRESHOLD_BYTES = 1 << 20

log = logging.getLogger(__name__)


def configure() -> None:
    """Fixes both thresholds for this process, whatever MALLOC_... variables say. Without effect if the C library is not
    glibc."""
    mallopt = _find("mallopt")
    if mallopt is not None:
        for threshold in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            mallopt(threshold, THRESHOLD_BYTES)


def trim() -> None:
    """Gives back the pages that are free in the middle of arenas. Takes milliseconds, in which threads may wait to
    allocate."""
    malloc_trim = _find("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _find(name: str) -> Callable[..., Any] | None:
    """A function of the C library, None if it is another one than glibc."""
    try:
        found: Callable[..., Any] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        log.debug("memory that is freed may stay", extra={"fields": {"reason": f"the C library has no {name}"}})
        return None
    return found
