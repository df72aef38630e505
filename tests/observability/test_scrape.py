"""Prometheus scrapes a server under load: targets, rules, and every query of the dashboard."""

import math
import time

import pytest

from bench.cluster.dashboard import charts
from bench.cluster.panels import Panel, fill_in, read_panels
from bench.cluster.prometheus import Series
from bench.cluster.sheet import draw_sheet
from tests.observability.conftest import SCRAPES, Watched
from tests.observability.exported import exported
from tests.observability.promql import names
from tests.observability.test_dashboard import DASHBOARD
from tests.observability.test_rules import ALERTS, RULES

pytestmark = pytest.mark.slow

PANELS = read_panels(DASHBOARD)
CHOSEN = {"namespace": "ganserve", "pod": ".*", "model": ".*", "__rate_interval": "10s"}


def elsewhere(panel: Panel) -> bool:
    """Whether this server has nothing for it: no GPU, no Kubernetes."""
    return panel.row == "GPU" or "kube_" in panel.queries[0].expression


def evaluate(watched: Watched, expression: str, **chosen: str) -> list[Series]:
    return watched.prometheus.query(fill_in(expression, {**CHOSEN, **chosen}))


def number(watched: Watched, expression: str) -> float:
    """The value of an expression that has one."""
    (series,) = evaluate(watched, expression)
    return series.points[0][1]


def test_every_call_of_the_load_was_answered_or_refused_for_want_of_room(watched: Watched) -> None:
    assert watched.load.failures == []
    assert watched.load.refused > 10


