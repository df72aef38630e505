"""k8s/quickstart.sh with stand-ins for what needs a cluster or a container engine: what it asks them for."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.container.dockerfile import TARGETS
from tests.k8s.pods import pods
from tests.k8s.rendering import K8S, ROOT, at, named, overlay

SCRIPT = K8S / "quickstart.sh"
# Notes its words. `kind get clusters` prints none. curl needs the port-forward, which runs beside it, to be there.
STAND_IN = """\
#!/bin/sh
case $0 in */curl) until grep -q port-forward "$NOTES"; do sleep 0.05; done ;; esac
echo "$(basename "$0") $*" >> "$NOTES"
"""
COMMANDS = {"kind": ["kind"], "minikube": ["minikube"], "k3s": ["k3s"]}


def run(folder: Path, cluster: str, without: str = "") -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """What the script says, and the words of each command that it ran."""
    found = folder / "bin"
    found.mkdir()
    for name in {"kubectl", "docker", "curl", *COMMANDS.get(cluster, ())} - {without}:
        (found / name).write_text(STAND_IN)
        (found / name).chmod(0o755)
    for name in ("sh", "dirname", "basename", "grep", "sleep"):  # and nothing else that this machine may have
        (found / name).symlink_to(next(p for p in map(Path, ("/bin", "/usr/bin")) if (p / name).exists()) / name)
    notes = folder / "notes"
    environment = {"PATH": str(found), "NOTES": str(notes)}
    words = [str(found / "sh"), str(SCRIPT), cluster]
    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    return done, [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []


@pytest.mark.parametrize("cluster", COMMANDS)
def test_each_step_names_what_the_overlay_and_the_dockerfile_have(tmp_path: Path, cluster: str) -> None:
    done, calls = run(tmp_path, cluster)
    assert done.returncode == 0, done.stderr
    (applied,) = [call[3] for call in calls if call[:3] == ["kubectl", "apply", "-k"]]
    assert ROOT / applied == K8S / "overlays" / "kind"
    objects = overlay("kind")
    images = {container["image"] for pod in pods(objects) for container in pod.containers}
    built = {call[5]: call[3] for call in calls if call[:2] == ["docker", "build"]}
    assert set(built) == images
    assert set(built.values()) < set(TARGETS)
    loading = {"kind": ["kind", "load"], "minikube": ["minikube", "image", "load"], "k3s": ["docker", "save"]}[cluster]
    loads = [call for call in calls if call[: len(loading)] == loading]
    assert {word for call in loads for word in call if word in images} == images
    (forwarded,) = [call for call in calls if "port-forward" in call]
    deployment = named(objects, forwarded[4].replace("deployment", "Deployment"))
    ports = at(deployment, "spec template spec containers 0 ports")
    assert int(forwarded[5].partition(":")[2]) in [port["containerPort"] for port in ports]
    (waited,) = [call for call in calls if "rollout" in call]
    assert waited[3:6] == ["rollout", "status", forwarded[4]]
    order = [calls.index(call) for call in (loads[-1], ["kubectl", "apply", "-k", applied], waited)]
    assert order == sorted(order)


def test_the_picture_is_asked_for_as_the_readme_does_whose_commands_are_run() -> None:
    (asked,) = re.findall(r"localhost:8000/\S+ -d '.*'", SCRIPT.read_text())
    assert asked in (ROOT / "README.md").read_text()


def test_a_cluster_is_made_only_for_kind(tmp_path: Path) -> None:
    for cluster in COMMANDS:
        (tmp_path / cluster).mkdir()
        _, calls = run(tmp_path / cluster, cluster)
        assert any("create" in call for call in calls) == (cluster == "kind")


@pytest.mark.parametrize("missing", ["kubectl", "docker", "kind"])
def test_a_command_that_is_missing_is_named_before_anything_is_done(tmp_path: Path, missing: str) -> None:
    done, calls = run(tmp_path, "kind", without=missing)
    assert (done.returncode, calls) == (2, [])
    assert done.stderr == f"quickstart.sh: needs {missing}, which is not on the path\n"


def test_a_cluster_of_another_kind_is_refused(tmp_path: Path) -> None:
    done, calls = run(tmp_path, "minicube")
    assert (done.returncode, calls) == (2, [])
    assert done.stderr == "quickstart.sh: minicube is none of kind, minikube, k3s\n"


def test_the_script_may_be_executed() -> None:
    assert os.access(SCRIPT, os.X_OK)
