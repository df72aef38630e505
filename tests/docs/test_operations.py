"""The pages for operators name what there is: settings, metrics, alerts, an overlay that renders."""

import fnmatch
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from server.api.keys import read_keys
from server.environment import NOT_SETTINGS
from server.settings import PREFIX, Settings
from tests.docs.pages import ROOT, first_cells, read, section
from tests.k8s.rendering import rendered_text
from tests.observability.exported import SCRAPE_LABELS, exported
from tests.observability.test_rules import ALERTS

FAMILY = re.compile(r"_(bucket|sum|count)$")
SETTINGS = {PREFIX + name.upper() for name in Settings.model_fields}


def test_the_advice_on_settings_names_settings_that_exist() -> None:
    named = {name for cell in first_cells(section("tuning.md", "Settings")) for name in re.findall(r"`(\w+)`", cell)}
    assert len(named) > 15
    assert named <= SETTINGS


@pytest.mark.parametrize("page", ["deploy.md", "tuning.md", "metrics.md", "runbooks.md", "adr/0008-connections.md"])
def test_a_page_names_no_setting_that_is_gone(page: str) -> None:
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]+\b", read(page)))
    assert named <= SETTINGS | NOT_SETTINGS | {"GANSERVE_SERVICE_HOST"}, "the last is set by Kubernetes"


def test_the_file_of_api_keys_that_the_page_shows_is_read(tmp_path: Path) -> None:
    shown = re.search(r"```toml\n(.*?)```", section("deploy.md", "Access"), re.DOTALL)
    assert shown
    (tmp_path / "keys.toml").write_text(shown[1])
    assert set(read_keys(tmp_path / "keys.toml")) == {"gallery", "deployer", "prometheus"}


def test_every_metric_is_in_the_tables_of_metrics_with_its_labels_and_no_other() -> None:
    cells = first_cells(section("metrics.md", "Metrics"))
    listed = dict(found for cell in cells for found in re.findall(r"`((?:ganserve|nv)_[\w*]+)(?:\{([\w,]+)\})?`", cell))
    used = set()
    for series, labels in exported().items():
        names = [name for name in listed for each in (series, FAMILY.sub("", series)) if fnmatch.fnmatch(each, name)]
        if not series.startswith("process_"):
            assert names, series
            assert {label for label in listed[names[0]].split(",") if label} == labels - SCRAPE_LABELS - {"le"}, series
        used.update(names)
    assert used == set(listed)


@pytest.mark.parametrize("alert", sorted({rule["alert"] for rule in ALERTS}))
def test_every_alert_has_its_runbook(alert: str) -> None:
    assert re.findall(r"^## (.+)$", read("runbooks.md"), re.MULTILINE).count(alert) == 1


def test_the_table_of_what_the_autoscaler_reads_is_the_manifest() -> None:
    manifest = yaml.safe_load((ROOT / "k8s" / "base" / "hpa.yaml").read_text())
    read_by_hpa = [each["pods"]["metric"]["name"] for each in manifest["spec"]["metrics"]]
    assert re.findall(r"^\| `(ganserve_\w+)`", section("tuning.md", "Autoscaling"), re.MULTILINE) == read_by_hpa


def test_the_overlay_that_the_page_writes_renders_with_its_registry(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    found = re.search(r"```sh\n(mkdir deploy .*?\nEOF\n)", read("deploy.md"), re.DOTALL)
    assert found is not None
    subprocess.run(["sh", "-euc", found[1]], cwd=tmp_path, check=True)
    objects = list(yaml.safe_load_all(rendered_text(tmp_path / "deploy")))
    images = {name for each in objects for name in re.findall(r"'image': '([^']+)'", str(each))}
    assert images == {f"registry.example.com/ganserve-{kind}:0.1.0" for kind in ("cpu", "export")}
    (models,) = [each["metadata"]["name"] for each in objects if "models.txt" in each.get("data", {})]
    assert str(objects).count(f"'{models}'") == 4  # itself, the Job by name and volume, the servers that wait for it
