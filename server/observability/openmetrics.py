"""The metrics page as OpenMetrics 1.0, which has exemplars: the trace of a call that took so long.

Only for who asks for it by `?format=openmetrics`: the format has no counters whose names do not end in `_total`, so
Triton's, which keep their names, are of type unknown in it.
"""

import re
from collections.abc import Mapping

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_TOTAL = "_total"
_TYPE = re.compile(r"# TYPE (\S+) counter$", re.MULTILINE)
_HEADER = re.compile(r"# (HELP|TYPE) (\S+) (.*)")


def openmetrics(page: str, exemplars: Mapping[str, str]) -> str:
    """A page of the text format 0.0.4 in this one. `exemplars`: by the start of their sample's line."""
    counters = set(_TYPE.findall(page))
    lines = []
    for line in page.splitlines():
        if found := _HEADER.fullmatch(line):
            what, name, rest = found.groups()
            if name in counters:
                rest = "unknown" if what == "TYPE" and not name.endswith(_TOTAL) else rest
                name = name.removesuffix(_TOTAL)
            line = f"# {what} {name} {rest}"
        elif exemplar := exemplars.get(line.rpartition(" ")[0]):
            line = f"{line} # {exemplar}"
        lines.append(line)
    return "\n".join([*lines, "# EOF", ""])
