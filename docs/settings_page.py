"""Writes docs/settings.md from the server's settings; `--check` only compares.

python -m docs.settings_page [--check]
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from docs.generated import write
from server.setting_texts import choices_of, default_text, panel_of
from server.settings import PREFIX, Panel, Settings

PAGE = Path(__file__).with_name("settings.md")
CLUSTER = Path(__file__).resolve().parent.parent / "k8s" / "base" / "server.env"
HEAD = """# Settings

<!-- Written by `python -m docs.settings_page` from server/settings.py; do not edit. -->

Every setting of the server is an option of `ganserve serve` (`--grpc-port`) and an environment variable
(`GANSERVE_GRPC_PORT`); the option wins. A `GANSERVE_` variable that is not a setting stops the server with a line that
names it; those that Kubernetes sets for Services (`GANSERVE_SERVICE_HOST`, `GANSERVE_PORT=tcp://...`) are ignored.
Sizes are in bytes or pixels, durations in seconds. The column *Kubernetes* is what
[k8s/base/server.env](../k8s/base/server.env) sets. When to change a setting: [tuning](tuning.md#settings).
"""


def page() -> str:
    """The text of docs/settings.md."""
    in_cluster = dict(line.split("=", 1) for line in CLUSTER.read_text().splitlines() if line.startswith(PREFIX))
    return HEAD + "".join("\n".join(_table(panel, in_cluster)) for panel in Panel)


def _table(panel: Panel, in_cluster: dict[str, str]) -> Iterator[str]:
    yield f"\n## {panel}\n"
    yield "| variable | meaning | values | default | Kubernetes |"
    yield "|---|---|---|---|---|"
    for name, field in Settings.model_fields.items():
        if panel_of(field) is panel:
            variable = PREFIX + name.upper()
            default = default_text(name, field) or "required"
            cells = (f"`{variable}`", field.description, _values(field), default, in_cluster.get(variable, ""))
            yield f"| {' | '.join(map(str, cells))} |"
    yield ""


def _values(field: FieldInfo) -> str:
    """Such as `auto, cpu`, `0..65535`, `at least 1` or `path`."""
    if choices := choices_of(field):
        return ", ".join(choices)
    lowest, highest = _limit(field, "ge"), _limit(field, "le")
    if highest is not None:
        return f"{lowest}..{highest}"
    return "" if lowest is None else f"at least {lowest}"


def _limit(field: FieldInfo, name: str) -> Any:
    return next((getattr(each, name) for each in field.metadata if hasattr(each, name)), None)


def main(arguments: list[str]) -> int:
    """See `write`."""
    return write(PAGE, page(), arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
