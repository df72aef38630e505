"""How the objects of an overlay hang together: labels, selectors, ports, scaling, the way a rollout goes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from server.app import CLOSE_S
from tests.k8s.pods import COMPONENTS, ENVOY, EXPORT, SERVER, Pod, pods, servers, settings_of
from tests.k8s.policy import ABSENT, policy
from tests.k8s.rendering import Object, at, named, of_kind, title

PART_OF = {"app.kubernetes.io/name": "ganserve", "app.kubernetes.io/part-of": "ganserve"}
CLUSTER_WIDE = {"Namespace", "ClusterServingRuntime"}
H2C = "kubernetes.io/h2c"
METRICS = {  # ServiceMonitor: the Service, its port and the path that it scrapes
    "ServiceMonitor/ganserve": ("Service/ganserve", "http", "/metrics"),
    "ServiceMonitor/ganserve-envoy": ("Service/ganserve-envoy", "stats", "/stats/prometheus"),
}
LET_OUT: dict[str, set[int | str]] = {SERVER: {53, 5353, 4317}, EXPORT: {53, 5353, 443}, ENVOY: {53, 5353, "grpc"}}


def selected(selector: Mapping[str, Any], objects: Sequence[Object]) -> list[Pod]:
    """The pods that have every label of `matchLabels`; no other form of selector is used here."""
    assert set(selector) <= {"matchLabels"}, selector
    wanted = selector.get("matchLabels", {})
    return [pod for pod in pods(objects) if wanted.items() <= pod.labels.items()]


@policy("cpu", "Service/ganserve", "metadata labels app.kubernetes.io/part-of", "x", "lack")
def labels_are_consistent(objects: Sequence[Object]) -> Iterator[str]:
    for found in objects:
        labels = found["metadata"].get("labels", {})
        if not PART_OF.items() <= labels.items():
            yield f"{title(found)}: labels {labels} lack some of {PART_OF}"
        if found["kind"] not in CLUSTER_WIDE and found["metadata"].get("namespace") != "ganserve":
            yield f"{title(found)}: is not in the namespace"
    for pod in pods(objects):
        if pod.owner.startswith("InferenceService"):
            continue
        wanted = {**PART_OF, "app.kubernetes.io/component": pod.component}
        if not wanted.items() <= pod.labels.items():
            yield f"{pod.owner}: its pods' labels {dict(pod.labels)} lack some of {wanted}"


@policy("cpu", "Service/ganserve-headless", "spec selector app.kubernetes.io/component", ABSENT, "Job/ganserve-export")
def selectors_find_the_right_pods(objects: Sequence[Object]) -> Iterator[str]:
    """Servers for Deployment, Services, budget and spreading; a policy of its own for the export Job."""
    for found in objects:
        for what, selector in _selectors(found):
            component = found["metadata"]["labels"].get("app.kubernetes.io/component")
            owners = [(pod.owner, pod.component) for pod in selected(selector, objects)]
            if [where for _, where in owners] != [component]:
                yield f"{title(found)}: {what} {selector} finds {owners}, not the one {component}"


def _selectors(found: Object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    spec = found.get("spec", {})
    if found["kind"] == "Service":
        yield "selector", {"matchLabels": spec["selector"]}
    if found["kind"] in ("Deployment", "PodDisruptionBudget"):
        yield "selector", spec["selector"]
    if found["kind"] == "NetworkPolicy":
        yield "podSelector", spec["podSelector"]
    if found["kind"] == "Deployment":
        for constraint in spec["template"]["spec"]["topologySpreadConstraints"]:
            yield f"spread over {constraint['topologyKey']}", constraint["labelSelector"]


@policy("cpu", "Service/ganserve", "spec ports 0 targetPort", 8001, "port grpc")
def services_reach_the_ports(objects: Sequence[Object]) -> Iterator[str]:
    for service in of_kind(objects, "Service"):
        for pod in selected({"matchLabels": service["spec"]["selector"]}, objects):
            numbers = {port["name"]: port["containerPort"] for port in pod.main["ports"]}
            for port in service["spec"]["ports"]:
                name = port.get("name")
                if port["targetPort"] != name or numbers.get(name) != port["port"]:
                    yield f"{title(service)}: port {name} {port['port']} is none of {pod.owner}'s {numbers}"
                if name == "grpc" and port.get("appProtocol") != H2C:
                    yield f"{title(service)}: a proxy would not know that {name} is HTTP/2"


@policy("cpu", "Service/ganserve-headless", "spec publishNotReadyAddresses", True, "not ready")
def clients_find_ready_replicas(objects: Sequence[Object]) -> Iterator[str]:
    """One Service with an address of its own, and one whose name resolves to every ready replica."""
    if not any(of_kind(objects, "Deployment")):
        return
    plain, headless = named(objects, "Service/ganserve")["spec"], named(objects, "Service/ganserve-headless")["spec"]
    if plain.get("clusterIP") == "None" or headless.get("clusterIP") != "None":
        yield "not one Service with an address and one without"
    if headless.get("publishNotReadyAddresses"):
        yield "Service/ganserve-headless: names replicas that are not ready"


@policy("cpu", "ServiceMonitor/ganserve", "spec endpoints 0 port", "grpc", "headless")
def metrics_are_scraped_once(objects: Sequence[Object]) -> Iterator[str]:
    for monitor in of_kind(objects, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        through, port, path = METRICS[title(monitor)]
        for endpoint in monitor["spec"]["endpoints"]:
            services = [
                title(service)
                for service in of_kind(objects, "Service")
                if wanted <= service["metadata"]["labels"].items()
                and endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
            ]
            if services != [through] or endpoint["port"] != port:
                yield f"{title(monitor)}: port {endpoint['port']} is scraped through {services}"
            if endpoint["path"] != path:
                yield f"{title(monitor)}: scrapes {endpoint['path']}"


@policy("kserve", "PodMonitor/ganserve", "spec podMetricsEndpoints 0 relabelings 1 replacement", "$1:8001", "8001")
def metrics_of_kserves_pods_are_scraped(objects: Sequence[Object]) -> Iterator[str]:
    """KServe makes no monitor. The port of the metrics is not declared, so the address is made from the pod's."""
    for pod in servers(objects):
        if not pod.owner.startswith("InferenceService"):
            continue
        monitor = named(objects, "PodMonitor/ganserve")["spec"]
        if selected(monitor["selector"], objects) != [pod]:
            yield f"{pod.owner}: is not found by the PodMonitor"
        (endpoint,) = monitor["podMetricsEndpoints"]
        steps = {step.get("targetLabel", step["action"]): step for step in endpoint["relabelings"]}
        wanted = f"$1:{settings_of(pod, objects).http_port}"
        if (steps["__address__"]["replacement"], endpoint["path"]) != (wanted, "/metrics"):
            yield f"{pod.owner}: is scraped at {steps['__address__']['replacement']}{endpoint['path']}, not {wanted}"
        if steps["keep"]["regex"] != pod.main["name"]:
            yield f"{pod.owner}: the container {steps['keep']['regex']} is scraped, not {pod.main['name']}"


