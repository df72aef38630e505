"""What a file says of a network in words and numbers beside its weights: `{"conf": {...}, "state_dict": ...}`."""

from collections.abc import Sequence
from pathlib import Path

from models.checkpoints.contents import entries
from models.checkpoints.pickle.machine import Part

MAX_LOOKED_AT = 5000  # values; what is beyond is left out: histories, not settings
MAX_DEPTH = 3
MAX_TEXT = 1000  # characters


def facts_beside(found: object, path: Sequence[str], file: Path) -> dict[str, object]:
    """`file.name`, and the plain values in the containers on the way to a network, each as `beside.<keys>`;
    of lists their length.

    Args:
        found: what the file holds.
        path: the keys that lead to the network's tensors.
        file: the file.
    """
    facts: dict[str, object] = {"file.name": file.name}
    looked_at = 0
    for part in path:
        following = None
        waiting: list[tuple[str, object, int]] = [("beside", found, 0)]
        for name, container, depth in waiting:
            for key, value in entries(container):
                if depth == 0 and str(key) == part:
                    following = value
                looked_at += 1
                if looked_at > MAX_LOOKED_AT:
                    continue
                full = f"{name}.{str(key)[:200]}"
                if isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) < MAX_TEXT):
                    facts[full] = value
                elif isinstance(value, list | tuple):
                    facts[f"{full}.length"] = len(value)
                elif isinstance(value, dict | Part) and depth < MAX_DEPTH:
                    waiting.append((full, value, depth + 1))
        found = following
    return facts
