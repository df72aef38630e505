"""The pods that the objects of an overlay would make, and what the server in them would be told."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import typer

from ganserve.cli.app import app
from server.settings import PREFIX, Settings
from tests.k8s.rendering import Object, of_kind, title

EXPORT = "export"
SERVER = "server"
ENVOY = "envoy"
DATASET = "dataset"
COMPONENTS = {
    "Deployment/ganserve": SERVER,
    "Deployment/ganserve-envoy": ENVOY,
    "Job/ganserve-export": EXPORT,
    "Job/ganserve-dataset": DATASET,
}
TOP = typer.main.get_group(app)
SUFFIXES = {"m": 1e-3, "": 1.0, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}


@dataclass(frozen=True)
class Pod:
    """A pod template with what it belongs to."""

    owner: str
    component: str  # one of COMPONENTS
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def containers(self) -> list[Mapping[str, Any]]:
        """All of them, those that run first included."""
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]

    @property
    def main(self) -> Mapping[str, Any]:
        """The one that does the pod's work."""
        return dict(self.spec["containers"][0])

    def where(self, container: Mapping[str, Any]) -> str:
        return f"{self.owner} container {container['name']}"


def pods(objects: Sequence[Object]) -> Iterator[Pod]:
    """One for each Deployment, Job and InferenceService."""
    for found in of_kind(objects, "Deployment", "Job"):
        template = found["spec"]["template"]
        yield Pod(title(found), COMPONENTS[title(found)], template["metadata"].get("labels", {}), template["spec"])
    for found in of_kind(objects, "InferenceService"):
        yield _predictor(found, objects)


def servers(objects: Sequence[Object]) -> Iterator[Pod]:
    return (pod for pod in pods(objects) if pod.component == SERVER)


def _predictor(service: Object, objects: Sequence[Object]) -> Pod:
    """As KServe makes it: the runtime's pod, with the predictor's own fields over it and the model mounted."""
    predictor = service["spec"]["predictor"]
    runtimes = {found["metadata"]["name"]: found for found in of_kind(objects, "ClusterServingRuntime")}
    runtime = runtimes[predictor["model"]["runtime"]]["spec"]
    spec = {**runtime, **predictor}
    claim, _, folder = predictor["model"]["storageUri"].removeprefix("pvc://").partition("/")
    spec["volumes"] = [
        *runtime.get("volumes", ()),
        *predictor.get("volumes", ()),
        {"name": "kserve-pvc-source", "persistentVolumeClaim": {"claimName": claim}},
    ]
    mount = {"name": "kserve-pvc-source", "mountPath": "/mnt/models", "subPath": folder, "readOnly": True}
    first, *others = runtime["containers"]
    spec["containers"] = [{**first, "volumeMounts": [*first.get("volumeMounts", ()), mount]}, *others]
    return Pod(title(service), SERVER, {"serving.kserve.io/inferenceservice": service["metadata"]["name"]}, spec)


def quantity(text: object) -> float:
    """A Kubernetes quantity as a number: 100m, 2, 4Gi."""
    digits = str(text).rstrip("mKMGi")
    return float(digits) * SUFFIXES[str(text)[len(digits) :]]


def environment(pod: Pod, container: Mapping[str, Any], objects: Sequence[Object]) -> dict[str, str]:
    """The variables of a container: its ConfigMaps', then its own over them."""
    data = {found["metadata"]["name"]: found["data"] for found in of_kind(objects, "ConfigMap")}
    variables: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        variables |= data.get(source["configMapRef"]["name"], {})
    for entry in container.get("env", ()):
        variables[entry["name"]] = entry["value"] if "value" in entry else _field(pod, entry["valueFrom"])
    return variables


def _field(pod: Pod, source: Mapping[str, Any]) -> str:
    wanted = source["resourceFieldRef"]
    container = next(each for each in pod.containers if each["name"] == wanted["containerName"])
    group, name = wanted["resource"].split(".")
    return str(ceil(quantity(container["resources"][group][name]) / quantity(wanted.get("divisor", "1"))))


def parse(words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The subcommand of `ganserve WORDS...` and its options, by the real command; nothing is run.

    Raises:
        ValueError: it would be refused.
    """
    name, *rest = words
    try:
        return name, TOP.commands[name].make_context(name, rest).params
    except Exception as error:  # click's own, whose module depends on the version of typer
        raise ValueError(f"ganserve {' '.join(words)}: {error}") from None


def settings_of(pod: Pod, objects: Sequence[Object]) -> Settings:
    """What the server of the pod would be told: options over variables.

    Raises:
        ValueError: it would refuse to start.
    """
    container = pod.main
    found = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment(pod, container, objects).items()
        if name.startswith(PREFIX)
    }
    _, options = parse([*container["command"][1:], *container.get("args", ())])
    given = {name: value for name, value in options.items() if value is not None and name != "as_json"}
    return Settings(**{**found, **given})