def test_the_target_is_up_and_no_scrape_has_failed(watched: Watched) -> None:
    (target,) = watched.prometheus.ask("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    assert target["labels"]["pod"] == "ganserve-0"
    assert number(watched, "min_over_time(up[1m])") == 1
    assert number(watched, "max_over_time(scrape_duration_seconds[1m])") < 1.0, "the interval"
    assert watched.prometheus.log.read_text() == "", "a warning, of a sample that is out of order say"


def test_prometheus_takes_every_sample_with_the_types_that_were_meant(watched: Watched) -> None:
    assert number(watched, "scrape_samples_scraped - scrape_samples_post_metric_relabeling") == 0
    found = watched.prometheus.ask("metadata")
    assert found["ganserve_ready"][0]["type"] == "gauge"
    assert found["ganserve_queue_seconds"][0]["type"] == "histogram"
    assert found["nv_inference_request_success"][0]["type"] == "counter"
    for name, described in found.items():
        assert len(described) == 1, f"{name} is described in two ways"
        assert described[0]["help"], name


def test_no_series_is_one_that_the_tests_of_names_do_not_know(watched: Watched) -> None:
    selector = '{__name__=~"(ganserve|nv|process)_.*"}'
    shown = watched.prometheus.ask("series", **{"match[]": selector})
    assert {each["__name__"] for each in shown} <= set(exported())
    for each in shown:
        assert set(each) - {"__name__"} <= exported()[each["__name__"]]


def test_every_rule_is_loaded_and_evaluated(watched: Watched) -> None:
    groups = watched.prometheus.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == sum(len(group["rules"]) for group in RULES["groups"])
    assert {(rule["health"], rule.get("lastError", "")) for rule in rules} == {("ok", "")}


def test_refusals_of_the_load_are_about_to_raise_the_alert_of_the_error_budget_and_nothing_else_is(
    watched: Watched,
) -> None:
    assert len(ALERTS) > 5
    about_to = {series.labels["alertname"] for series in evaluate(watched, 'ALERTS{alertstate="pending"}')}
    assert about_to == {"GanserveErrorBudgetBurn"}
    assert evaluate(watched, 'ALERTS{alertstate="firing"}') == []


@pytest.mark.parametrize("panel", [panel for panel in PANELS if not elsewhere(panel)], ids=lambda panel: panel.title)
def test_every_query_of_the_dashboard_has_data(watched: Watched, panel: Panel) -> None:
    for query in panel.queries:
        found = evaluate(watched, query.expression)
        assert found, query.expression
        assert any(math.isfinite(series.points[0][1]) for series in found), query.expression
        called = [query.name(series.labels) for series in found]
        assert len(set(called)) == len(called), f"two lines are called the same: {called}"


@pytest.mark.parametrize("panel", [panel for panel in PANELS if elsewhere(panel)], ids=lambda panel: panel.title)
def test_the_panels_of_gpus_and_of_kubernetes_are_empty_without(watched: Watched, panel: Panel) -> None:
    for query in panel.queries:
        assert any(metric.startswith(("nv_", "kube_")) for metric in names(query.expression).selected)
        assert evaluate(watched, query.expression) == []


@pytest.mark.parametrize("panel", [panel for panel in PANELS if not elsewhere(panel)], ids=lambda panel: panel.title)
def test_what_is_chosen_above_the_dashboard_counts(watched: Watched, panel: Panel) -> None:
    for query in panel.queries:
        assert evaluate(watched, query.expression, namespace="other") == []


def test_the_lists_to_choose_from_have_the_server_and_its_models(watched: Watched) -> None:
    for name, wanted in (("namespace", ["ganserve"]), ("pod", ["ganserve-0"]), ("model", ["styled", "translator"])):
        metric = "ganserve_model_ready" if name == "model" else "ganserve_ready"
        assert watched.prometheus.ask(f"label/{name}/values", **{"match[]": metric}) == wanted


def test_numbers_of_the_dashboard_are_those_of_the_load(watched: Watched) -> None:
    by_title = {panel.title: panel for panel in PANELS}
    by_rpc = {
        series.labels["rpc"]: series.points[0][1]
        for series in evaluate(watched, by_title["Calls by RPC"].queries[0].expression)
    }
    assert set(by_rpc) == {"Generate", "GenerateStream", "ModelInfer", "Translate"}
    assert all(rate > 0.2 for rate in by_rpc.values())
    assert number(watched, by_title["Servers ready"].queries[0].expression) == 1
    assert 0.001 < number(watched, by_title["Error ratio"].queries[0].expression) < 1
    assert 0 < number(watched, by_title["Saturation"].queries[0].expression) <= 1
    assert number(watched, "min_over_time(ganserve_ready[1m])") == 1
    assert number(watched, "count_over_time(up[1m])") >= SCRAPES


def test_what_goes_through_the_ports_is_counted(watched: Watched) -> None:
    assert number(watched, 'ganserve_connections{port="grpc"}') >= 2, "both clients"
    for name in ("received", "sent"):
        assert number(watched, f'ganserve_{name}_bytes_total{{protocol="grpc"}}') > 10_000
        assert number(watched, f'ganserve_{name}_bytes_total{{protocol="http"}}') == 0
    assert number(watched, 'ganserve_tiles_total{model="translator"}') > 0
    assert number(watched, "ganserve_build_info") == 1


def test_the_gauge_of_saturation_says_what_the_counters_say(watched: Watched) -> None:
    """Over windows of 10 s that begin up to 2 s apart."""
    gauge = number(watched, "avg_over_time(ganserve_saturation[3s])")
    counted = number(watched, "max(rate(ganserve_device_busy_seconds_total[12s]) / ganserve_device_lanes)")
    assert gauge == pytest.approx(counted, abs=0.3)


def test_every_chart_of_the_dashboard_can_be_drawn_from_the_answers(watched: Watched) -> None:
    now = time.time()
    rows = charts(PANELS, watched.prometheus, now - SCRAPES, now)
    wanted = [panel.title for panel in PANELS if panel.kind == "timeseries" and not elsewhere(panel)]
    assert [chart.title for _, row in rows for chart in row] == wanted
    axes = [each for each in draw_sheet("a run", rows).get_axes() if each.axison]
    assert [each.get_title(loc="left") for each in axes] == wanted
    for chart, each in zip([chart for _, row in rows for chart in row], axes, strict=True):
        drawn = [line for line in each.get_lines() if line.get_linestyle() == "-"]
        assert [line.get_label() for line in drawn] == [line.name for line in chart.lines]


def test_a_question_that_prometheus_refuses_is_an_error(watched: Watched) -> None:
    with pytest.raises(ValueError, match="parse error"):
        evaluate(watched, "rate(")
