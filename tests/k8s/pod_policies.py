"""What must be true of every container: each policy gives one line for each place where it is not."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from server.settings import Settings
from tests.k8s.pods import ENVOY, SERVER, Pod, environment, parse, pods, quantity, servers, settings_of
from tests.k8s.policy import ABSENT, FIRST, POD, policy
from tests.k8s.rendering import ROOT, Object, base_name, of_kind

GPU = "nvidia.com/gpu"
PULL = "pull-models"
PULLS_WITH = re.compile(r"docker\.io/rclone/rclone:\d+\.\d+\.\d+")
DIGEST = re.compile(r"[\w./:-]+@sha256:[0-9a-f]{64}")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def security(pod: Pod, container: Mapping[str, Any], field: str) -> Any:
    """What holds for a container: its own, else its pod's."""
    own = container.get("securityContext", {})
    return own.get(field, pod.spec.get("securityContext", {}).get(field))


@policy("cpu", "Job/ganserve-export", f"{FIRST} securityContext runAsUser", 0, "runAsUser")
def not_root(objects: Sequence[Object]) -> Iterator[str]:
    for pod in pods(objects):
        for container in pod.containers:
            if security(pod, container, "runAsNonRoot") is not True:
                yield f"{pod.where(container)}: runAsNonRoot is not true"
            if not (security(pod, container, "runAsUser") or 0) >= 10000:
                yield f"{pod.where(container)}: runAsUser is not a number that no user of the node has"


@policy(
    "gpu",
    "Deployment/ganserve",
    f"{POD} initContainers 0 securityContext readOnlyRootFilesystem",
    False,
    "wait-for-models",
)
def root_file_system_read_only(objects: Sequence[Object]) -> Iterator[str]:
    for pod in pods(objects):
        for container in pod.containers:
            if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
                yield f"{pod.where(container)}: readOnlyRootFilesystem is not true"


