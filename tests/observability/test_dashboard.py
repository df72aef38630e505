"""The dashboard is valid for Grafana and readable; its queries run in test_scrape.py."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench.cluster.panels import fill_in, read_panels
from tests.observability.promql import names

DASHBOARD = Path(__file__).resolve().parents[2] / "k8s" / "base" / "dashboards" / "ganserve.json"
BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text())
ROWS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] == "row"]
ALL: list[dict[str, Any]] = [each for panel in BOARD["panels"] for each in (panel, *panel.get("panels", ()))]
PANELS: list[dict[str, Any]] = [panel for panel in ALL if panel["type"] != "row"]
VARIABLES: dict[str, dict[str, Any]] = {each["name"]: each for each in BOARD["templating"]["list"]}
BUILT_IN = {"__rate_interval"}
UNITS = {"short", "s", "reqps", "percentunit", "bytes", "Bps", "watt"}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def titled(panel: dict[str, Any]) -> str:
    return str(panel["title"])


def test_it_is_of_grafana_10_and_keeps_its_address() -> None:
    assert BOARD["uid"] == "ganserve"
    assert BOARD["schemaVersion"] >= 38
    assert "id" not in BOARD, "a number of somebody's own Grafana"
    assert len(json.dumps(BOARD)) < 200_000, "a ConfigMap that kubectl applies may have 256 KiB"


def test_panels_differ_in_number_and_title() -> None:
    for key in ("id", "title"):
        values = [panel[key] for panel in ALL]
        assert len(set(values)) == len(values) > 30


def test_panels_lie_side_by_side() -> None:
    places = [(panel["title"], panel["gridPos"]) for panel in BOARD["panels"]]
    assert all(at["x"] >= 0 and at["x"] + at["w"] <= 24 for _, at in places)
    for (one, a), (other, b) in itertools.combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], f"{one} covers {other}"


def test_only_the_row_of_gpus_is_folded_and_has_its_panels_inside() -> None:
    assert [row["title"] for row in ROWS if row["collapsed"]] == ["GPU"]
    assert [row["title"] for row in ROWS if row["panels"]] == ["GPU"]


def test_panels_lead_to_the_runbooks_of_the_alerts_that_they_explain() -> None:
    headings = re.findall(r"^## (.+)$", (DASHBOARD.parents[3] / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    linked = set()
    for panel in PANELS:
        for link in panel.get("links", ()):
            alert = link["title"].removeprefix("Runbook: ")
            assert alert in headings
            assert link["url"].endswith(f"/docs/runbooks.md#{alert.lower()}")
            linked.add(alert)
    without = {"GanserveCertificateExpires", "GanserveExportFailed"}  # nothing is drawn of these
    assert {heading for heading in headings if heading.startswith("Ganserve")} - without == linked


def test_the_source_and_what_is_looked_at_can_be_chosen() -> None:
    assert list(VARIABLES) == ["datasource", "namespace", "pod", "model"]
    assert (VARIABLES["datasource"]["type"], VARIABLES["datasource"]["query"]) == ("datasource", "prometheus")
    for name in ("namespace", "pod", "model"):
        variable = VARIABLES[name]
        assert (variable["datasource"], variable["includeAll"], variable["allValue"]) == (SOURCE, True, ".*")
        assert re.fullmatch(rf"label_values\(ganserve_\w+(\{{.*\}})?, {name}\)", variable["query"]["query"])


@pytest.mark.parametrize("panel", PANELS, ids=titled)
def test_a_panel_asks_the_chosen_source_for_what_was_chosen(panel: dict[str, Any]) -> None:
    assert panel["datasource"] == SOURCE
    assert panel["type"] in {"stat", "timeseries"}
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert [target["refId"] for target in panel["targets"]] == [*"AB"][: len(panel["targets"])]
    for target in panel["targets"]:
        assert target["datasource"] == SOURCE
        assert set(re.findall(r"\$\{?(\w+)", target["expr"])) <= BUILT_IN | set(VARIABLES)
        found = names(target["expr"])
        for metric, labels in found.selected.items():
            assert "namespace" in labels, f"{metric} of every namespace"
            assert metric.startswith(("job:", "kube_")) or "pod" in labels, f"{metric} of every pod"


@pytest.mark.parametrize("panel", PANELS, ids=titled)
def test_a_legend_names_what_the_query_groups_by(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert target["legendFormat"]
        found = names(target["expr"])
        kept = {"namespace", "job"} if any(":" in metric for metric in found.selected) else found.grouped
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept


@pytest.mark.parametrize("panel", PANELS, ids=titled)
def test_counters_are_read_as_rates_over_the_interval_that_grafana_chooses(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        for metric in names(target["expr"]).selected:
            counts = re.search(r"_(total|bucket|sum|count|success|failure|consumption)$", metric)
            counter = counts is not None and not metric.endswith("_pending_request_count")
            rated = re.search(rf"rate\({metric}\{{[^}}]*\}}\[\$__rate_interval\]\)", target["expr"])
            assert counter == bool(rated), target["expr"]


def test_what_is_drawn_is_what_the_file_has() -> None:
    panels = read_panels(DASHBOARD)
    assert [panel.title for panel in panels] == [panel["title"] for panel in PANELS]
    wait = next(panel for panel in panels if panel.title == "Queue wait p95 by model")
    assert (wait.row, wait.unit, wait.limits, wait.min, wait.max) == ("Latency", "s", (0.25,), 0, None)
    assert wait.queries[0].name({"model": "faces"}) == "faces"


def test_variables_are_filled_in_and_an_unknown_one_is_an_error() -> None:
    assert fill_in('a{pod=~"$pod"}[$__rate_interval]', {"pod": ".*", "__rate_interval": "10s"}) == 'a{pod=~".*"}[10s]'
    with pytest.raises(KeyError, match="nobody"):
        fill_in("a[$nobody]", {})
