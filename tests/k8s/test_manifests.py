"""Every overlay renders, and every object of it is one that an API server accepts, spelling included."""

import copy
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.k8s.rendering import DEPLOYED, K8S, Object, at, named, of_kind, overlay, title, written
from tests.k8s.wiring_policies import labels_are_consistent

VERSIONS = ("1.32", "1.37")
WORKLOADS = ("Deployment/ganserve", "Job/ganserve-export")
SCHEMAS = Path(__file__).parent / "schemas"
OF_OTHERS = {path.stem for path in SCHEMAS.glob("*.json")}  # kinds that are not Kubernetes' own
FREE = {"annotations", "data", "labels", "limits", "matchLabels", "nodeSelector", "podSelector", "requests", "selector"}


@functools.cache
def validator(kind: str, version: str) -> Draft202012Validator:
    """Of our own schema of a kind; pods and the like are as that version of Kubernetes has them."""
    definitions = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    registry: Registry[Any] = (
        Resource.from_contents(json.loads((definitions / "_definitions.json").read_text())) @ Registry()
    )
    return Draft202012Validator(json.loads((SCHEMAS / f"{kind}.json").read_text()), registry=registry)


def problem(found: Object, version: str) -> str:
    """What an API server of that version would say; empty if it accepts the object."""
    return _problem(json.dumps(found), version)


@functools.cache  # many overlays have the same objects
def _problem(text: str, version: str) -> str:
    found = json.loads(text)
    if found["kind"] in OF_OTHERS:
        errors = list(validator(found["kind"], version).iter_errors(found))
        return "; ".join(f"{error.json_path}: {error.message}" for error in errors)
    try:
        kubernetes_validate.validate(found, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{error.json_path}: {error.message}"
    return ""


def keys(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all fields whose names Kubernetes gives."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            if key not in FREE:
                yield from keys(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from keys(inner, (*path, index))


def misspelt(found: Object, path: tuple[Any, ...]) -> Object:
    """A copy in which the field at that path has one letter more."""
    copied = copy.deepcopy(found)
    inner: Any = copied
    for key in path[:-1]:
        inner = inner[key]
    inner[f"{path[-1]}x"] = inner.pop(path[-1])
    return copied


@pytest.mark.parametrize("name", DEPLOYED)
def test_every_overlay_renders_objects_that_differ_in_name(name: str) -> None:
    objects = overlay(name)
    assert len({(found["kind"], found["metadata"]["name"]) for found in objects}) == len(objects) >= 7


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", DEPLOYED)
def test_every_object_is_as_its_schema_says(name: str, version: str) -> None:
    assert {title(found): problem(found, version) for found in overlay(name) if problem(found, version)} == {}


def test_every_schema_is_one_and_is_needed() -> None:
    assert {found["kind"] for name in DEPLOYED for found in overlay(name)} >= OF_OTHERS
    for kind in OF_OTHERS:
        Draft202012Validator.check_schema(json.loads((SCHEMAS / f"{kind}.json").read_text()))


@pytest.mark.parametrize("kind", sorted(OF_OTHERS))
def test_a_misspelt_field_of_others_kinds_is_found_wherever_it_stands(kind: str) -> None:
    found = next(each for name in DEPLOYED for each in of_kind(overlay(name), kind))
    paths = list(keys({"spec": found["spec"]}))
    assert len(paths) > 5
    assert [path for path in paths if not problem(misspelt(found, path), VERSIONS[1])] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_misspelt_field_of_kubernetes_own_is_found(version: str) -> None:
    path = ("spec", "behavior", "scaleUp", "stabilizationWindowSeconds")
    found = named(overlay("cpu"), "HorizontalPodAutoscaler/ganserve")
    assert f"{path[-1]}x" in problem(misspelt(found, path), version)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("ScaledObject", ("spec", "triggers", 0, "metadata", "threshold"), "50m"),
        ("ScaledObject", ("spec", "minReplicaCount"), "2"),
        ("ServiceMonitor", ("spec", "endpoints", 0, "interval"), "15 s"),
        ("InferenceService", ("spec", "predictor", "model", "protocolVersion"), "grpc"),
        ("ClusterServingRuntime", ("spec", "containers", 0, "ports", 0, "containerPort"), "8001"),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "for"), "soon"),
    ],
)
def test_a_value_of_another_type_is_found(kind: str, path: tuple[Any, ...], value: object) -> None:
    found = next(each for name in DEPLOYED for each in of_kind(overlay(name), kind))
    inner: Any = found
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert problem(found, VERSIONS[1])


def test_the_overlay_that_the_readme_shows_renders() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (K8S / "README.md").read_text(), re.DOTALL)
    kustomization = yaml.safe_load(block.replace("../ganserve/k8s", str(K8S)))
    objects = written(kustomization, {"models.txt": "mine 7 digits\n"})
    assert [problem(found, VERSIONS[1]) for found in objects if problem(found, VERSIONS[1])] == []
    assert list(labels_are_consistent(objects)) == []
    assert {title(found) for found in objects} >= {"ScaledObject/ganserve", "Deployment/ganserve-envoy"}
    assert at(named(objects, "ConfigMap/ganserve-export"), "data models.txt") == "mine 7 digits\n"
    assert at(named(objects, "ConfigMap/ganserve"), "data GANSERVE_LOG_LEVEL") == "debug"
    images = {at(named(objects, title), "spec template spec containers 0 image") for title in WORKLOADS}
    assert {image.rpartition(":")[0] for image in images} == {
        "registry.example.com/ganserve-gpu", "registry.example.com/ganserve-export",
    }  # fmt: skip
    assert at(named(objects, "ServiceAccount/ganserve"), "imagePullSecrets") == [{"name": "registry"}]