@policy("kserve", "ClusterServingRuntime/ganserve", "spec annotations prometheus.kserve.io/port", "8080", "8080")
def kserve_knows_the_ports(objects: Sequence[Object]) -> Iterator[str]:
    for service in of_kind(objects, "InferenceService"):
        model = service["spec"]["predictor"]["model"]
        runtime = named(objects, f"ClusterServingRuntime/{model['runtime']}")["spec"]
        pod = next(servers(objects))
        settings = settings_of(pod, objects)
        if model["modelFormat"]["name"] not in [each["name"] for each in runtime["supportedModelFormats"]]:
            yield f"{title(service)}: the runtime does not know the format {model['modelFormat']}"
        if model["protocolVersion"] not in runtime["protocolVersions"]:
            yield f"{title(service)}: the runtime does not speak {model['protocolVersion']}"
        annotations = runtime["annotations"]
        if annotations["prometheus.kserve.io/port"] != str(settings.http_port):
            yield f"{title(service)}: metrics are at {settings.http_port}, not {annotations}"
        if annotations["prometheus.kserve.io/path"] != "/metrics":
            yield f"{title(service)}: metrics are at /metrics, not {annotations}"
        if [each["name"] for each in runtime["containers"]] != ["kserve-container"]:
            yield f"{title(service)}: KServe looks for a container named kserve-container"
        if str(settings.repository) != "/mnt/models":
            yield f"{title(service)}: KServe mounts models at /mnt/models, not at {settings.repository}"


