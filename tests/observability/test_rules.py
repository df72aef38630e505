"""The alerts as promtool runs them: when each fires, when it does not, and that these tests would notice."""

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.cluster.prometheus import NoPrometheus, alerting_rules, program

ROOT = Path(__file__).resolve().parents[2]
RESOURCE = ROOT / "k8s" / "base" / "prometheus-rule.yaml"
CASES = sorted((Path(__file__).parent / "alerts").glob("*.yaml"))
RULES = alerting_rules(RESOURCE)
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
# If a rule shares its alert's name with others: the file with its times.
OTHER_FILES = {"6h": "GanserveErrorBudgetBurn-slow", "3d": "GanserveErrorBudgetBurn-slow"}
SEVERITIES = {"page", "ticket", "info"}
needs_promtool = pytest.mark.usefixtures("needs_prometheus")


def title(rule: dict[str, Any]) -> str:
    return " ".join((rule["alert"], *filter(None, [rule["labels"].get("window")])))


def promtool(folder: Path, rules: dict[str, Any], *command: str) -> subprocess.CompletedProcess[str]:
    """Runs promtool in a folder that has the rules as `rules.yaml`."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    words = [program("promtool"), *command]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


def run_case(folder: Path, rules: dict[str, Any], case: Path) -> subprocess.CompletedProcess[str]:
    """Runs one file of tests over the rules."""
    shutil.copy(case, folder)
    return promtool(folder, rules, "test", "rules", case.name)


def changed(rule: dict[str, Any], **fields: str) -> dict[str, Any]:
    """All rules, with this one's fields replaced."""
    rules = copy.deepcopy(RULES)
    found = [each for group in rules["groups"] for each in group["rules"] if each == rule]
    assert len(found) == 1
    found[0].update(fields)
    return rules


def case_of(rule: dict[str, Any]) -> Path:
    name = OTHER_FILES.get(rule["labels"].get("window", ""), rule["alert"])
    return Path(__file__).parent / "alerts" / f"{name}.yaml"


@needs_promtool
def test_promtool_finds_the_rules_well_formed(tmp_path: Path) -> None:
    done = promtool(tmp_path, RULES, "check", "rules", "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {sum(len(group['rules']) for group in RULES['groups'])} rules found" in done.stdout


@needs_promtool
def test_promtool_would_find_a_rule_that_is_not(tmp_path: Path) -> None:
    done = promtool(
        tmp_path, changed(ALERTS[0], expr="rate(ganserve_queue_seconds_sum)"), "check", "rules", "rules.yaml"
    )
    assert done.returncode != 0
    assert "expected type range vector" in done.stderr


@needs_promtool
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_each_alert_fires_when_it_should_and_only_then(tmp_path: Path, case: Path) -> None:
    done = run_case(tmp_path, RULES, case)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_its_tests() -> None:
    assert {case_of(rule) for rule in ALERTS} == set(CASES)


@needs_promtool
@pytest.mark.parametrize("rule", ALERTS, ids=title)
def test_an_alert_that_never_fires_is_noticed(tmp_path: Path, rule: dict[str, Any]) -> None:
    never = f"({rule['expr']}) and on() (vector(0) > 1)"
    assert run_case(tmp_path, changed(rule, expr=never), case_of(rule)).returncode == 1


@needs_promtool
@pytest.mark.parametrize("rule", ALERTS, ids=title)
def test_an_alert_that_does_not_wait_is_noticed(tmp_path: Path, rule: dict[str, Any]) -> None:
    assert run_case(tmp_path, changed(rule, **{"for": "0s"}), case_of(rule)).returncode == 1


OBJECTIVE = re.compile(r"> ([\d.]+)(?= \* 0\.001|$)", re.MULTILINE)


@needs_promtool
@pytest.mark.parametrize("rule", [rule for rule in ALERTS if re.search(r"> 0\.|\* 0\.", rule["expr"])], ids=title)
@pytest.mark.parametrize("times", [0.1, 8])
def test_another_objective_is_noticed(tmp_path: Path, rule: dict[str, Any], times: float) -> None:
    expression, found = OBJECTIVE.subn(lambda limit: f"> {float(limit[1]) * times}", rule["expr"])
    assert found
    assert run_case(tmp_path, changed(rule, expr=expression), case_of(rule)).returncode == 1


@pytest.mark.parametrize("rule", ALERTS, ids=title)
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks.md#{rule['alert'].lower()}")


def test_the_contract_of_names_holds() -> None:
    assert [group["name"] for group in RULES["groups"]] == ["ganserve-records", "ganserve", "ganserve-kubernetes"]
    assert {rule["alert"] for rule in ALERTS} == {
        "GanserveAtMaxReplicas", "GanserveCertificateExpires", "GanserveDown", "GanserveDrift",
        "GanserveEngineFallback", "GanserveErrorBudgetBurn", "GanserveExportFailed", "GanserveModelNotReady",
        "GanserveNoTraffic", "GanserveOutOfMemory", "GanservePrecisionFallback", "GanserveQueueWaitHigh",
        "GanserveRestarts",
    }  # fmt: skip


def test_a_machine_without_prometheus_says_what_to_install() -> None:
    with pytest.raises(NoPrometheus, match="no-such-tool is not on the path: apt-get install"):
        program("no-such-tool")
