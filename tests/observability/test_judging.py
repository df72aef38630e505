"""The judge beside serving: class shares and their drift on a real server, and a judge that fails."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifact.judged import class_distance, count_distance
from artifact.repository import JUDGE, MANIFEST, read_manifest, sha256_of
from artifact.spec import TensorSpec
from ganserve import AsyncClient
from ganserve.client.errors import InvalidRequest
from server.observability.image_window import BURST
from server.repository.judging import Judging
from tests.export.test_judge import CLASSES, write_judge
from tests.observability.test_drift import Page, fires, scrape, write_broken
from tests.server.conftest import Running, Start, frontend, start
from tests.server.graphs import write_golden, write_styled

_ = frontend, start  # fixtures


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """`styled`, version 1, as exported with a judge; `plain` without."""
    root = tmp_path / "repository"
    write_styled(root, "styled")
    write_styled(root, "plain")
    write_golden(root / "styled" / "1", write_judge(tmp_path / "judge.onnx", ["N", "H", "W", 1]))
    return root


async def judged(running: Running, version: str) -> Page:
    """The page once the judge has named what waited for it."""
    while True:
        page = await scrape(running)
        if page.values("ganserve_image_judged", "version").get(version, 0) >= BURST:
            return page
        await asyncio.sleep(0.02)


@pytest.mark.usefixtures("needs_prometheus")
@pytest.mark.parametrize("frontend", ["native"])
async def test_a_rollout_that_shows_other_classes_moves_their_shares_and_fires(
    start: Start, repository: Path, tmp_path: Path
) -> None:
    running = await start(watch_images_per_s=1e6)
    labels = ["one", "two", "three"] * 32
    async with AsyncClient(running.target) as client:
        await client.generate("styled", seeds=range(96), labels=labels)
        good = await judged(running, "1")
        shares = good.values("ganserve_image_class_share", "class")
        assert set(shares) == set(CLASSES)
        assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
        assert good.values("ganserve_image_judge", "version") == {"1": 1}
        assert good.values("ganserve_image_drift", "against", statistic="class")["export"] < 1
        write_broken(repository)
        write_golden(repository / "styled" / "2", tmp_path / "judge.onnx")
        await running.server.repository.load("styled")
        await client.generate("styled", seeds=range(96), labels=labels)
        bad = await judged(running, "2")
        assert bad.values("ganserve_image_class_share", "class", version="2")["dark"] == 1
        drift = bad.values("ganserve_image_drift", "against", statistic="class", version="2")
        assert drift["export"] < 1 < drift["earlier version"]
        assert fires(tmp_path, bad) == {("2", "earlier version")}
        found = await client.judge("styled", version="2")
        assert found.graph == (repository / "styled" / "2" / JUDGE).read_bytes()
        assert found.classes == CLASSES
        listed = {model.name: model.judge for model in await client.models()}
        assert listed["plain"] is None
        assert listed["styled"] is not None
        with pytest.raises(InvalidRequest, match="has no judge: export it with --judge FILE"):
            await client.judge("plain")


@pytest.mark.parametrize("frontend", ["native"])
async def test_a_judge_that_cannot_be_opened_is_left_out_with_a_reason(
    start: Start, repository: Path, tmp_path: Path
) -> None:
    write_golden(repository / "plain" / "1", write_judge(tmp_path / "judge.onnx", ["N", "H", "W", 1]))
    folder = repository / "styled" / "1"
    (folder / JUDGE).write_bytes((folder / "model.onnx").read_bytes())
    spec = read_manifest(folder)
    assert spec is not None
    text = replace(spec, files={**spec.files, JUDGE: sha256_of(folder / JUDGE)}).to_json()
    (folder / MANIFEST).write_text(text)
    running = await start(watch_images_per_s=1e6)
    async with AsyncClient(running.target) as client:
        await client.generate("styled", seeds=range(8), labels="one")
        reasons = {model.name: model.reason for model in await client.models()}
    page = await scrape(running)
    assert page.values("ganserve_image_judge", "model") == {"styled": 0, "plain": 1}
    assert reasons["styled"].startswith("judge.onnx is left out: takes")
    assert reasons["plain"] == ""


class Engine:
    """Fails at the image number `fails_at`; the class of others is the level of their first point."""

    inputs = outputs = (TensorSpec("image", "UINT8", (2, 2, 1)),)

    def __init__(self, fails_at: int) -> None:
        self.runs, self.fails_at, self.closed = 0, fails_at, threading.Event()

    def check(self, shapes: Any) -> None:
        pass

    def run(self, arrays: Any, whole_device: bool) -> dict[str, Any]:
        self.runs += 1
        if self.runs == self.fails_at:
            raise RuntimeError("broken")  # as ONNX Runtime and the loop do
        return {"scores": np.eye(4, dtype=np.float32)[arrays["image"][:, 0, 0, 0]]}

    def close(self) -> None:
        self.closed.set()


async def test_a_judge_that_fails_is_left_out_and_holds_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    engine, named = Engine(fails_at=3), list[int]()
    judging = Judging("faces/1", Path(), engine, share=1.0)
    for level in range(4):
        judging.offer(np.full((2, 2, 1), level, np.uint8), named.append)
    await asyncio.to_thread(engine.closed.wait)
    await asyncio.sleep(0)
    assert named == [0, 1]
    assert not judging.is_working
    assert [record.message for record in caplog.records] == ["judge failed, left out"]
    judging.offer(np.zeros((2, 2, 1), np.uint8), named.append)
    await asyncio.to_thread(judging.close)
    assert named == [0, 1]


class EndlessEngine(Engine):
    """Its runs end when they are stopped."""

    def __init__(self) -> None:
        super().__init__(fails_at=1)
        self.entered, self.stopped = threading.Event(), threading.Event()

    def run(self, arrays: Any, whole_device: bool) -> dict[str, Any]:
        self.entered.set()
        assert self.stopped.wait(30)
        return super().run(arrays, whole_device)

    def stop(self) -> None:
        self.stopped.set()

    interrupt = stop


async def test_closing_a_judge_ends_its_run(caplog: pytest.LogCaptureFixture) -> None:
    engine = EndlessEngine()
    judging = Judging("faces/1", Path(), engine)
    judging.offer(np.zeros((2, 2, 1), np.uint8), lambda index: None)
    await asyncio.to_thread(engine.entered.wait)
    await asyncio.to_thread(judging.close)
    assert engine.closed.is_set()
    assert not caplog.records, "that is no failure"


async def test_only_so_many_images_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.repository.judging.MAX_BYTES", 9)
    engine, named = Engine(fails_at=0), asyncio.Queue[int]()
    judging = Judging("faces/1", Path(), engine, share=1.0)
    for level in (1, 2, 3):
        judging.offer(np.full((2, 2, 1), level, np.uint8), named.put_nowait)
    judging.offer(np.zeros((2, 2, 1), np.float32), named.put_nowait)
    assert [await named.get(), await named.get()] == [1, 2]
    judging.offer(np.full((2, 2, 1), 0, np.uint8), named.put_nowait)
    assert await named.get() == 0, "neither the third nor floats"
    await asyncio.to_thread(judging.close)
    assert engine.closed.is_set()


def test_chance_moves_classes_by_less_than_one_and_a_lost_class_by_more() -> None:
    random = np.random.RandomState(0)
    even = np.full(10, 0.1)
    for golden, images in ((256, 256), (256, 32), (24, 64)):
        for _ in range(50):
            counts = random.multinomial(golden, even)[None]
            named = np.repeat(np.arange(10), random.multinomial(images, even))
            assert class_distance(counts.tolist(), np.zeros(images, np.intp), named) < 1.1
    collapsed = np.repeat([0, 1, 2, 3], 64)
    assert class_distance([[26] * 10], np.zeros(256, np.intp), collapsed) > 2
    obeyed = [[26, 0], [0, 26]]
    labels = np.array([0] * 60 + [1] * 4)
    assert class_distance(obeyed, labels, labels) < 0.3, "what callers request is no drift"
    assert class_distance(obeyed, labels, 1 - labels) > 3
    assert count_distance([[20, 0], [0, 20]], obeyed) < 0.3
    assert count_distance([[0, 20], [0, 20]], obeyed) > 2
    assert count_distance([[0, 26], [26, 0]], obeyed) > 2, "labels have changed places, and as many are of each class"
