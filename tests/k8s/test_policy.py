"""What a careful cluster demands of k8s/. Each policy must also find the change that breaks it."""

import pytest

from tests.k8s import envoy_policies, pod_policies, reach_policies, wiring_policies  # noqa: F401  each registers its policies
from tests.k8s.metric_policies import adapter_problems, adapter_rules, exported
from tests.k8s.pods import servers, settings_of
from tests.k8s.policy import POLICIES
from tests.k8s.rendering import DEPLOYED, Object, at, compose, named, overlay


def violations(objects: list[Object]) -> dict[str, list[str]]:
    """What each violated policy says."""
    found = {name: list(policy.check(objects)) for name, policy in POLICIES.items()}
    return {name: problems for name, problems in found.items() if problems}


@pytest.mark.parametrize("name", DEPLOYED)
def test_every_overlay_keeps_every_policy(name: str) -> None:
    assert violations(overlay(name)) == {}


@pytest.mark.parametrize("name", POLICIES)
def test_each_policy_finds_what_breaks_it(name: str) -> None:
    change = POLICIES[name].broken_by
    problems = list(POLICIES[name].check(change.apply(overlay(change.overlay))))
    assert any(change.says in problem for problem in problems), problems


def test_the_rules_of_the_adapter_read_what_the_server_exports() -> None:
    assert {"ganserve_queue_seconds_sum", "ganserve_requests_in_flight", "nv_inference_count"} <= exported()
    assert list(adapter_problems(adapter_rules())) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [("queue_seconds_count", "queue_total", "ganserve_queue_total"), ("Check|", "", "stay open")],
)
def test_a_rule_of_the_adapter_that_reads_something_else_is_found(old: str, new: str, says: str) -> None:
    rules = [{**rule, "metricsQuery": rule["metricsQuery"].replace(old, new)} for rule in adapter_rules()]
    assert [says in problem for problem in adapter_problems(rules)] == [True]


def test_pods_of_a_cluster_without_the_prometheus_operator_say_where_their_metrics_are() -> None:
    objects = compose("cpu", "without-prometheus-operator")
    assert not {"ServiceMonitor", "PrometheusRule"} & {found["kind"] for found in objects}
    settings = settings_of(next(servers(objects)), objects)
    annotations = at(named(objects, "Deployment/ganserve"), "spec template metadata annotations")
    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(settings.http_port),
        "prometheus.io/path": "/metrics",
    }


def test_keda_scales_gpus_too() -> None:
    objects = compose("gpu", "keda")
    assert violations(objects) == {}
    assert named(objects, "ScaledObject/ganserve")
