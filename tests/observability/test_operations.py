"""docs/operations.md has what alerts point at, and every metric of our own."""

import re

import pytest

from tests.observability.exported import exported
from tests.observability.test_rules import ALERTS, ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text()


@pytest.mark.parametrize("alert", sorted({rule["alert"] for rule in ALERTS}))
def test_every_alert_has_its_runbook(alert: str) -> None:
    assert re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE).count(alert) == 1


def test_the_page_explains_every_metric_of_our_own() -> None:
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported() if name.startswith("ganserve_")}
    assert len(families) > 15
    assert {name for name in families if f"`{name}" not in PAGE} == set()


def test_the_page_explains_no_metric_that_is_gone() -> None:
    section = PAGE.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"`((?:ganserve|nv)_\w+)[`{]", section))
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported()}
    assert len(named) > 15
    assert named - families - set(exported()) == set()
