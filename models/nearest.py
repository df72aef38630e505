"""Of weights that no architecture takes: which one is nearest, and what differs.

First a change that would make them fit is looked for: without some tensors, or with the statistics that a batch norm
lacks. Else the names decide: `key_patterns.txt` has those of every architecture's layouts, their numbers as `#`;
`python -m tests.models.test_nearest` writes it from the tests' cases.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import torch

from models.architecture import Architecture, StateDict

PATTERNS = Path(__file__).with_name("key_patterns.txt")
MAX_TENSORS = 3000
MAX_TRIALS = 100
LEAST_LIKE = 0.3  # of all names, those that both have


def nearest(state: StateDict, among: Mapping[str, Architecture]) -> str:
    """One sentence without a full stop."""
    found = {pattern(key) for key in state}
    likeness, name, known = max(
        ((len(found & known) / len(found | known), name, known) for name, known in _known() if name in among),
        key=lambda one: one[0],
        default=(0.0, "", set()),
    )
    unknown = [key for key in state if pattern(key) not in known]
    for changed, what in _changes(state, unknown) if len(state) <= MAX_TENSORS else ():
        for entry in among.values():
            if len(changed) > 1 and entry.matches(changed):
                return f"like {entry.name} but for {what}"
    beginning = ", ".join(list(state)[:3])[:200]
    if likeness < LEAST_LIKE:
        return f"{len(state)} tensors, beginning {beginning}"
    missing = sorted(known - found)
    parts = [f"{_some(unknown)} not known there" if unknown else "", f"{_some(missing)} missing" if missing else ""]
    differs = " and ".join(part for part in parts if part) or "its shapes"
    return f"like {name} but for {differs} ({len(state)} tensors, beginning {beginning})"


def pattern(key: str) -> str:
    """The key with `#` for every number."""
    return re.sub(r"\d+", "#", key)


def _changes(state: StateDict, unknown: list[str]) -> Iterator[tuple[dict[str, torch.Tensor], str]]:
    """(the state changed a little, what differs), the smallest changes first; `unknown` are likely to be too many."""
    statistics = _statistics(state)
    if statistics:
        yield {**state, **statistics}, f"{_some(list(statistics))} missing"
    groups = dict.fromkeys([*([tuple(unknown)] if unknown else []), *((key,) for key in (*unknown, *state))])
    for name in (pattern, _layer, _first):
        by_name: dict[str, list[str]] = {}
        for key in state:
            by_name.setdefault(name(key), []).append(key)
        groups |= dict.fromkeys(tuple(keys) for keys in by_name.values() if len(keys) < len(state) / 2)
    if len(groups) > MAX_TRIALS:
        groups = {group: None for group in groups if len(group) > 1 or group[0] in unknown}
    for group in list(groups)[:MAX_TRIALS]:
        yield (
            {key: value for key, value in state.items() if key not in group},
            f"{_some(list(group))}, not known there",
        )


def _layer(key: str) -> str:
    return key.rpartition(".")[0]


def _first(key: str) -> str:
    return key.partition(".")[0]


def _statistics(state: StateDict) -> dict[str, torch.Tensor]:
    """What the batch norms among the layers lack: layers of 1-D weight and bias that begin as those that have it."""
    found: dict[str, torch.Tensor] = {}
    for key, weight in state.items():
        layer = key.removesuffix(".weight")
        if layer == key or weight.ndim != 1 or f"{layer}.bias" not in state:
            continue
        for name, value in (("running_mean", torch.zeros_like(weight)), ("running_var", torch.ones_like(weight))):
            if f"{layer}.{name}" not in state:
                found[f"{layer}.{name}"] = value
    return found


@cache
def _known() -> list[tuple[str, set[str]]]:
    """(architecture, the patterns of its keys), one for each layout."""
    lines = PATTERNS.read_text("utf-8").splitlines()
    return [(words[0], set(words[1:])) for words in map(str.split, lines)]


def _some(keys: list[str]) -> str:
    shown = ", ".join(keys[:2])[:160]
    return shown if len(keys) <= 2 else f"{shown} and {len(keys) - 2} more"
