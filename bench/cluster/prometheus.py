"""A Prometheus of one's own: started over given servers and rules, asked through its HTTP API, ended."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

START_S = 30.0
LABELS = {"namespace": "ganserve", "job": "ganserve"}  # what the operator's ServiceMonitor adds, with the pod


class NoPrometheus(Exception):
    """The program is not installed, or did not start."""


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`.

    Raises:
        NoPrometheus: it is not there; the text says how to get it.
    """
    found = shutil.which(name)
    if found is None:
        raise NoPrometheus(f"{name} is not on the path: apt-get install --no-install-recommends prometheus")
    return found


def alerting_rules(resource: Path) -> dict[str, Any]:
    """The rule file that the Prometheus operator makes of a PrometheusRule."""
    spec = yaml.safe_load(resource.read_text())["spec"]
    return {"groups": spec["groups"]}


@dataclass(frozen=True)
class Series:
    """One line of an answer: (unix time, value) in the order of time; an instant query has one of them."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


class Prometheus:
    """Scrapes `targets` (pod: host:port) every `interval_s`; a context that ends the process.

    Raises:
        NoPrometheus: on entering, where it cannot be started.
    """

    def __init__(
        self, folder: Path, targets: Mapping[str, str], rules: Mapping[str, Any] | None = None, interval_s: int = 1
    ) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = int(free.getsockname()[1])
        config: dict[str, Any] = {
            "global": {"scrape_interval": f"{interval_s}s", "evaluation_interval": f"{interval_s}s"},
            "scrape_configs": [
                {
                    "job_name": "ganserve",
                    "static_configs": [
                        {"targets": [address], "labels": {**LABELS, "pod": pod}} for pod, address in targets.items()
                    ],
                }
            ],
        }
        if rules is not None:
            (folder / "rules.yaml").write_text(yaml.safe_dump(dict(rules)))
            config["rule_files"] = ["rules.yaml"]
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))

    def __enter__(self) -> Self:
        command = [program("prometheus"), "--config.file", str(self._folder / "prometheus.yaml")]
        command += ["--storage.tsdb.path", str(self._folder / "data"), "--log.level", "warn"]
        command += ["--web.listen-address", f"127.0.0.1:{self._port}"]
        self.log = self._folder / "prometheus.log"
        with self.log.open("w") as lines:
            self._process = subprocess.Popen(command, stdout=lines, stderr=subprocess.STDOUT)
        try:
            self.wait_until(self._is_ready, "Prometheus is ready", START_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(START_S)

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise NoPrometheus(f"prometheus ended: {self.log.read_text()}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def wait_until(self, condition: Callable[[], bool], what: str, longest_s: float) -> None:
        """Returns once it is so; looks every 50 ms, for want of an event from another process.

        Raises:
            TimeoutError: it was not.
        """
        ends_at = time.monotonic() + longest_s
        while not condition():
            if time.monotonic() > ends_at:
                raise TimeoutError(f"not within {longest_s:.0f} s: {what}; {self.log.read_text()}")
            time.sleep(0.05)

    def ask(self, path: str, **parameters: object) -> Any:
        """The data of an answer of /api/v1/`path`.

        Raises:
            ValueError: Prometheus refuses the question; the text has its words.
        """
        asked = urllib.parse.urlencode({key: str(value) for key, value in parameters.items()})
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/{path}?{asked}", timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"{parameters}: {error.read().decode()}") from None

    def query(self, expression: str) -> list[Series]:
        """What it is now."""
        found = self.ask("query", query=expression)["result"]
        return [_series(each["metric"], [each["value"]]) for each in found]

    def query_range(self, expression: str, start: float, end: float, step_s: float) -> list[Series]:
        """What it was from one unix time to another."""
        found = self.ask("query_range", query=expression, start=start, end=end, step=step_s)["result"]
        return [_series(each["metric"], each["values"]) for each in found]


def _series(labels: Mapping[str, str], points: list[list[Any]]) -> Series:
    return Series(labels, tuple((float(at), float(value)) for at, value in points))
