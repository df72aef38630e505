"""k8s/dataset: the indexed Job that makes a data set, and what its pods run."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.k8s import pod_policies
from tests.k8s.pods import environment, parse, pods
from tests.k8s.rendering import K8S, Object, at, named, overlay, written
from tests.k8s.test_manifests import VERSIONS, problem

POLICIES = (
    pod_policies.not_root,
    pod_policies.root_file_system_read_only,
    pod_policies.no_privileges,
    pod_policies.no_service_account_token,
    pod_policies.no_service_links,
    pod_policies.resources_are_bounded,
)


def rendered(*literals: str) -> list[Object]:
    """The objects, with other literals in the list of what to make."""
    merged = {"name": "ganserve-dataset", "namespace": "ganserve", "behavior": "merge", "literals": list(literals)}
    more = {"configMapGenerator": [merged]} if literals else {}
    return written({"resources": [str(K8S / "dataset")], **more}, {})


def test_an_api_server_accepts_it_and_it_keeps_every_policy_of_pods() -> None:
    objects = rendered()
    for version in VERSIONS:
        assert [problem(found, version) for found in objects if problem(found, version)] == []
    for policy in POLICIES:
        assert list(policy(objects)) == []
    image = at(named(objects, "Job/ganserve-dataset"), "spec template spec containers 0 image")
    assert image == f"ghcr.io/ganserve/ganserve-cpu:{pod_policies.VERSION}"


def test_it_stands_beside_the_servers_and_may_call_them() -> None:
    (pod,) = pods(rendered())
    assert pod.labels["ganserve-client"] == "true"
    policy = named(rendered(), "NetworkPolicy/ganserve-dataset")
    wanted = at(policy, "spec podSelector matchLabels")
    assert wanted.items() <= pod.labels.items()
    servers = named(overlay("cpu"), "Deployment/ganserve")
    assert (
        at(policy, "spec egress 1 to 0 podSelector matchLabels").items()
        <= at(servers, "spec template metadata labels").items()
    )
    assert {found["kind"] for found in overlay("cpu")} >= {"Namespace", "ServiceAccount"}  # which it takes from there
    assert pod.spec["serviceAccountName"] in {
        found["metadata"]["name"] for found in overlay("cpu") if found["kind"] == "ServiceAccount"
    }


@pytest.mark.parametrize("index", ["0", "19"])
def test_its_pods_run_what_the_command_accepts(tmp_path: Path, index: str) -> None:
    objects = rendered("OPTIONS=digits --per-class 0=5,7=9 --format parquet")
    (pod,) = pods(objects)
    stand_in = tmp_path / "ganserve"
    stand_in.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\n')
    stand_in.chmod(0o755)
    container = {**pod.main, "env": [each for each in pod.main["env"] if "value" in each]}
    variables = environment(pod, container, objects)
    done = subprocess.run(
        [*pod.main["command"], *pod.main["args"]],
        env={**variables, "JOB_COMPLETION_INDEX": index, "PATH": f"{tmp_path}:{os.defpath}"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    name, given = parse(done.stdout.splitlines())
    assert (name, given["model"], given["per_class"], given["format"]) == ("dataset", "digits", ["0=5,7=9"], "parquet")
    completions = named(objects, "Job/ganserve-dataset")["spec"]["completions"]
    assert (given["shards"], given["shard_index"]) == (completions, int(index))
    assert given["out"].is_relative_to("/data")
    assert variables["GANSERVE_SERVER"] == "ganserve:8001"


def test_another_data_set_is_another_job() -> None:
    names = {
        json.dumps(
            [found["metadata"]["name"] for found in rendered(*literals) if found["kind"] in ("Job", "ConfigMap")]
        )
        for literals in ((), ("OPTIONS=digits --count 5",), ("OUT=/data/other",))
    }
    assert len(names) == 3
