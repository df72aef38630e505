"""k8s/ as a cluster would get it: rendered by kubectl's kustomize, read, and looked up."""

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
OVERLAYS = ("cpu", "gpu", "keda", "kserve", "kind")
WITH_ENVOY = ("cpu+envoy", "gpu+envoy", "keda+envoy")
WITHOUT_EXPORT = ("cpu+oci-models", "gpu+pull-models")
REACHED = ("cpu+gateway-api", "gpu+ingress", "cpu+tls+tracing")
DEPLOYED = (*OVERLAYS, *WITH_ENVOY, *WITHOUT_EXPORT, *REACHED)
HASH = re.compile(r"-[a-z0-9]{10}$")  # what kustomize adds to the name of a ConfigMap that it generates
KUBECTL = Path(sys.executable).with_name("kubectl")  # of the extra `dev`; others may carry a kustomize that is too old

Object = dict[str, Any]


@functools.cache
def rendered_text(folder: Path) -> str:
    """What `kubectl kustomize` prints of a folder. Neither the network nor a cluster is needed."""
    command = [str(KUBECTL), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    assert not done.stderr, f"kustomize warns: {done.stderr}"
    return done.stdout


def overlay(name: str) -> list[Object]:
    """The objects of one of `DEPLOYED`, overlay+component, the caller's own copies."""
    return compose(*name.split("+"))


def compose(name: str, *components: str) -> list[Object]:
    """The objects of an overlay with components over it, in that order."""
    return _read(composed_text(name, *components))


@functools.cache
def composed_text(name: str, *components: str) -> str:
    """What kubectl prints of them."""
    if not components:
        return rendered_text(K8S / "overlays" / name)
    folders = [str(K8S / "components" / component) for component in components]
    kustomization = {"resources": [str(K8S / "overlays" / name)], "components": folders}
    return _written_text(kustomization, {})


def written(kustomization: Mapping[str, Any], files: Mapping[str, str]) -> list[Object]:
    """The objects of a kustomization that a user would write, with the files next to it; its folders are absolute."""
    return _read(_written_text(kustomization, files))


def _written_text(kustomization: Mapping[str, Any], files: Mapping[str, str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder).resolve()
        for name, text in files.items():
            (here / name).write_text(text)
        relative = {
            field: [os.path.relpath(path, here) for path in kustomization.get(field, ())]
            for field in ("resources", "components")
        }
        kind = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
        (here / "kustomization.yaml").write_text(json.dumps({**kind, **kustomization, **relative}))
        return rendered_text(here)


def _read(text: str) -> list[Object]:
    return list(yaml.load_all(text, Loader=yaml.CSafeLoader))


def base_name(found: Object) -> str:
    """The name without the hash that a generated ConfigMap's ends in, and the Job's that is named after one."""
    name = str(found["metadata"]["name"])
    return HASH.sub("", name) if found["kind"] in ("ConfigMap", "Job") else name


def title(found: Object) -> str:
    """Kind/name, for messages and look-ups."""
    return f"{found['kind']}/{base_name(found)}"


def of_kind(objects: Sequence[Object], *kinds: str) -> Iterator[Object]:
    """Those of these kinds, in their order."""
    return (found for found in objects if found["kind"] in kinds)


def named(objects: Sequence[Object], kind_and_name: str) -> Object:
    """The only one of that `title`.

    Raises:
        LookupError: none, or more than one.
    """
    found = [each for each in objects if title(each) == kind_and_name]
    if len(found) != 1:
        raise LookupError(f"{len(found)} objects {kind_and_name}; there are {sorted(map(title, objects))}")
    return found[0]


def at(found: Any, path: str) -> Any:
    """The value at a path such as `spec containers 0 image`: keys and indices with blanks between. None: absent."""
    for key in path.split():
        if isinstance(found, list):
            found = found[int(key)] if int(key) < len(found) else None
        else:
            found = (found or {}).get(key)
    return found
