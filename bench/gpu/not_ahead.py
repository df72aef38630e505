"""`python -m bench.gpu.not_ahead serve ...`: the server, but no batch is formed ahead on a GPU (ADR 36), to compare."""

import sys

from ganserve.__main__ import main
from server.batching import batcher


def form_none_ahead() -> None:
    """From now on no model says that its next batch is full."""
    batcher._Slot.fills_batch = False  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    form_none_ahead()
    sys.exit(main())