@policy("cpu", "Deployment/ganserve", f"{FIRST} securityContext allowPrivilegeEscalation", ABSENT, "gain privileges")
def no_privileges(objects: Sequence[Object]) -> Iterator[str]:
    for pod in pods(objects):
        for container in pod.containers:
            context = container.get("securityContext", {})
            if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
                yield f"{pod.where(container)}: may gain privileges"
            if context.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{pod.where(container)}: does not drop all capabilities"
            if security(pod, container, "seccompProfile") != {"type": "RuntimeDefault"}:
                yield f"{pod.where(container)}: seccompProfile is not RuntimeDefault"
        if any(pod.spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{pod.owner}: shares a namespace of its node"
        if any("hostPath" in volume for volume in pod.spec.get("volumes", ())):
            yield f"{pod.owner}: mounts a path of its node"


@policy("cpu", "Deployment/ganserve", f"{POD} automountServiceAccountToken", ABSENT, "token")
def no_service_account_token(objects: Sequence[Object]) -> Iterator[str]:
    for pod in pods(objects):
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.owner}: mounts a service account token"
    for account in of_kind(objects, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount/{base_name(account)}: its token is mounted"


@policy("cpu", "Deployment/ganserve", f"{POD} enableServiceLinks", ABSENT, "each Service")
def no_service_links(objects: Sequence[Object]) -> Iterator[str]:
    """GANSERVE_SERVICE_HOST of a Service called ganserve would be an unknown setting."""
    for pod in pods(objects):
        if pod.spec.get("enableServiceLinks") is not False:
            yield f"{pod.owner}: gets a variable for each Service"


@policy("cpu", "Deployment/ganserve", f"{FIRST} resources limits memory", ABSENT, "memory")
def resources_are_bounded(objects: Sequence[Object]) -> Iterator[str]:
    for pod in pods(objects):
        for container in pod.containers:
            requests = container.get("resources", {}).get("requests", {})
            limits = container.get("resources", {}).get("limits", {})
            for name in ("cpu", "memory", *(requests.keys() | limits.keys()) - {"cpu", "memory"}):
                if name not in requests or name not in limits:
                    yield f"{pod.where(container)}: {name} has no request or no limit"
                elif quantity(requests[name]) > quantity(limits[name]):
                    yield f"{pod.where(container)}: requests more {name} than its limit"
        for name, volume in ((each["name"], each.get("emptyDir")) for each in pod.spec.get("volumes", ())):
            if volume is not None and "sizeLimit" not in volume:
                yield f"{pod.owner}: volume {name} has no sizeLimit"


@policy("cpu", "Deployment/ganserve", f"{FIRST} image", "ghcr.io/ganserve/ganserve-cpu:latest", ":latest")
def images_are_of_this_version(objects: Sequence[Object]) -> Iterator[str]:
    for pod in (each for each in pods(objects) if each.component != ENVOY):
        on_gpu = settings_of(pod, objects).device.startswith("cuda") if pod.component == SERVER else False
        kind = ("gpu" if on_gpu else "cpu") if pod.component == SERVER else "export"
        for container in pod.containers:
            if container["name"] == PULL and PULLS_WITH.fullmatch(container["image"]):
                continue
            if not container["image"].endswith(f"/ganserve-{kind}:{VERSION}"):
                yield f"{pod.where(container)}: image {container['image']} is not ganserve-{kind} {VERSION}"


@policy("cpu", "Deployment/ganserve", f"{FIRST} startupProbe httpGet path", "/readyz", "/readyz")
def servers_are_probed(objects: Sequence[Object]) -> Iterator[str]:
    for pod in servers(objects):
        settings = settings_of(pod, objects)
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            for problem in _probe(pod, name, settings):
                yield f"{pod.where(pod.main)}: {name} {problem}"


def _probe(pod: Pod, name: str, settings: Settings) -> Iterator[str]:
    probe = pod.main.get(name, {})
    if "grpc" in probe:
        if name != "readinessProbe":
            yield "follows readiness: a model that cannot be loaded would restart the server"
        if probe["grpc"]["port"] != settings.grpc_port or probe["grpc"].get("service"):
            yield "does not check the server as a whole on the gRPC port"
    elif "httpGet" in probe:
        numbers = {port["name"]: port["containerPort"] for port in pod.main["ports"]}
        port = probe["httpGet"]["port"]
        if numbers.get(port, port) != settings.http_port:
            yield f"reads port {port}, which is not the server's HTTP port"
        if probe["httpGet"]["path"] != ("/readyz" if name == "readinessProbe" else "/livez"):
            yield f"reads {probe['httpGet']['path']}"
    else:
        yield "is missing"


@policy("cpu", "ConfigMap/ganserve", "data GANSERVE_HTTP_PORT", "9002", "9002")
def ports_are_named(objects: Sequence[Object]) -> Iterator[str]:
    for pod in servers(objects):
        settings = settings_of(pod, objects)
        numbers = {port.get("name"): port["containerPort"] for port in pod.main.get("ports", ())}
        wanted = {"grpc": settings.grpc_port, "rest": settings.api_port, "http": settings.http_port}
        if pod.owner.startswith("InferenceService"):
            wanted = {"h2c": settings.grpc_port}  # Knative takes one port and knows HTTP/2 by this name
        if numbers != wanted:
            yield f"{pod.owner}: ports are {numbers}, the server listens at {wanted}"


@policy("cpu+oci-models", "Deployment/ganserve", f"{POD} volumes 0 image reference", "ghcr.io/m/m:1", "not a digest")
def models_from_a_registry_are_pinned(objects: Sequence[Object]) -> Iterator[str]:
    """A tag that moves would give the replicas different models."""
    for pod in pods(objects):
        for volume in pod.spec.get("volumes", ()):
            reference = volume.get("image", {}).get("reference")
            if reference is not None and not DIGEST.fullmatch(reference):
                yield f"{pod.owner}: volume {volume['name']} is {reference}, not a digest"


@policy("gpu+pull-models", "Deployment/ganserve", f"{POD} initContainers 0 args 6", "/models", "lost+found")
def models_are_pulled_to_where_the_server_reads_them(objects: Sequence[Object]) -> Iterator[str]:
    for pod in servers(objects):
        for container in pod.containers:
            if container["name"] == PULL and container["args"][-1] != str(settings_of(pod, objects).repository):
                yield f"{pod.owner}: {container['args'][-1]} is not the repository, nor may it be, with its lost+found"


@policy("cpu", "ConfigMap/ganserve", "data GANSERVE_ENGINE_CACHE", "/models/cache", "cannot be written")
def files_have_a_place(objects: Sequence[Object]) -> Iterator[str]:
    """The repository is a volume, read-only for servers; caches and temporary files are on volumes of their own."""
    for pod in (each for each in pods(objects) if each.component != ENVOY):
        main = pod.main
        read_only = {mount["mountPath"]: mount.get("readOnly", False) for mount in main.get("volumeMounts", ())}
        home = environment(pod, main, objects).get("HOME", "/tmp")
        writable = [home, "/tmp"]
        if pod.component == SERVER:
            settings = settings_of(pod, objects)
            if _mount(read_only, str(settings.repository)) is not True:
                yield f"{pod.owner}: {settings.repository} is not on a read-only volume"
            writable.append(str(settings.cache_folder))
        else:
            _, repository, cache = main["args"]
            writable += [repository, cache]
            if PurePosixPath(repository) in map(PurePosixPath, read_only):
                yield f"{pod.owner}: {repository} is a volume's root, where lost+found may lie"
        for path in writable:
            if _mount(read_only, path) is not False:
                yield f"{pod.owner}: {path} cannot be written"


def _mount(read_only: Mapping[str, bool], path: str) -> bool | None:
    """Whether the volume at or above the path is read-only; None: there is none."""
    for parent in (PurePosixPath(path), *PurePosixPath(path).parents):
        if str(parent) in read_only:
            return read_only[str(parent)]
    return None


@policy("cpu", "Deployment/ganserve", f"{POD} volumes 0 persistentVolumeClaim claimName", "other", "other")
def volumes_exist(objects: Sequence[Object]) -> Iterator[str]:
    there = {(found["kind"], found["metadata"]["name"]) for found in objects}
    for pod in pods(objects):
        volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", ())}
        wanted = [("ServiceAccount", pod.spec["serviceAccountName"])] if "serviceAccountName" in pod.spec else []
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                wanted.append(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
            if "configMap" in volume:
                wanted.append(("ConfigMap", volume["configMap"]["name"]))
        for container in pod.containers:
            sources = container.get("envFrom", ())
            wanted += [("ConfigMap", source["configMapRef"]["name"]) for source in sources if "configMapRef" in source]
            for mount in container.get("volumeMounts", ()):
                if mount["name"] not in volumes:
                    yield f"{pod.where(container)}: mounts {mount['name']}, which is no volume"
        yield from (f"{pod.owner}: {kind}/{name} is nowhere" for kind, name in wanted if (kind, name) not in there)


@policy(
    "gpu", "Job/ganserve-export", f"{POD} nodeSelector", {"nvidia.com/gpu.product": "NVIDIA-T4"}, "same kind of node"
)
def engines_are_built_where_they_run(objects: Sequence[Object]) -> Iterator[str]:
    """The export Job gets the same kind of GPU as the servers, and they one that the CUDA build can use."""
    kinds = {
        pod.owner: {name: pod.spec.get(name) for name in ("nodeSelector", "tolerations", "runtimeClassName")}
        for pod in pods(objects)
        if pod.component != ENVOY
    }
    if any(kind != next(iter(kinds.values())) for kind in kinds.values()):
        yield f"not on the same kind of node: {kinds}"
    on_gpu = any(settings_of(pod, objects).device.startswith("cuda") for pod in servers(objects))
    for pod in pods(objects):
        has_gpu = GPU in pod.main["resources"]["limits"]
        if has_gpu != (on_gpu and pod.component != ENVOY):
            yield f"{pod.owner}: {'has' if has_gpu else 'lacks'} a GPU"
        if has_gpu and not (pod.spec.get("nodeSelector") and pod.spec.get("runtimeClassName")):
            yield f"{pod.owner}: nothing says which GPU"
    lists = [found for found in of_kind(objects, "ConfigMap") if base_name(found) == "ganserve-export"]
    for line in (line for models in lists for line in models["data"]["models.txt"].splitlines()):
        if line and not line.startswith("#"):
            name, version, checkpoint, *options = line.split()
            _, given = parse(
                ["export", checkpoint, "--repository", "r", "--name", name, "--version", version, *options]
            )
            if (given["tensorrt"] is not None) != on_gpu:
                yield f"{name}: exported {'with' if given['tensorrt'] else 'without'} an engine"