@policy("cpu", "NetworkPolicy/ganserve", "spec ingress 0 from", ABSENT, "everything")
def networks_are_closed(objects: Sequence[Object]) -> Iterator[str]:
    """Every pod of ours has a policy for both directions that names ports only; they reach only what they need."""
    for pod in pods(objects):
        found = [
            each for each in of_kind(objects, "NetworkPolicy") if pod in selected(at(each, "spec podSelector"), objects)
        ]
        if [sorted(each["spec"]["policyTypes"]) for each in found] != [["Egress", "Ingress"]]:
            yield f"{pod.owner}: not under one network policy for both directions"
        for each in found:
            ingress, egress = each["spec"].get("ingress", []), each["spec"]["egress"]
            if not all(rule.get("ports") and (rule.get("from") or rule.get("to")) for rule in [*ingress, *egress]):
                yield f"{title(each)}: a rule without peers or ports opens everything"
            inward = [port["port"] for rule in ingress for port in rule.get("ports", ())]
            wanted: list[Any] = [port["name"] for port in pod.main.get("ports", ())]
            if pod.owner.startswith("InferenceService"):
                wanted.append(settings_of(pod, objects).http_port)  # not declared, since Knative takes one port
            if inward != wanted:
                yield f"{title(each)}: lets in {inward}, not the ports of {pod.owner}"
            outward = {port["port"] for rule in egress for port in rule.get("ports", ())}
            pulls: set[int | str] = (
                {443} if any(container["name"] == "pull-models" for container in pod.containers) else set()
            )
            if outward != LET_OUT[pod.component] | pulls:
                yield f"{title(each)}: lets out {sorted(outward, key=str)}"


@policy("cpu", "ConfigMap/ganserve", "data GANSERVE_DRIAN_S", "30", "drian_s")
def settings_are_accepted(objects: Sequence[Object]) -> Iterator[str]:
    for pod in servers(objects):
        try:
            settings = settings_of(pod, objects)
        except ValidationError as error:
            yield f"{pod.owner}: " + "; ".join(f"{each['loc']}: {each['msg']}" for each in error.errors())
        except ValueError as error:
            yield f"{pod.owner}: {error}"
        else:
            if settings.model_control != "none":
                yield f"{pod.owner}: clients may load models, each on one replica only"
            if settings.threads is None or settings.codec_threads is None:
                yield f"{pod.owner}: as many threads as the node has cores"


