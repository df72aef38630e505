"""docs/operations.md says what there is: settings, metrics, an overlay that renders, links that lead somewhere."""

import fnmatch
import re
import shutil
import subprocess
from pathlib import Path

import yaml

from server.settings import PREFIX, Settings
from tests.container.dockerfile import ROOT
from tests.k8s.rendering import rendered_text
from tests.observability.exported import SCRAPE_LABELS, exported

PAGE = (ROOT / "docs" / "operations.md").read_text()
FAMILY = re.compile(r"_(bucket|sum|count)$")


def section(title: str) -> str:
    """From the heading to the next of its level."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None, title
    return found[1]


def test_every_setting_is_in_the_table_of_settings_and_no_other() -> None:
    table = [line for line in section("Tuning").splitlines() if line.startswith("| `")]
    named = {name for line in table for name in re.findall(rf"`({PREFIX}\w+)`", line.split("|")[1])}
    assert named == {PREFIX + name.upper() for name in Settings.model_fields}


def test_every_metric_is_in_the_tables_of_metrics_with_its_labels_and_no_other() -> None:
    rows = [line.split("|")[1] for line in section("Metrics").splitlines() if line.startswith("| `")]
    listed = dict(found for row in rows for found in re.findall(r"`((?:ganserve|nv)_[\w*]+)(?:\{([\w,]+)\})?`", row))
    used = set()
    for series, labels in exported().items():
        names = [name for name in listed for each in (series, FAMILY.sub("", series)) if fnmatch.fnmatch(each, name)]
        if not series.startswith("process_"):
            assert names, series
            assert {label for label in listed[names[0]].split(",") if label} == labels - SCRAPE_LABELS - {"le"}, series
        used.update(names)
    assert used == set(listed)


def test_the_table_of_what_the_autoscaler_asks_is_the_manifest() -> None:
    manifest = yaml.safe_load((ROOT / "k8s" / "base" / "hpa.yaml").read_text())
    asked = [each["pods"]["metric"]["name"] for each in manifest["spec"]["metrics"]]
    assert re.findall(r"^\| `(ganserve_\w+)`", section("Autoscaling"), re.MULTILINE) == asked


def test_every_link_leads_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in PAGE.splitlines() if line[:1] == "#"
    }
    links = re.findall(r"\]\(([^)]+)\)", PAGE)
    assert len(links) > 20
    for link in links:
        path, _, anchor = link.partition("#")
        assert not path or (ROOT / "docs" / path).exists(), link
        assert path or anchor in headings, link


def test_the_overlay_that_the_page_writes_renders_with_its_registry(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    found = re.search(r"```sh\n(mkdir deploy .*?\nEOF\n)", PAGE, re.DOTALL)
    assert found is not None
    subprocess.run(["sh", "-euc", found[1]], cwd=tmp_path, check=True)
    objects = list(yaml.safe_load_all(rendered_text(tmp_path / "deploy")))
    images = {name for each in objects for name in re.findall(r"'image': '([^']+)'", str(each))}
    assert images == {f"registry.example.com/ganserve:0.1.0-{kind}" for kind in ("cpu", "export")}
    (models,) = [each["metadata"]["name"] for each in objects if "models.txt" in each.get("data", {})]
    assert str(objects).count(f"'{models}'") == 3  # itself, the Job, the servers that wait for it
