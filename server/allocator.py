"""The C library's allocator: buffers are used again while a server works, and given back once it rests.

An allocation with pages of its own is made of pages that the kernel clears and maps one by one, every time: for a reply
of 3 MB that took four times as long as all the rest of the call. So below THRESHOLD_BYTES buffers come from the arenas,
which keep what is freed; what they hold without need goes back when a model has no requests (`batching.idle`).
"""

import ctypes
import logging
from collections.abc import Callable
from typing import Any

# From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# From this size on, the largest that glibc takes, an allocation is pages of its own, which go back when it is freed.
# What is free at the end of an arena goes back if it is as much.
THRESHOLD_BYTES = 32 << 20

log = logging.getLogger(__name__)


def configure() -> None:
    """Fixes both thresholds for this process, whatever MALLOC_... variables say. Without effect if the C library is not
    glibc."""
    mallopt = _find("mallopt")
    if mallopt is not None:
        for threshold in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            mallopt(threshold, THRESHOLD_BYTES)
        mallopt(_M_ARENA_MAX, 1)


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