@policy("cpu", "Deployment/ganserve", "spec progressDeadlineSeconds", 3600, "gives up after 3600 s")
def a_rollout_outlasts_the_export(objects: Sequence[Object]) -> Iterator[str]:
    """Servers wait for the export Job, which stays with its log however it ends, and is named after what it does."""
    for job in of_kind(objects, "Job"):
        spec = job["spec"]
        pod_s = at(spec, "template spec activeDeadlineSeconds") or float("inf")
        longest_s = (spec.get("backoffLimit", 6) + 1) * pod_s
        for found in of_kind(objects, "Deployment"):
            given_s = found["spec"].get("progressDeadlineSeconds", 600)
            if COMPONENTS[title(found)] == SERVER and given_s <= longest_s + 600:
                yield f"{title(found)}: gives up after {given_s} s, the export may take {longest_s:g} s"
        if "ttlSecondsAfterFinished" in spec or "activeDeadlineSeconds" in spec:
            yield f"{title(job)}: is deleted with its log, or its pods are"
        listed = named(objects, "ConfigMap/ganserve-export")
        if job["metadata"]["name"] != listed["metadata"]["name"]:
            yield f"{title(job)}: is not named after its list, {listed['metadata']['name']}"
        if at(spec, "template spec containers 0 image") != listed["data"]["image"]:
            yield f"{title(job)}: another image would be the same Job"


@policy("cpu", "ConfigMap/ganserve", "data GANSERVE_HOST", ABSENT, "listens on 127.0.0.1")
def servers_are_reached(objects: Sequence[Object]) -> Iterator[str]:
    for pod in servers(objects):
        address = settings_of(pod, objects).address
        if address != "0.0.0.0":
            yield f"{pod.owner}: listens on {address}; callers and probes come from outside the pod"


@policy("cpu", "ConfigMap/ganserve", "data GANSERVE_DRAIN_S", "120", "may need 135 s")
def a_stop_loses_nothing(objects: Sequence[Object]) -> Iterator[str]:
    for pod in servers(objects):
        settings = settings_of(pod, objects)
        needed_s = settings.shutdown_delay_s + settings.drain_s + CLOSE_S
        grace_s = pod.spec.get("terminationGracePeriodSeconds", 30)
        if grace_s <= needed_s:
            yield f"{pod.owner}: is killed after {grace_s} s, may need {needed_s:g} s"
        if settings.shutdown_delay_s < 2:
            yield f"{pod.owner}: stops before the endpoints know"
    for found in of_kind(objects, "Deployment", "InferenceService"):
        field = "spec strategy" if found["kind"] == "Deployment" else "spec predictor deploymentStrategy"
        if at(found, f"{field} rollingUpdate") != {"maxUnavailable": 0, "maxSurge": 1}:
            yield f"{title(found)}: a rollout stops a replica before its successor is ready"


@policy("cpu", "HorizontalPodAutoscaler/ganserve", "spec minReplicas", 1, "none stay")
def one_scaler_keeps_two_replicas(objects: Sequence[Object]) -> Iterator[str]:
    for found in of_kind(objects, "Deployment"):
        if COMPONENTS[title(found)] != SERVER:
            continue
        scalers = list(of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"))
        if not scalers and found["spec"].get("replicas") == 1:
            continue  # overlays/kind: one, and said so
        targets = [
            (target["apiVersion"], target["kind"], target["name"])
            for target in (scaler["spec"]["scaleTargetRef"] for scaler in scalers)
        ]
        if targets != [(found["apiVersion"], found["kind"], found["metadata"]["name"])]:
            yield f"{title(found)}: is scaled by {[title(scaler) for scaler in scalers]} of {targets}"
        if "replicas" in found["spec"]:
            yield f"{title(found)}: an apply would undo what the scaler did"
        budget = named(objects, "PodDisruptionBudget/ganserve")["spec"]
        for spec in (scaler["spec"] for scaler in scalers):
            low, high = (spec.get(f"{end}Replicas", spec.get(f"{end}ReplicaCount", 1)) for end in ("min", "max"))
            if not budget.get("maxUnavailable", low) < low < high:
                yield f"{title(found)}: {low} to {high} replicas, of which {budget} lets none stay"
    for found in of_kind(objects, "InferenceService"):
        if not 1 < found["spec"]["predictor"]["minReplicas"] < found["spec"]["predictor"]["maxReplicas"]:
            yield f"{title(found)}: may be down to one replica"
