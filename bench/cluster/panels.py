"""The panels of a Grafana dashboard, as far as drawing and checking its queries needs them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True)
class Query:
    """One line of a panel, or one for each series."""

    expression: str
    legend: str

    def name(self, labels: Mapping[str, str]) -> str:
        """What the legend says of a series."""
        return _LABEL.sub(lambda found: labels.get(found[1], ""), self.legend).strip()


@dataclass(frozen=True)
class Panel:
    """One chart or number, and the row that it stands in. `limits`: values at which a line is drawn."""

    row: str
    title: str
    kind: str
    unit: str
    queries: tuple[Query, ...]
    limits: tuple[float, ...]
    min: float | None
    max: float | None


def read_panels(dashboard: Path) -> list[Panel]:
    """Every panel, in the dashboard's order."""
    panels: list[Panel] = []
    row = ""
    for found in json.loads(dashboard.read_text())["panels"]:
        if found["type"] == "row":
            row = found["title"]
            panels += [_panel(row, inside) for inside in found["panels"]]  # of a row that is folded
        else:
            panels.append(_panel(row, found))
    return panels


def fill_in(expression: str, variables: Mapping[str, str]) -> str:
    """The expression with each $variable replaced.

    Raises:
        KeyError: a variable that has no value.
    """
    return _VARIABLE.sub(lambda found: variables[found[1]], expression)


def _panel(row: str, found: dict[str, Any]) -> Panel:
    defaults = found["fieldConfig"]["defaults"]
    steps = defaults.get("thresholds", {}).get("steps", ())
    return Panel(
        row=row,
        title=found["title"],
        kind=found["type"],
        unit=defaults["unit"],
        queries=tuple(Query(target["expr"], target["legendFormat"]) for target in found["targets"]),
        limits=tuple(step["value"] for step in steps if step["value"] is not None),
        min=defaults.get("min"),
        max=defaults.get("max"),
    )
