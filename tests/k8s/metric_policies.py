"""Autoscalers query only what the server exports, and all of them query the same."""

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from server.api.calls import LASTING
from server.observability.metrics import Metrics
from tests.k8s.pods import quantity
from tests.k8s.policy import policy
from tests.k8s.rendering import K8S, Object, named, of_kind, overlay, title

SATURATION = "ganserve_saturation"
QUEUE_WAIT = "ganserve_queue_wait_seconds"
IN_FLIGHT = "ganserve_requests_in_flight"
# "..." ; {matchers} ; [5m] ; by (labels) ; then what is left of names is metrics, functions and operators
NOT_NAMES = re.compile(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)')
NAME = re.compile(r"(?<![A-Za-z0-9_:.])[A-Za-z_:][A-Za-z0-9_:]*(?!\s*\(|[A-Za-z0-9_:])")
WORDS = {"and", "or", "unless", "offset", "bool", "by", "without"}
ADAPTER = K8S / "monitoring" / "prometheus-adapter-rules.yaml"


@functools.cache
def exported() -> frozenset[str]:
    """Every series name that a server with a loaded model shows at /metrics, read from the page itself."""
    metrics = Metrics()
    metrics.model("faces", 1)
    metrics.loaded("faces", 1, 0.1)
    metrics.watch_queue("faces", lambda: 0, 1)
    metrics.rpc_started("Generate")
    metrics.rpc_finished("Generate", "faces", "OK", 0.1)
    lines = metrics.render().decode().splitlines()
    return frozenset(re.split(r"[{ ]", line)[0] for line in lines if line and not line.startswith("#"))


def metric_names(expression: str) -> set[str]:
    """The names of the series that a PromQL expression reads."""
    return set(NAME.findall(NOT_NAMES.sub(" ", expression))) - WORDS


def adapter_rules() -> list[dict[str, Any]]:
    """The rules of prometheus-adapter that k8s/monitoring ships."""
    return list(yaml.safe_load(ADAPTER.read_text()))


def rule_name(rule: dict[str, Any]) -> str:
    """The name under which the adapter offers the rule's metric."""
    series = str(rule["seriesQuery"]).partition("{")[0]
    renaming = rule.get("name", {"matches": "^(.*)$", "as": r"\1"})
    assert re.search(renaming["matches"], series), renaming
    return re.sub(renaming["matches"], renaming["as"], series)


def adapter_problems(rules: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What the rules read is exported; calls that stay open count for nothing."""
    for rule in rules:
        query = rule["metricsQuery"].replace("<<.LabelMatchers>>", "").replace("<<.GroupBy>>", "pod")
        missing = (metric_names(query) | metric_names(rule["seriesQuery"])) - exported()
        if missing:
            yield f"{rule_name(rule)}: reads {sorted(missing)}, which no server exports"
        if rule_name(rule) == IN_FLIGHT and not _leaves_out_lasting(query):
            yield f"{rule_name(rule)}: counts calls that stay open"
        if set(rule["resources"]["overrides"]) != {"namespace", "pod"}:
            yield f"{rule_name(rule)}: is not a metric of pods"


def _leaves_out_lasting(query: str) -> bool:
    found = re.search(r'rpc!~"([^"]*)"', query)
    return found is not None and set(found[1].split("|")) == LASTING


@policy(
    "cpu",
    "HorizontalPodAutoscaler/ganserve",
    "spec metrics 0 pods metric name",
    "DCGM_FI_DEV_GPU_UTIL",
    "none of the adapter's",
)
def hpa_uses_metrics_of_the_adapter(objects: Sequence[Object]) -> Iterator[str]:
    offered = {rule_name(rule) for rule in adapter_rules()}
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        for metric in scaler["spec"]["metrics"]:
            name = metric["pods"]["metric"]["name"]
            if name not in offered:
                yield f"{title(scaler)}: {name} is none of the adapter's {sorted(offered)}"
            if quantity(metric["pods"]["target"]["averageValue"]) <= 0:
                yield f"{title(scaler)}: {name} has no target"


@policy(
    "keda",
    "ScaledObject/ganserve",
    "spec triggers 2 metadata query",
    'sum(ganserve_in_flight{rpc!~"x"})',
    "ganserve_in_flight",
)
def queries_read_exported_metrics(objects: Sequence[Object]) -> Iterator[str]:
    """Queries of KEDA, its own or through KServe."""
    for owner, metric_type, query in _queries(objects):
        missing = metric_names(query) - exported()
        if missing or not metric_names(query):
            yield f"{owner}: reads {sorted(missing)}, which no server exports"
        if IN_FLIGHT in query and not _leaves_out_lasting(query):
            yield f"{owner}: counts calls that stay open"
        # KEDA divides by the replicas for AverageValue: right for a sum, wrong for a mean.
        if metric_type != ("Value" if "/" in query else "AverageValue"):
            yield f"{owner}: {metric_type} of {query}"


def _queries(objects: Sequence[Object]) -> Iterator[tuple[str, str, str]]:
    for scaler in of_kind(objects, "ScaledObject"):
        for trigger in scaler["spec"]["triggers"]:
            yield title(scaler), trigger.get("metricType", "AverageValue"), trigger["metadata"]["query"]
    for service in of_kind(objects, "InferenceService"):
        for metric in service["spec"]["predictor"]["autoScaling"]["metrics"]:
            # KServe passes on the value as KEDA's threshold and no metricType
            yield title(service), "AverageValue", metric["external"]["metric"]["query"]


@policy("keda", "ScaledObject/ganserve", "spec triggers 1 metadata threshold", "0.5", "objectives")
def keda_scales_as_the_hpa_would(objects: Sequence[Object]) -> Iterator[str]:
    """Same objectives, behaviour and numbers of replicas: only who queries Prometheus differs."""
    if not any(of_kind(objects, "ScaledObject")):
        return
    hpa = named(overlay("cpu"), "HorizontalPodAutoscaler/ganserve")["spec"]
    keda = named(objects, "ScaledObject/ganserve")["spec"]
    if keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] != hpa["behavior"]:
        yield "another behaviour"
    if (keda["minReplicaCount"], keda["maxReplicaCount"]) != (hpa["minReplicas"], hpa["maxReplicas"]):
        yield "other numbers of replicas"
    wanted = {
        each["pods"]["metric"]["name"]: quantity(each["pods"]["target"]["averageValue"]) for each in hpa["metrics"]
    }
    names = {"saturation": SATURATION, "queue-wait": QUEUE_WAIT, "requests-in-flight": IN_FLIGHT}
    found = {names[each["name"]]: float(each["metadata"]["threshold"]) for each in keda["triggers"]}
    if found != wanted:
        yield f"objectives {found}, not {wanted}"
    queries = {names[each["name"]]: _plain(each["metadata"]["query"]) for each in keda["triggers"]}
    for rule in adapter_rules():
        name, query = rule_name(rule), _plain(rule["metricsQuery"])
        if queries[name] != query:
            yield f"{name}: KEDA queries {queries[name]}, the adapter {query}"


def _plain(query: str) -> str:
    """The query without what only says whose: grouping and the namespace."""
    query = (
        query.replace(" by (<<.GroupBy>>)", "").replace("<<.LabelMatchers>>", "").replace('namespace="ganserve"', "")
    )
    return re.sub(r"\{,", "{", query)
