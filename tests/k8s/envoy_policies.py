"""What must be true of the Envoy that k8s/components/envoy puts before the servers, and of its configuration."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import yaml

from tests.k8s.pods import ENVOY, Pod, environment, pods, quantity, servers, settings_of
from tests.k8s.policy import ABSENT, FIRST, policy
from tests.k8s.rendering import Object, at, named, of_kind
from tests.k8s.wiring_policies import selected

PINNED = re.compile(r"envoyproxy/envoy:distroless-v1\.(\d+)\.\d+")
MIN_MINOR = 36
FIRST_FILTER = "filter_chains 0 filters 0 typed_config"


def envoys(objects: Sequence[Object]) -> Iterator[Pod]:
    return (pod for pod in pods(objects) if pod.component == ENVOY)


def options(pod: Pod) -> dict[str, str]:
    """What follows each `--option` of the command; empty for one without a value."""
    words: list[str] = pod.main["args"]
    return {
        word: after if not after.startswith("--") else ""
        for word, after in zip(words, [*words[1:], "--"], strict=True)
        if word.startswith("--")
    }


def config_text(pod: Pod, objects: Sequence[Object]) -> str:
    """The file that the pod's command names, as its read-only volume has it."""
    path = PurePosixPath(options(pod)["--config-path"])
    mounted = {mount["mountPath"]: mount["name"] for mount in pod.main["volumeMounts"] if mount["readOnly"]}
    volume = next(each for each in pod.spec["volumes"] if each["name"] == mounted[str(path.parent)])
    found = [each for each in objects if each["metadata"]["name"] == volume["configMap"]["name"]]
    return str(found[0]["data"][path.name])


def config(pod: Pod, objects: Sequence[Object]) -> dict[str, Any]:
    return dict(yaml.safe_load(config_text(pod, objects)))


def _by_name(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {part["name"]: part for part in parts}


@policy(
    "cpu+envoy",
    "Deployment/ganserve-envoy",
    f"{FIRST} image",
    "envoyproxy/envoy:distroless-v1.39-latest",
    "no patch release",
)
def the_image_of_envoy_is_pinned(objects: Sequence[Object]) -> Iterator[str]:
    for pod in envoys(objects):
        found = PINNED.fullmatch(pod.main["image"])
        if found is None or int(found[1]) < MIN_MINOR:
            yield f"{pod.owner}: {pod.main['image']} is no patch release without a shell, 1.{MIN_MINOR} or later"


@policy("cpu+envoy", "Deployment/ganserve-envoy", f"{FIRST} ports 1 containerPort", 9901, "9902")
def envoy_listens_where_its_pods_say(objects: Sequence[Object]) -> Iterator[str]:
    for pod in envoys(objects):
        listeners = _by_name(config(pod, objects)["static_resources"]["listeners"])
        numbers = {name: at(each, "address socket_address port_value") for name, each in listeners.items()}
        ports = {port["name"]: port["containerPort"] for port in pod.main["ports"]}
        if numbers != ports:
            yield f"{pod.owner}: ports are {ports}, Envoy listens at {numbers}"


@policy("cpu+envoy", "Deployment/ganserve-envoy", f"{FIRST} readinessProbe httpGet path", "/", "readinessProbe")
def envoys_are_probed(objects: Sequence[Object]) -> Iterator[str]:
    for pod in envoys(objects):
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            if at(pod.main, f"{name} httpGet") != {"path": "/ready", "port": "stats"}:
                yield f"{pod.owner}: {name} does not read /ready"


@policy("cpu+envoy", "Deployment/ganserve-envoy", "spec template metadata labels ganserve-client", ABSENT, "let in")
def envoy_reaches_the_servers(objects: Sequence[Object]) -> Iterator[str]:
    """By a name that the cluster's DNS has, and through the policies of both ends."""
    for pod in envoys(objects):
        clusters = _by_name(config(pod, objects)["static_resources"]["clusters"])
        address = at(clusters["ganserve"], "load_assignment endpoints 0 lb_endpoints 0 endpoint address socket_address")
        ports = {
            service["metadata"]["name"]: [port["port"] for port in service["spec"]["ports"]]
            for service in of_kind(objects, "Service")
            if service["spec"].get("clusterIP") == "None"
        }
        if address["port_value"] not in ports.get(address["address"], ()):
            yield f"{pod.owner}: {address} is none of the headless {ports}"
        callers = at(named(objects, "NetworkPolicy/ganserve"), "spec ingress 0 from 0 podSelector")
        if pod not in selected(callers, objects):
            yield f"{pod.owner}: the servers let in {callers} only"
        reached = at(named(objects, "NetworkPolicy/ganserve-envoy"), "spec egress 1 to 0 podSelector")
        if selected(reached, objects) != list(servers(objects)):
            yield f"{pod.owner}: is let out to {reached}, which are not the servers"


@policy("cpu+envoy", "Deployment/ganserve-envoy", f"{FIRST} lifecycle", ABSENT, "after 0 s")
def a_stopping_envoy_is_left_first(objects: Sequence[Object]) -> Iterator[str]:
    """SIGTERM comes when nobody can be connected any more: Envoy does not wait for calls."""
    for pod in envoys(objects):
        settings = settings_of(next(servers(objects)), objects)
        callers = at(_by_name(config(pod, objects)["static_resources"]["listeners"])["grpc"], FIRST_FILTER)
        ages_s = [
            float(at(callers, path).removesuffix("s"))
            for path in ("common_http_protocol_options max_connection_duration", "drain_timeout")
        ]
        needed_s = settings.shutdown_delay_s + sum(ages_s) + settings.drain_s
        sleep_s = at(pod.main, "lifecycle preStop sleep seconds") or 0
        if sleep_s < needed_s:
            yield f"{pod.owner}: is told to stop after {sleep_s} s, may have callers for {needed_s:g} s"
        if pod.spec.get("terminationGracePeriodSeconds", 30) <= sleep_s:
            yield f"{pod.owner}: is killed before it is told to stop"


@policy("cpu+envoy", "Deployment/ganserve-envoy", f"{FIRST} resources limits memory", "512Mi", "all of 512Mi")
def envoy_fits_into_its_pods(objects: Sequence[Object]) -> Iterator[str]:
    for pod in envoys(objects):
        limits = pod.main["resources"]["limits"]
        threads = options(pod).get("--concurrency", "")
        for name, value in environment(pod, pod.main, objects).items():
            threads = threads.replace(f"$({name})", value)
        if threads != limits["cpu"]:
            yield f"{pod.owner}: {threads or 'as many as its node has'} threads for {limits['cpu']} cores"
        monitors = _by_name(config(pod, objects)["overload_manager"]["resource_monitors"])
        heap = at(monitors["envoy.resource_monitors.fixed_heap"], "typed_config max_heap_size_bytes")
        if heap > 0.9 * quantity(limits["memory"]):
            yield f"{pod.owner}: uses {heap} bytes before it rejects calls, which is all of {limits['memory']}"


@policy("cpu+envoy", "PodDisruptionBudget/ganserve-envoy", "spec maxUnavailable", 2, "none stay")
def an_envoy_is_always_there(objects: Sequence[Object]) -> Iterator[str]:
    for pod in envoys(objects):
        replicas = named(objects, pod.owner)["spec"].get("replicas", 1)
        budget = named(objects, "PodDisruptionBudget/ganserve-envoy")["spec"]
        if budget.get("maxUnavailable", replicas) >= replicas:
            yield f"{pod.owner}: {replicas} replicas, of which {budget} lets none stay"
