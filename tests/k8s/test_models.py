"""The export Job's script and the servers' wait, run as the pods run them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from artifact.repository import MANIFEST, ONNX, read_manifest
from models.zoo.entries import ENTRIES
from tests.k8s.pods import EXPORT, parse, pods
from tests.k8s.rendering import K8S, OVERLAYS, at, named, overlay, written
from tests.k8s.wiring_policies import a_rollout_outlasts_the_export

# In place of `ganserve`: notes its arguments, and writes what an export would, or fails if the name says so.
STAND_IN = """\
#!/bin/sh
echo "$@" >> "$NOTES"
case $2 in broken) exit 2 ;; esac
shift 2
while [ $# -gt 1 ]; do
  case $1 in --repository) repository=$2 ;; --name) name=$2 ;; --version) version=$2 ;; esac
  shift
done
mkdir -p "$repository/$name/$version"
echo '{}' > "$repository/$name/$version/manifest.json"
"""


class Volume:
    """What the Job's pod has at hand: scripts and list from the overlay, an empty repository, a cache."""

    def __init__(self, folder: Path, name: str) -> None:
        self.repository, self.cache, self.notes = folder / "repository", folder / "cache", folder / "notes"
        self._mounted = folder / "mounted"
        self._mounted.mkdir()
        self._objects = overlay(name)
        for file, text in named(self._objects, "ConfigMap/ganserve-export")["data"].items():
            (self._mounted / file).write_text(text)
        stand_in = folder / "bin" / "ganserve"
        stand_in.parent.mkdir()
        stand_in.write_text(STAND_IN)
        stand_in.chmod(0o755)
        self.environment = {"PATH": f"{stand_in.parent}:{os.defpath}", "NOTES": str(self.notes)}

    def write_list(self, *lines: str) -> None:
        (self._mounted / "models.txt").write_text("".join(f"{line}\n" for line in lines))

    def command(self, script: str, container: dict[str, list[str]]) -> list[str]:
        """A container's command, with the paths of this machine."""
        assert container["command"][1].endswith(script)
        here = {"/etc/ganserve": self._mounted, "/models/repository": self.repository, "/cache": self.cache}
        words = [*container["command"], *container["args"]]
        for there, path in here.items():
            words = [word.replace(there, str(path)) if word.startswith(there) else word for word in words]
        return words

    def export(self) -> subprocess.CompletedProcess[str]:
        container = next(pod.main for pod in pods(self._objects) if pod.component == EXPORT)
        command = self.command("export.sh", dict(container))
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def wait(self) -> "subprocess.Popen[str]":
        container = next(c for pod in pods(self._objects) for c in pod.containers if c["name"] == "wait-for-models")
        command = self.command("wait.sh", dict(container))
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.environment, stdout=pipe, text=True, process_group=0)

    def noted(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []


@pytest.fixture(params=OVERLAYS)
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Volume:
    return Volume(tmp_path, request.param)


@pytest.fixture
def cpu(tmp_path: Path) -> Volume:
    return Volume(tmp_path, "cpu")


def test_the_job_passes_options_that_the_command_accepts(volume: Volume) -> None:
    assert volume.export().returncode == 0
    assert len(volume.noted()) >= 2
    for line in volume.noted():
        name, given = parse(line.split())
        assert name == "export"
        assert given["checkpoint"] in ENTRIES
        assert (given["repository"], given["cache"]) == (volume.repository, volume.cache)


def test_a_second_run_exports_only_what_is_missing(volume: Volume) -> None:
    volume.export()
    first = volume.noted()
    (volume.repository / "digits" / "1" / MANIFEST).unlink()
    again = volume.export()
    assert again.returncode == 0
    assert "faces/1: there already" in again.stdout
    assert [parse(line.split())[1]["name"] for line in volume.noted()[len(first) :]] == ["digits"]


def test_a_model_that_cannot_be_exported_fails_the_job_but_stops_no_other(cpu: Volume) -> None:
    cpu.write_list("# two", "a 1 broken", "", "b 3 digits --precision fp16")
    done = cpu.export()
    assert (done.returncode, done.stderr) == (1, "not exported: a/1\n")
    assert (cpu.repository / "b" / "3" / MANIFEST).exists()
    assert cpu.noted()[1].endswith("--precision fp16")


def test_a_server_waits_for_every_model_of_the_list(volume: Volume) -> None:
    volume.export()
    with volume.wait() as waiting:
        assert waiting.wait(30) == 0
    (volume.repository / "digits" / "1" / MANIFEST).unlink()
    with volume.wait() as waiting:
        assert waiting.stdout is not None
        said = waiting.stdout.readline()
        assert said.startswith(
            "waiting for digits/1; the export Job: kubectl logs -l app.kubernetes.io/component=export"
        )
        assert waiting.poll() is None
        os.killpg(waiting.pid, 9)


def test_a_server_says_which_models_the_job_could_not_export(cpu: Volume) -> None:
    cpu.write_list("a 1 broken", "b 3 digits", "c 1 broken")
    assert cpu.export().returncode == 1
    with cpu.wait() as waiting:
        assert waiting.stdout is not None
        said = waiting.stdout.readline()
        assert said.startswith("waiting for a/1 c/1; not exported: a/1 c/1, by the export Job: kubectl logs ")
        os.killpg(waiting.pid, 9)
    cpu.write_list("b 3 digits")
    assert cpu.export().returncode == 0
    with cpu.wait() as waiting:
        assert waiting.wait(30) == 0


def test_another_list_or_image_is_another_job_and_the_same_ones_are_the_same() -> None:
    """So an apply is repeatable, and Argo CD or Flux find what they made."""
    here = {"resources": [str(K8S / "overlays" / "cpu")]}
    listed = {"name": "ganserve-export", "namespace": "ganserve", "behavior": "merge"}
    changes: list[dict[str, Any]] = [
        {},
        {"images": [{"name": "ghcr.io/ganserve/ganserve-export", "newTag": "0.2.0"}]},
        {"images": [{"name": "ghcr.io/ganserve/ganserve-export", "newName": "registry.example.com/x"}]},
        {"configMapGenerator": [{**listed, "files": ["models.txt"]}]},
        {"configMapGenerator": [{**listed, "literals": ["run=2"]}]},
    ]
    names = []
    for change in changes:
        objects = written({**here, **change}, {"models.txt": "digits 1 digits\n"})
        job, models = named(objects, "Job/ganserve-export"), named(objects, "ConfigMap/ganserve-export")
        assert models["data"]["image"] == at(job, "spec template spec containers 0 image")
        assert list(a_rollout_outlasts_the_export(objects)) == []
        names.append(job["metadata"]["name"])
    assert len(set(names)) == len(changes)
    kept = written({**here, "images": [{"name": "ghcr.io/ganserve/ganserve-cpu", "newTag": "0.2.0"}]}, {})
    assert named(kept, "Job/ganserve-export")["metadata"]["name"] == names[0], "a new server alone exports nothing"


@pytest.mark.slow
def test_the_job_exports_a_model_that_can_be_served(cpu: Volume) -> None:
    cpu.write_list("digits 1 digits")
    cpu.environment["PATH"] = f"{Path(sys.executable).parent}:{os.defpath}"
    done = cpu.export()
    assert done.returncode == 0, done.stderr
    folder = cpu.repository / "digits" / "1"
    assert (folder / ONNX).is_file()
    spec = read_manifest(folder)
    assert spec is not None
    assert json.loads((folder / MANIFEST).read_text())["architecture"] == spec.architecture == "cgan"
