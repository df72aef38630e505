"""The Helm chart gives the objects that the kustomizations give, and each value of it does what it says.

Rendered by Helm's own Go library, in a process of its own. The names of ConfigMaps and of the Job end in another hash
than kustomize's, so they are compared without.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.chart.__main__ import HASHED, HERE, generated
from tests.k8s.pods import pods
from tests.k8s.rendering import Object, at, compose, composed_text, named, title
from tests.k8s.test_manifests import VERSIONS, problem
from tests.k8s.test_policy import violations

pytest.importorskip("helm_python", reason="helm-python-sdk is for x86-64 Linux only")

RENDER = """
import json, sys
from helm_python import Chart
chart, answers = Chart.load(sys.argv[1]), []
for values in json.load(sys.stdin):
    namespace = values.pop("namespace", "ganserve")
    try:
        found = chart.render(values, name="any", namespace=namespace)
        answers.append(next(text for name, text in found.items() if name.endswith("objects.yaml")))
    except Exception as error:
        answers.append("error: " + str(error))
json.dump(answers, sys.stdout)
"""
DIGEST = "ghcr.io/ganserve/ganserve-models@sha256:" + 64 * "0"
SAME: dict[str, Mapping[str, Any]] = {  # overlay and components: the values for the same
    "cpu": {},
    "gpu": {"preset": "gpu"},
    "kind": {"preset": "kind"},
    "cpu+keda": {"autoscaling": {"keda": True}},
    "cpu+envoy": {"envoy": True},
    "gpu+keda+envoy": {"preset": "gpu", "envoy": True, "autoscaling": {"keda": True}},
    "cpu+gateway-api": {"gatewayApi": {"enabled": True}},
    "kind+ingress": {"preset": "kind", "ingress": {"enabled": True}},
    "cpu+oci-models": {"modelsFrom": "oci", "images": {"models": DIGEST}},
    "gpu+pull-models": {"preset": "gpu", "modelsFrom": "pull"},
    "kind+pull-models": {"preset": "kind", "modelsFrom": "pull"},
    "gpu+envoy+without-prometheus-operator": {"preset": "gpu", "envoy": True, "monitoring": {"operator": False}},
}


def templates(*all_values: Mapping[str, Any]) -> list[str]:
    """What `helm template` prints for each of the values, or `error: ` and why it does not."""
    command = [sys.executable, "-c", RENDER, str(HERE)]
    done = subprocess.run(command, input=json.dumps(all_values), capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


def objects_of(text: str) -> list[Object]:
    assert not text.startswith("error: "), text
    return [found for found in yaml.load_all(text, Loader=yaml.CSafeLoader) if found]


def plain(objects: list[Object]) -> dict[str, Object]:
    """By kind and name, without hashes and without the namespace, which Helm does not make."""
    bare: list[Object] = json.loads(HASHED.sub(r"\1", json.dumps(objects)))
    return {title(found): found for found in bare if found["kind"] != "Namespace"}


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Object]]:
    return dict(zip(SAME, map(objects_of, templates(*SAME.values())), strict=True))


def test_what_the_chart_is_made_of_is_current() -> None:
    stale = [name for name, text in generated(composed_text).items() if (HERE / "files" / name).read_text() != text]
    assert not stale, "run python -m k8s.chart"


@pytest.mark.parametrize("name", SAME)
def test_helm_gives_what_kustomize_gives(rendered: dict[str, list[Object]], name: str) -> None:
    assert plain(rendered[name]) == plain(compose(*name.split("+")))


@pytest.mark.parametrize("name", ["cpu", "gpu+keda+envoy", "cpu+oci-models"])
def test_a_cluster_accepts_it_and_it_keeps_every_policy(rendered: dict[str, list[Object]], name: str) -> None:
    assert [problem(found, VERSIONS[1]) for found in rendered[name] if problem(found, VERSIONS[1])] == []
    assert violations(rendered[name]) == {}


def containers(objects: list[Object]) -> list[Mapping[str, Any]]:
    return [container for pod in pods(objects) for container in pod.containers]


def labels_of(objects: list[Object], kind_and_name: str) -> Any:
    return named(objects, kind_and_name)["metadata"]["labels"]


POD = "spec template spec"
HPA = "HorizontalPodAutoscaler/ganserve"
EFFECTS: list[tuple[dict[str, Any], Callable[[list[Object]], object], object]] = [
    (
        {"images": {"cpu": "r/c:1", "export": "r/e:2"}},
        lambda o: {c["image"] for c in containers(o)},
        {"r/c:1", "r/e:2"},
    ),
    ({"images": {"export": "r/e:2"}}, lambda o: at(named(o, "ConfigMap/ganserve-export"), "data image"), "r/e:2"),
    (
        {"imagePullSecrets": ["a", "b"]},
        lambda o: named(o, "ServiceAccount/ganserve")["imagePullSecrets"],
        [{"name": "a"}, {"name": "b"}],
    ),
    ({"models": "x 1 y\n"}, lambda o: at(named(o, "ConfigMap/ganserve-export"), "data models.txt"), "x 1 y\n"),
    (
        {"settings": {"GANSERVE_DRAIN_S": 20}},
        lambda o: at(named(o, "ConfigMap/ganserve"), "data GANSERVE_DRAIN_S"),
        "20",
    ),
    (
        {"storage": {"storageClassName": "nfs", "size": "5Gi", "accessModes": ["ReadWriteOnce"]}},
        lambda o: named(o, "PersistentVolumeClaim/ganserve-models")["spec"],
        {"storageClassName": "nfs", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}},
    ),
    (
        {"resources": {"limits": {"cpu": "8"}}},
        lambda o: at(named(o, "Deployment/ganserve"), f"{POD} containers 0 resources"),
        {"limits": {"cpu": "8"}},
    ),
    (
        {"preset": "gpu", "nodeSelector": {"gpu": "h100"}, "tolerations": [{"operator": "Exists"}]},
        lambda o: [(pod.spec["nodeSelector"], pod.spec["tolerations"]) for pod in pods(o)],
        2 * [({"gpu": "h100"}, [{"operator": "Exists"}])],
    ),
    (
        {"autoscaling": {"minReplicas": 3, "maxReplicas": 7}},
        lambda o: [named(o, HPA)["spec"][name] for name in ("minReplicas", "maxReplicas")],
        [3, 7],
    ),
    (
        {"autoscaling": {"keda": True, "minReplicas": 3}},
        lambda o: named(o, "ScaledObject/ganserve")["spec"]["minReplicaCount"],
        3,
    ),
    (
        {"monitoring": {"labels": {"release": "p"}}},
        lambda o: [labels_of(o, f"{kind}/ganserve")["release"] for kind in ("ServiceMonitor", "PrometheusRule")],
        ["p", "p"],
    ),
    (
        {"monitoring": {"namespace": "watch"}},
        lambda o: at(named(o, "NetworkPolicy/ganserve"), "spec ingress 1 from 0 namespaceSelector matchLabels"),
        {"kubernetes.io/metadata.name": "watch"},
    ),
    (
        {"autoscaling": {"keda": True}, "monitoring": {"address": "http://p:1"}, "namespace": "mine"},
        lambda o: [
            (each["metadata"]["serverAddress"], 'namespace="mine"' in each["metadata"]["query"])
            for each in named(o, "ScaledObject/ganserve")["spec"]["triggers"]
        ],
        3 * [("http://p:1", True)],
    ),
    (
        {"gatewayApi": {"enabled": True, "hostname": "a.b", "httpHostname": "c.b", "parentRefs": [{"name": "g"}]}},
        lambda o: [named(o, f"{kind}/ganserve")["spec"] | {"rules": 0} for kind in ("GRPCRoute", "HTTPRoute")],
        [{"hostnames": [host], "parentRefs": [{"name": "g"}], "rules": 0} for host in ("a.b", "c.b")],
    ),
    (
        {"ingress": {"enabled": True, "hostname": "a.b", "className": "c", "secretName": "s"}},
        lambda o: [
            at(named(o, "Ingress/ganserve"), f"spec {path}") for path in ("rules 0 host", "tls 0", "ingressClassName")
        ],
        ["a.b", {"hosts": ["a.b"], "secretName": "s"}, "c"],
    ),
    ({"namespace": "mine"}, lambda o: {each["metadata"]["namespace"] for each in o}, {"mine"}),
    (
        {"patches": {"Job/ganserve-export": {"spec": {"backoffLimit": 5}}}},
        lambda o: named(o, "Job/ganserve-export")["spec"]["backoffLimit"],
        5,
    ),
]


@pytest.fixture(scope="module")
def changed() -> list[str]:
    return templates(*(values for values, _, _ in EFFECTS))


@pytest.mark.parametrize("number", range(len(EFFECTS)), ids=lambda number: "-".join(EFFECTS[number][0]))
def test_a_value_changes_what_it_is_for(changed: list[str], number: int) -> None:
    _, look, wanted = EFFECTS[number]
    assert look(objects_of(changed[number])) == wanted


def test_another_list_or_image_is_another_job_and_is_mounted_by_name() -> None:
    texts = templates({}, {"models": "a 1 b\n"}, {"images": {"export": "r/e:1"}}, {"images": {"cpu": "r/c:1"}})
    names = []
    for objects in map(objects_of, texts):
        name = named(objects, "Job/ganserve-export")["metadata"]["name"]
        assert named(objects, "ConfigMap/ganserve-export")["metadata"]["name"] == name
        assert json.dumps(objects).count(f'"{name}"') == 4
        names.append(name)
    assert len(set(names[:3])) == 3
    assert names[3] == names[0]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"presett": "gpu"}, "presett"),
    ({"preset": "tpu"}, "preset"),
    ({"settings": {"DRAIN_S": "5"}}, "DRAIN_S"),
    ({"modelsFrom": "oci"}, "needs images.models, by digest"),
    ({"modelsFrom": "oci", "images": {"models": "r/m:1"}}, "images/models"),
    ({"modelsFrom": "pull", "models": "a 1 b\n"}, "nothing is exported"),
    ({"modelsFrom": "pull", "storage": {"size": "5Gi"}}, "there is no volume"),
    ({"preset": "kind", "autoscaling": {"maxReplicas": 4}}, "one replica"),
    ({"preset": "kind", "autoscaling": {"keda": True}}, "one replica"),
    ({"gatewayApi": {"hostname": "a.b"}}, "gatewayApi: it is not enabled"),
    ({"ingress": {"secretName": "s"}}, "ingress: it is not enabled"),
    ({"patches": {"Deployment/server": {"spec": {}}}}, "there is no Deployment/server, only ConfigMap/ganserve"),
]


def test_a_value_without_an_effect_is_refused() -> None:
    for (values, says), text in zip(REFUSED, templates(*(values for values, _ in REFUSED)), strict=True):
        assert text.startswith("error: "), values
        assert says in text


def test_the_schema_knows_every_value_and_the_chart_is_of_this_version() -> None:
    values = yaml.safe_load((HERE / "values.yaml").read_text())
    schema = json.loads((HERE / "values.schema.json").read_text())
    assert set(schema["properties"]) - {"global"} == set(values)
    for name in ("images", "storage", "autoscaling", "gatewayApi", "ingress", "monitoring"):
        assert set(schema["properties"][name]["properties"]) == set(values[name])
    chart = yaml.safe_load((HERE / "Chart.yaml").read_text())
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'version = "{chart["version"]}"' in project
    assert chart["appVersion"] == chart["version"]
