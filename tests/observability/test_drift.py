"""A real server's gauges of what its images are like, and the alert, from a good rollout to a bad one."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper
from prometheus_client.parser import text_string_to_metric_families

from artifact.repository import MANIFEST, ONNX, read_manifest, sha256_of
from ganserve import AsyncClient
from server.observability.image_window import BURST, LEAST_COMPARED, WINDOW, ImageWindow
from tests.docs.test_manifest import GOLDEN
from tests.observability.test_rules import RULES, promtool
from tests.server.conftest import Running, Start, frontend, read_page, start
from tests.server.graphs import write_golden, write_styled, write_translator

_ = frontend, start  # fixtures
RATE = "watch_images_per_s"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """`styled`, version 1, as exported."""
    root = tmp_path / "repository"
    write_styled(root, "styled")
    write_golden(root / "styled" / "1")
    return root


def write_broken(repository: Path) -> None:
    """Version 2, whose last layer has lost its bias; exported as everything is, so that it is like its own export."""
    before, folder = repository / "styled" / "1", repository / "styled" / "2"
    shutil.copytree(before, folder)
    proto = onnx.load(folder / ONNX)
    (bias,) = (each for each in proto.graph.initializer if each.name == "grey")
    bias.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(bias)), "grey"))
    onnx.save(proto, folder / ONNX)
    spec = read_manifest(folder)
    assert spec is not None
    (folder / MANIFEST).write_text(replace(spec, files={ONNX: sha256_of(folder / ONNX)}).to_json())
    write_golden(folder)


@dataclass
class Page:
    """The series of the gauges: their labels and values."""

    series: list[tuple[str, Mapping[str, str], float]]

    def values(self, name: str, by: str, **labels: str) -> dict[str, float]:
        """The value for each value of a label, of the series that have the labels."""
        return {
            each[by]: value
            for found, each, value in self.series
            if found == name and all(each.get(key) == wanted for key, wanted in labels.items())
        }


async def scrape(running: Running) -> Page:
    code, text = await asyncio.to_thread(read_page, f"{running.url}/metrics")
    assert code == 200
    return Page([
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text) if family.name.startswith("ganserve_image_")
        for sample in family.samples
    ])  # fmt: skip


def fires(folder: Path, page: Page) -> set[tuple[str, str]]:
    """The version and `against` of the alerts that fire when Prometheus goes on reading this page."""
    scraped = {"namespace": "ganserve", "job": "ganserve", "pod": "ganserve-0"}
    inputs = []
    for name, labels, value in page.series:
        text = ",".join(f'{key}="{each}"' for key, each in {**labels, **scraped}.items())
        inputs.append({"series": f"{name}{{{text}}}", "values": f"{value}x20"})
    wanted: list[dict[str, Any]] = [{"alertname": "GanserveDrift", "eval_time": "15m", "exp_alerts": []}]
    case = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m",
            "tests": [{"interval": "1m", "input_series": inputs, "alert_rule_test": wanted}]}  # fmt: skip
    (folder / "case.yaml").write_text(yaml.safe_dump(case))
    done = promtool(folder, RULES, "test", "rules", "case.yaml")
    said = done.stdout + done.stderr
    assert (done.returncode == 0) == ("got:[" not in said), said
    lines = [line for line in said.splitlines() if "alertname=" in line]
    return {(_label(line, "version"), _label(line, "against")) for line in lines}


def _label(line: str, name: str) -> str:
    return line.split(f'{name}="')[1].split('"')[0]


@pytest.fixture
async def client(running: Running) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(running.target) as client:
        yield client


@pytest.fixture
async def running(start: Start) -> Running:
    return await start(watch_images_per_s=1e6)


@pytest.mark.usefixtures("needs_prometheus")
@pytest.mark.parametrize("frontend", ["native"])
async def test_the_rollout_of_a_bad_checkpoint_moves_the_gauges_and_fires(
    running: Running, client: AsyncClient, repository: Path, tmp_path: Path
) -> None:
    labels = ["one", "two", "three"] * 32
    await client.generate("styled", seeds=range(96), labels=labels)
    good = await scrape(running)
    assert good.values("ganserve_image_window", "version") == {"1": 96}
    assert good.values("ganserve_image_channel_mean", "channel")["grey"] == pytest.approx(0.53, abs=0.05)
    assert max(good.values("ganserve_image_drift", "statistic", against="export").values()) < 0.6
    assert fires(tmp_path, good) == set()
    write_broken(repository)
    await running.server.repository.load("styled")
    await client.generate("styled", seeds=range(96), labels=labels)
    bad = await scrape(running)
    assert bad.values("ganserve_image_channel_mean", "channel")["grey"] < 0.1
    assert bad.values("ganserve_image_share", "of")["saturated"] > 0.1
    assert max(bad.values("ganserve_image_drift", "statistic", version="2", against="export").values()) < 0.6
    assert bad.values("ganserve_image_drift", "statistic", version="2", against="earlier version")["mean"] > 3
    assert fires(tmp_path, bad) == {("2", "earlier version")}


@pytest.mark.parametrize("frontend", ["native"])
async def test_callers_who_keep_to_a_few_images_or_choose_more_than_seeds_raise_no_alarm(
    running: Running, client: AsyncClient
) -> None:
    for _ in range(4):
        await client.generate("styled", seeds=[7] * 64, labels="one")
    page = await scrape(running)
    assert page.values("ganserve_image_window", "version") == {"1": 1}
    assert page.values("ganserve_image_drift", "statistic") == {}
    await client.generate("styled", seeds=range(64), labels="one", truncation=0.1)
    await client.generate("styled", latents=np.zeros((64, 4), np.float32), labels="one")
    page = await scrape(running)
    assert page.values("ganserve_image_window", "version") == {"1": 129}
    assert page.values("ganserve_image_drift", "statistic") == {}, "none of them is plain"


@pytest.mark.parametrize("frontend", ["native"])
async def test_a_translators_images_have_gauges_and_nothing_to_compare_with(start: Start, repository: Path) -> None:
    write_translator(repository, "translator")
    running = await start(watch_images_per_s=1e6)
    async with AsyncClient(running.target) as client:
        await client.translate("translator", np.zeros((16, 16, 3), np.uint8))
    page = await scrape(running)
    of = {"model": "translator"}
    assert set(page.values("ganserve_image_channel_mean", "channel", **of)) == {"red", "green", "blue"}
    assert page.values("ganserve_image_share", "of", **of)["flat"] == 1
    assert page.values("ganserve_image_drift", "statistic", **of) == {}


@pytest.mark.parametrize("frontend", ["native"])
async def test_with_a_rate_of_none_nothing_is_looked_at(start: Start) -> None:
    running = await start(watch_images_per_s=0)
    async with AsyncClient(running.target) as client:
        await client.generate("styled", seeds=range(64), labels="one")
    assert (await scrape(running)).series == []


def test_a_burst_is_taken_and_then_only_as_many_as_the_rate_allows() -> None:
    window = ImageWindow({}, 1, 1e-6)
    for _ in range(3 * BURST):
        window.see(np.zeros((8, 8, 3), np.uint8))
    assert ("image_window", "", BURST) in window.figures()


def test_the_window_has_the_last_images() -> None:
    window = ImageWindow({"export": GOLDEN}, 1, 1e9)
    for seed in range(WINDOW + 10):
        window.see(np.full((8, 8, 3), 0 if seed < 10 else 255, np.uint8), seed)
    found = {name: value for name, of, value in window.figures() if "red" in of or not of}
    assert found["image_window"] == WINDOW
    assert found["image_channel_mean"] == 1


def test_a_model_of_many_classes_waits_for_many_of_them() -> None:
    window = ImageWindow({"export": GOLDEN}, 100, 1e9)
    for seed in range(LEAST_COMPARED):
        window.see(np.zeros((8, 8, 3), np.uint8), seed, seed % 15)
    assert not [name for name, _, _ in window.figures() if name == "image_drift"]
    window.see(np.zeros((8, 8, 3), np.uint8), -1, 15)
    assert [name for name, _, _ in window.figures() if name == "image_drift"]
