"""What a cluster of the careful kind demands of k8s/. Each demand is also seen failing on a broken copy."""

import tomllib
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.k8s import (
    broken_envoy,
    broken_pods,
    broken_wiring,
    envoy_policies,
    metric_policies,
    pod_policies,
    wiring_policies,
)
from tests.k8s.breaking import Break, broken
from tests.k8s.broken_wiring import RULE_BREAKS
from tests.k8s.metric_policies import adapter_problems, adapter_rules, exported, keda_scales_as_the_hpa_would
from tests.k8s.pods import servers, settings_of
from tests.k8s.rendering import DEPLOYED, ROOT, Object, at, compose, named, overlay

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

BREAKS = [*broken_pods.BREAKS, *broken_wiring.BREAKS, *broken_envoy.BREAKS]

Policy = Callable[[Sequence[Object]], Iterator[str]]


def images_are_of_this_version(objects: Sequence[Object]) -> Iterator[str]:
    yield from pod_policies.images_are_of_this_version(objects, VERSION)


def keda_agrees_with_the_hpa(objects: Sequence[Object]) -> Iterator[str]:
    if any(found["kind"] == "ScaledObject" for found in objects):
        yield from keda_scales_as_the_hpa_would(objects, overlay("cpu"))


POLICIES: dict[str, Policy] = {
    policy.__name__: policy
    for policy in (
        pod_policies.not_root,
        pod_policies.root_file_system_read_only,
        pod_policies.no_privileges,
        pod_policies.no_service_account_token,
        pod_policies.no_service_links,
        pod_policies.resources_are_bounded,
        images_are_of_this_version,
        pod_policies.servers_are_probed,
        pod_policies.ports_are_named,
        pod_policies.files_have_a_place,
        pod_policies.volumes_exist,
        pod_policies.engines_are_built_where_they_run,
        wiring_policies.labels_are_consistent,
        wiring_policies.selectors_find_the_right_pods,
        wiring_policies.services_reach_the_ports,
        wiring_policies.clients_find_ready_replicas,
        wiring_policies.metrics_are_scraped_once,
        wiring_policies.kserve_knows_the_ports,
        wiring_policies.networks_are_closed,
        wiring_policies.settings_are_accepted,
        wiring_policies.a_stop_loses_nothing,
        wiring_policies.one_scaler_keeps_two_replicas,
        envoy_policies.the_image_of_envoy_is_pinned,
        envoy_policies.envoy_listens_where_its_pods_say,
        envoy_policies.envoys_are_probed,
        envoy_policies.envoy_reaches_the_servers,
        envoy_policies.a_stopping_envoy_is_left_first,
        envoy_policies.envoy_fits_into_its_pods,
        envoy_policies.an_envoy_is_always_there,
        metric_policies.hpa_asks_for_adapter_metrics,
        metric_policies.queries_read_exported_metrics,
        keda_agrees_with_the_hpa,
    )
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", DEPLOYED)
def test_every_overlay_keeps_every_policy(name: str, policy: str) -> None:
    assert list(POLICIES[policy](overlay(name))) == []


@pytest.mark.parametrize("case", BREAKS, ids=str)
def test_each_policy_finds_what_breaks_it(case: Break) -> None:
    problems = list(POLICIES[case.policy](broken(overlay(case.overlay), case)))
    assert any(case.says in problem for problem in problems), problems


def test_every_policy_was_seen_failing() -> None:
    assert {case.policy for case in BREAKS} == set(POLICIES)


def test_the_rules_of_the_adapter_read_what_the_server_exports() -> None:
    assert {"ganserve_queue_seconds_sum", "ganserve_requests_in_flight", "nv_inference_count"} <= exported()
    assert list(adapter_problems(adapter_rules())) == []


@pytest.mark.parametrize(("old", "new", "says"), RULE_BREAKS)
def test_a_rule_of_the_adapter_that_reads_something_else_is_found(old: str, new: str, says: str) -> None:
    rules = [{**rule, "metricsQuery": rule["metricsQuery"].replace(old, new)} for rule in adapter_rules()]
    assert [says in problem for problem in adapter_problems(rules)] == [True]


def test_two_scalers_of_one_deployment_are_found() -> None:
    both = [*overlay("keda"), named(overlay("cpu"), "HorizontalPodAutoscaler/ganserve")]
    problems = list(POLICIES["one_scaler_keeps_two_replicas"](both))
    assert len(problems) == 1
    assert "HorizontalPodAutoscaler" in problems[0]


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
    assert [policy for policy in POLICIES if list(POLICIES[policy](objects))] == []
    assert named(objects, "ScaledObject/ganserve")
