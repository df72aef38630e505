"""Alerts, recording rules and dashboard name only what a server exports, down to labels and their values."""

import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.cluster.panels import read_panels
from bench.cluster.prometheus import program
from ganserve.v1 import images_pb2
from server.api import kserve
from server.api.calls import LASTING
from server.errors import GanserveError
from server.observability.model_statistics import DROP_REASONS
from tests.observability.exported import SCRAPE_LABELS, exported, page
from tests.observability.promql import Names, names
from tests.observability.test_dashboard import DASHBOARD, VARIABLES
from tests.observability.test_rules import RULES
from tests.server.test_errors import subclasses

RECORDED = {
    rule["record"]: frozenset({"namespace", "job"})
    for group in RULES["groups"]
    for rule in group["rules"]
    if "record" in rule
}
# Of kube-state-metrics (its docs/metrics), with the labels that it gives them; `job` and the like are the scrape's.
_OF_AUTOSCALERS = SCRAPE_LABELS | {"horizontalpodautoscaler"}
KUBERNETES = {
    "kube_deployment_spec_replicas": SCRAPE_LABELS | {"deployment"},
    "kube_horizontalpodautoscaler_spec_max_replicas": _OF_AUTOSCALERS,
    "kube_horizontalpodautoscaler_status_current_replicas": _OF_AUTOSCALERS,
    "kube_job_created": SCRAPE_LABELS | {"job_name"},
    "kube_job_failed": SCRAPE_LABELS | {"job_name", "condition"},
    "kube_pod_container_status_last_terminated_reason": SCRAPE_LABELS | {"uid", "container", "reason"},
    "kube_pod_container_status_restarts_total": SCRAPE_LABELS | {"uid", "container"},
}
RPCS = {
    *kserve.METHODS,
    *LASTING,
    *(method.name for method in images_pb2.DESCRIPTOR.services_by_name["ImageService"].methods),
}
CODES = {kind.code for kind in subclasses(GanserveError)} | {"OK", "CANCELLED", "UNKNOWN"}
VALUES = {"rpc": RPCS, "code": CODES, "reason": set(DROP_REASONS)}


def expressions() -> Iterator[tuple[str, str]]:
    """(where it stands, expression)"""
    for group in RULES["groups"]:
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in read_panels(DASHBOARD):
        for query in panel.queries:
            yield panel.title, query.expression


ALL = list(expressions())


def problems(expression: str) -> Iterator[str]:
    """What an expression names that no server exports."""
    found = names(expression)
    known = {**exported(), **RECORDED, **KUBERNETES}
    for metric, labels in found.selected.items():
        if metric not in known:
            yield f"{metric} is exported by no server"
            continue
        for label in labels - known[metric]:
            yield f"{metric} has no label {label}"
    everywhere = set().union(*(known.get(metric, SCRAPE_LABELS) for metric in found.selected))
    for label in found.grouped - everywhere:
        yield f"grouped by {label}, which none of {sorted(found.selected)} has"
    yield from _unknown_values(found)


def _unknown_values(found: Names) -> Iterator[str]:
    for (metric, label), texts in found.matched.items():
        for value in "|".join(texts).split("|"):
            if metric not in KUBERNETES and label in VALUES and value not in VALUES[label]:
                yield f"{metric} never has {label} {value}"


@pytest.mark.parametrize(("where", "expression"), ALL, ids=[where for where, _ in ALL])
def test_every_name_is_one_that_a_server_exports(where: str, expression: str) -> None:
    assert list(problems(expression)) == []


@pytest.mark.parametrize(("where", "expression"), ALL, ids=[where for where, _ in ALL])
def test_a_name_with_a_typing_error_is_found_wherever_it_stands(where: str, expression: str) -> None:
    found = names(expression)
    labels = found.grouped | {label for matched in found.selected.values() for label in matched}
    for name in [*found.selected, *labels]:
        changed = re.sub(rf"(?<![\w:$]){re.escape(name)}(?![\w:])", f"{name}x", expression)
        assert changed != expression
        assert list(problems(changed)), changed


@pytest.mark.usefixtures("needs_prometheus")
def test_promtool_finds_nothing_to_say_about_our_own_metrics() -> None:
    command = [program("promtool"), "check", "metrics"]
    done = subprocess.run(command, input=page(), capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).splitlines()
    assert any(line.startswith("nv_inference_count counter") for line in said), "it must have read the page"
    assert [line for line in said if not line.startswith("nv_")] == []


def test_lists_to_choose_from_are_of_labels_that_a_server_exports() -> None:
    lists = [each["query"]["query"] for each in VARIABLES.values() if each["type"] == "query"]
    assert len(lists) == 3
    for query in lists:
        metric, label = re.fullmatch(r"label_values\((\w+).*, (\w+)\)", query).groups()  # type: ignore[union-attr]
        assert label in exported()[metric]


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("code=~", "kode=~", "has no label kode"),
        ("RESOURCE_EXHAUSTED", "RESOURCES_EXHAUSTED", "never has code RESOURCES_EXHAUSTED"),
        ("GenerateStream", "StreamGenerate", "never has rpc StreamGenerate"),
    ],
)
def test_a_wrong_label_or_value_is_found(right: str, wrong: str, says: str) -> None:
    hits = [expression for _, expression in ALL if right in expression]
    assert len(hits) >= 5
    for expression in hits:
        assert any(says in problem for problem in problems(expression.replace(right, wrong)))


@pytest.mark.parametrize(
    ("expression", "metrics", "grouped"),
    [
        ("a", {"a": set()}, set()),
        ('sum by (x) (rate(a_b:c{l="}[5m] by (z)",m!~"b"}[5m:1m] offset 3m)) > bool 0.5', {"a_b:c": {"l", "m"}}, {"x"}),
        ("sum(a) by (x) / on (x) group_left (y) max without (z) (b)", {"a": set(), "b": set()}, {"x", "y", "z"}),
        ("a * on () group_left b and c unless d or vector(1e-9)", {each: set() for each in "abcd"}, set()),
        ('histogram_quantile(0.95, a{le="0.5",}) # not_a_metric', {"a": {"le"}}, set()),
        ("a @ 1609746000 + 0x1F + inf", {"a": set(), "inf": set()}, set()),
    ],
)  # fmt: skip
def test_names_are_read_out_of_an_expression(expression: str, metrics: dict[str, Any], grouped: set[str]) -> None:
    found = names(expression)
    assert (found.selected, found.grouped) == (metrics, grouped)


@pytest.mark.parametrize("expression", ['{job="ganserve"}', "vector(1)", "a ? b", 'sum(rate({__name__=~"a.*"}[5m]))'])
def test_an_expression_that_hides_what_it_reads_is_refused(expression: str) -> None:
    read: Callable[[str], Names] = names
    with pytest.raises(ValueError, match=r"no metric|without a metric's name|no PromQL"):
        read(expression)
