"""Copies of the overlays that are broken in one place, to see a policy fail."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.k8s.rendering import Object, named

ABSENT = object()  # takes the field away


@dataclass(frozen=True)
class Break:
    """`path` of `where` becomes `value`; the policy must then say `says`."""

    policy: str
    overlay: str
    where: str
    path: str
    value: Any
    says: str

    @classmethod
    def each(cls, policy: str, *rows: tuple[str, str, str, Any, str]) -> list["Break"]:
        """One for each row: overlay, where, path, value, says."""
        return [cls(policy, *row) for row in rows]

    def __str__(self) -> str:
        return f"{self.policy}-{self.path.replace(' ', '.')}"


def broken(objects: Sequence[Object], case: Break) -> list[Object]:
    """A copy with that one change; the change is one."""
    copied = copy.deepcopy(list(objects))
    found: Any = named(copied, case.where)
    *parents, last = case.path.split()
    for key in parents:
        found = found[int(key)] if isinstance(found, list) else found.setdefault(key, {})
    key_or_index: Any = int(last) if isinstance(found, list) else last
    if case.value is ABSENT:
        del found[key_or_index]
    else:
        before = found[key_or_index] if isinstance(found, list) else found.get(key_or_index)
        assert before != case.value, f"{case}: is so already"
        found[key_or_index] = case.value
    return copied


SERVER = "Deployment/ganserve"
JOB = "Job/ganserve-export"
POD = "spec template spec"
FIRST = f"{POD} containers 0"
ISVC = "InferenceService/ganserve"
RUNTIME = "ClusterServingRuntime/ganserve"
CONFIG = "ConfigMap/ganserve"
MODELS = "ConfigMap/ganserve-models"
PDB = "PodDisruptionBudget/ganserve"
NETWORK = "NetworkPolicy/ganserve"
ENVOY = "Deployment/ganserve-envoy"
ENVOY_CONFIG = "ConfigMap/ganserve-envoy"
HPA = "HorizontalPodAutoscaler/ganserve"
KEDA = "ScaledObject/ganserve"
