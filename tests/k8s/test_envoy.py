"""Envoy accepts the configuration that its pods mount, and its component goes with the others."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.k8s.envoy_policies import config, config_text, envoys
from tests.k8s.rendering import WITH_ENVOY, at, compose, named, overlay

BINARY = Path(sys.executable).with_name("envoy")


def test_envoy_accepts_the_configuration_that_its_pods_mount(tmp_path: Path) -> None:
    texts = {config_text(pod, objects) for objects in map(overlay, WITH_ENVOY) for pod in envoys(objects)}
    (text,) = texts
    mounted = tmp_path / "envoy.yaml"
    mounted.write_text(text)
    command = [str(BINARY), "--mode", "validate", "--config-path", str(mounted), "--log-level", "warning"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_every_overlay_with_envoy_has_it_once_and_has_all_that_it_had() -> None:
    for name in WITH_ENVOY:
        plain, with_envoy = overlay(name.partition("+")[0]), overlay(name)
        assert [found for found in with_envoy if found in plain] == plain
        assert len(list(envoys(with_envoy))) == 1


@pytest.mark.parametrize("others", [(), ("keda",)])
def test_pods_of_envoy_too_say_where_their_metrics_are_without_the_prometheus_operator(others: tuple[str, ...]) -> None:
    objects = compose("cpu", *others, "envoy", "without-prometheus-operator")
    assert not {"ServiceMonitor", "PrometheusRule"} & {found["kind"] for found in objects}
    (pod,) = envoys(objects)
    ports = {
        listener["name"]: at(listener, "address socket_address port_value")
        for listener in config(pod, objects)["static_resources"]["listeners"]
    }
    assert at(named(objects, pod.owner), "spec template metadata annotations") == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(ports["stats"]),
        "prometheus.io/path": "/stats/prometheus",
    }
