"""Writes what the Helm chart is made of from the kustomizations; with --check, says whether that is current.

`files/objects.yaml` has the objects of overlays/cpu, `files/variants.yaml` what another overlay or a component changes
in them, as merge patches (RFC 7386: null deletes, a list is replaced as a whole). `templates/objects.yaml` puts them
together.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
K8S = HERE.parent
KUBECTL = Path(sys.executable).with_name("kubectl")
# Variant -> the overlay and components that show it, and those that it is compared with.
VARIANTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "gpu": (("gpu",), ("cpu",)),
    "kind": (("kind",), ("cpu",)),
    "keda": (("cpu", "keda"), ("cpu",)),
    "envoy": (("cpu", "envoy"), ("cpu",)),
    "gateway": (("cpu", "gateway-api"), ("cpu",)),
    "ingress": (("cpu", "ingress"), ("cpu",)),
    "oci": (("cpu", "oci-models"), ("cpu",)),
    "pull": (("cpu", "pull-models"), ("cpu",)),
    "plain": (("cpu", "envoy", "without-prometheus-operator"), ("cpu", "envoy")),
}
# What kustomize adds to a generated name. The template adds a hash of its own, since values change what is hashed.
HASHED = re.compile(r"\b(ganserve(?:-export|-envoy)?)-[a-z0-9]{10}\b")
MADE = "# Made by `python -m k8s.chart` from the kustomizations; not to be edited.\n"

Objects = dict[str, Any]


def kustomized(overlay: str, *components: str) -> str:
    """What kubectl's kustomize prints of an overlay with components."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(K8S / "overlays" / overlay, folder)],
            "components": [os.path.relpath(K8S / "components" / name, folder) for name in components],
        }
        (folder / "kustomization.yaml").write_text(json.dumps(kustomization))
        command = [str(KUBECTL), "kustomize", str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def objects_of(text: str) -> Objects:
    """The objects by kind and name, without hashes. Namespaces are Helm's to make."""
    found = yaml.load_all(HASHED.sub(r"\1-HASH", text), Loader=yaml.CSafeLoader)
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in found if each["kind"] != "Namespace"}


def merge_patch(before: Any, after: Any) -> Any:
    """What turns one into the other, by RFC 7386."""
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return after
    patch: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    for key, value in after.items():
        if key not in before or before[key] != value:
            patch[key] = merge_patch(before.get(key), value)
    return patch


def generated(render: Callable[..., str] = kustomized) -> dict[str, str]:
    """The files by name."""
    made = {names: objects_of(render(*names)) for names in {each for pair in VARIANTS.values() for each in pair}}
    variants = {name: merge_patch(made[before], made[after]) for name, (after, before) in VARIANTS.items()}
    contents: dict[str, Objects] = {"objects.yaml": made["cpu",], "variants.yaml": variants}
    return {name: MADE + yaml.dump(content, Dumper=_Readable, width=120) for name, content in contents.items()}


class _Readable(yaml.SafeDumper):
    """Texts of several lines as they are."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Readable.add_representer(str, _Readable.represent_str)


def main() -> int:
    """Writes the files, or with --check returns 1 if one is stale."""
    made = generated()
    stale = [name for name, text in made.items() if not _is(HERE / "files" / name, text)]
    if sys.argv[1:] == ["--check"]:
        if stale:
            print(f"stale: {', '.join(stale)}; run `python -m k8s.chart`", file=sys.stderr)
        return int(bool(stale))
    for name, text in made.items():
        (HERE / "files" / name).write_text(text)
    return 0


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main())
