"""Which of several engines serves a graph: by their values, their bytes and their speed, and once for all starts.

The candidates are ONNX Runtime itself, with outputs that are changed and runs that are delayed as a test says.
"""

import itertools
import json
import logging
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.engines.base import Arrays, Engine
from server.environment import read_settings
from server.errors import NotServing, StartError
from server.repository.cpu import contest, pace, speed
from server.repository.cpu.choice import CpuChooser
from server.repository.cpu.contest import Candidate, clearly_fastest, is_torn
from server.repository.cpu.kept import Choice
from server.repository.cpu.pace import Pace
from server.repository.cpu.subject import Setup, Subject
from tests.server.repository.cpu.graphs import Candidates, Outputs, version_of, write_generator
from tests.server.repository.cpu.starts import Started, start

SLOW_S = 0.004  # of the reference, so that what is added to it counts for more than noise
Open = Callable[..., tuple[Engine, Choice]]


@pytest.fixture(autouse=True)
def short_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every figure is of one run: what differs here differs by far."""
    monkeypatch.setattr(speed, "SLOT_S", 0.0)


@pytest.fixture
def candidates() -> Candidates:
    return Candidates()


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    write_generator(tmp_path / "m" / "1")
    return tmp_path / "m" / "1"


@pytest.fixture
def open_(tmp_path: Path, graph: Path) -> Open:
    """Opens the graph as a server that starts anew would; the first candidate is the reference unless one is given."""

    def run(*given: Candidate, reference: Candidate | None = None, **settings: Any) -> tuple[Engine, Choice]:
        found = {"repository": tmp_path, "engine_cache": tmp_path / "cache", **settings}
        chooser = CpuChooser(read_settings(**found), 2, 2, reference or given[0])
        return chooser.open(version_of(graph), "model.onnx", True, given)

    return run


def does_not_open(path: Path, batched: bool) -> Engine:
    raise StartError("it has another version")


def does_not_load(path: Path, batched: bool) -> Engine:
    raise ImportError("its library is damaged")


def kept_choices(tmp_path: Path) -> list[Any]:
    return [json.loads(path.read_text()) for path in (tmp_path / "cache" / "cpu").glob("*.json")]


def brighter(levels: int) -> Callable[[Outputs, int, bool], Outputs]:
    def change(outputs: Outputs, items: int, whole_device: bool) -> Outputs:
        image = outputs["image"].astype(int) + levels
        return {"image": np.clip(image, 0, 255).astype(np.uint8)}

    return change


def other_in_batches(outputs: Outputs, items: int, whole_device: bool) -> Outputs:
    return brighter(1)(outputs, items, whole_device) if items == 4 else outputs


def test_the_fastest_that_gives_the_same_images_serves_and_the_others_are_closed(
    open_: Open, candidates: Candidates, tmp_path: Path
) -> None:
    engine, choice = open_(
        candidates.make("reference", delay_s=2 * SLOW_S),
        candidates.make("faster", delay_s=SLOW_S, change=brighter(1)),
        candidates.make("fastest", "bf16"),
    )
    assert (choice.engine, choice.precision, choice.note) == ("fastest", "bf16", "")
    assert "fastest bf16 " in choice.why
    assert " x reference fp32 (" in choice.why
    assert candidates.still_open == ["fastest bf16"]
    assert engine is candidates.opened["fastest bf16"][0], "the one that was measured serves"
    assert engine.run({"latent": np.zeros((2, 8), np.float32)}, False)["image"].shape == (2, 16, 16, 3)
    (kept,) = kept_choices(tmp_path)
    assert kept["choice"]["engine"] == "fastest"
    assert kept["ends_at"] is None
    setups = kept["facts"]["items_per_s"]
    assert set(setups) == {"reference fp32", "faster fp32", "fastest bf16"}
    assert {"batch 1", "batch 1 alone"} <= set(setups["fastest bf16"])


@pytest.mark.parametrize(
    ("ratios", "winner"),
    [
        ({}, "first"),
        ({"a": [1.04, 1.05]}, "first"),
        ({"a": [1.05, 1.06]}, "a"),
        ({"a": [2.0, 3.0], "b": [2.4, 2.6]}, "b"),
        ({"a": [9.0, 0.94], "b": [1.2, 0.96]}, "b"),
        ({"a": [9.0, 0.94], "b": [1.0, 1.0]}, "first"),
    ],
    ids=["alone", "small", "enough", "mean", "loses", "none"],
)
def test_the_winner_gains_enough_in_the_mean_and_loses_nowhere(ratios: dict[str, list[float]], winner: str) -> None:
    assert clearly_fastest({"first": [1.0, 1.0], **ratios}, "first") == winner
    assert clearly_fastest({"first": [1.0, 1.0], **ratios}, "first", enough=3.0) == "first", "after few rounds"


def test_a_gain_with_a_loss_in_one_setup_is_measured_longer(
    open_: Open, candidates: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_torn({"first": [1.0, 1.0], "a": [3.0, 0.8]}, "first")
    assert not is_torn({"first": [1.0, 1.0], "a": [3.0, 1.8], "b": [1.0, 0.8]}, "first")
    rounds = []
    real = speed.Speeds.measure_more

    def measure_more(speeds: speed.Speeds, go_on: Callable[[], None]) -> None:
        before = speeds.rounds
        real(speeds, go_on)
        rounds.append(speeds.rounds - before)

    monkeypatch.setattr(speed.Speeds, "measure_more", measure_more)
    for torn in (False, True):
        monkeypatch.setattr(contest, "is_torn", lambda ratios, first, torn=torn: torn)
        open_(candidates.make("reference", delay_s=SLOW_S), candidates.make(f"other{torn}"))
    assert rounds == [speed.ROUNDS]


@pytest.mark.parametrize(
    ("alone", "engine", "ends"),
    [
        ([0.6, 0.6, 0.6, 0.8, 0.8], "reference", False),
        ([0.7, 0.7, 0.7, 1.2, 1.2], "reference", True),
        ([1.1, 1.1, 1.7, 1.8, 2.3], "other", False),
    ],
    ids=["slower in every round", "slower in some", "faster"],
)
def test_what_a_busy_moment_may_have_turned_down_is_turned_down_for_a_day(
    alone: list[float],
    engine: str,
    ends: bool,
    open_: Open,
    candidates: Candidates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`alone`: how many times as fast it is with the whole device, in the rounds; on the lanes it is three times."""
    rounds = itertools.cycle([1.0, *alone])  # one warms

    def items_per_s(subject: Subject, arrays: Arrays, setup: Setup, seconds: float) -> float:
        if subject.engine is candidates.opened["reference fp32"][0]:
            return 100.0
        return 100.0 * (next(rounds) if setup.whole_device else 3.0)

    monkeypatch.setattr(Subject, "items_per_s", items_per_s)
    monkeypatch.setattr(speed.Speeds, "measure_more", lambda speeds, go_on: None)
    _, choice = open_(candidates.make("reference"), candidates.make("other"))
    assert choice.engine == engine
    assert (kept_choices(tmp_path)[0]["ends_at"] is not None) == ends


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (brighter(3), "output 'image' has 3"),
        (other_in_batches, "items have other bytes in a batch of 4 than alone"),
        (lambda outputs, items, whole: {"image": outputs["image"][..., :1]}, "has another shape or type"),
        (lambda outputs, items, whole: 1 / 0, "division by zero"),
    ],
    ids=["images", "batches", "shape", "fails"],
)
def test_what_does_not_give_the_same_is_not_offered_however_fast_it_is(
    change: Any, reason: str, open_: Open, candidates: Candidates, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        _, choice = open_(candidates.make("reference", delay_s=SLOW_S), candidates.make("other", change=change))
    assert choice.engine == "reference"
    assert f"other fp32 not offered: {'' if reason in choice.why else reason}" in choice.why
    assert candidates.still_open == ["reference fp32"]
    (told,) = [record for record in caplog.records if record.message == "engine not offered"]
    assert told.levelno == logging.INFO
    assert reason in told.__dict__["fields"]["reason"]


def test_one_that_cannot_open_the_graph_leaves_its_place_to_the_next(
    open_: Open, candidates: Candidates, tmp_path: Path
) -> None:
    def fail(path: Path, batched: bool) -> Engine:
        raise StartError("no such operator:\nNonZero")

    broken = Candidate("broken", "fp32", "numpy", fail)
    _, choice = open_(candidates.make("reference", delay_s=SLOW_S), broken, candidates.make("other"))
    assert choice.engine == "other"
    assert "broken fp32 not offered: no such operator: NonZero" in choice.why
    assert kept_choices(tmp_path)[0]["ends_at"] is None
    missing = Candidate("missing", "fp32", "numpy", does_not_load)
    _, choice = open_(candidates.make("reference", delay_s=SLOW_S), missing, candidates.make("other"))
    assert "missing fp32 not offered: its library is damaged" in choice.why
    assert {each["ends_at"] is None for each in kept_choices(tmp_path)} == {True, False}, "it may be repaired"


def test_one_that_hangs_is_left_behind_within_the_limit(open_: Open, candidates: Candidates, tmp_path: Path) -> None:
    before = threading.active_count()
    _, choice = open_(
        candidates.make("reference", delay_s=SLOW_S),
        candidates.make("hung", hangs=True),
        candidates.make("other"),
        hang_timeout_s=0.5,
    )
    assert choice.engine == "other"
    assert "hung fp32 not offered: it had not ended after 0.5 s (hang_timeout_s)" in choice.why
    assert kept_choices(tmp_path)[0]["ends_at"] is not None, "the machine may have been busy"
    hung = candidates.opened["hung fp32"][0]
    assert not hung.closed.is_set(), "its run still uses it"
    assert threading.active_count() == before + 1
    hung.release.set()


def test_a_second_start_measures_nothing(open_: Open, candidates: Candidates, caplog: pytest.LogCaptureFixture) -> None:
    given = candidates.make("reference", delay_s=SLOW_S), candidates.make("other")
    _, first = open_(*given)
    opened = {name: len(engines) for name, engines in candidates.opened.items()}
    with caplog.at_level(logging.INFO):
        engine, second = open_(*given)
    assert second == first
    assert len(candidates.opened["reference fp32"]) == opened["reference fp32"], "not even opened"
    assert engine is candidates.opened["other fp32"][-1]
    assert candidates.opened["other fp32"][-1].runs == 0
    assert caplog.messages == []


@pytest.mark.parametrize("change", ["graph", "threads", "cap", "budget"])
def test_what_a_choice_depends_on_is_measured_anew(
    change: str, open_: Open, candidates: Candidates, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = candidates.make("reference", delay_s=SLOW_S), candidates.make("other")
    open_(*given)
    if change == "graph":
        write_generator(graph, layers=2)
    elif change == "cap":
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    if change == "threads":
        settings = read_settings(repository=tmp_path, engine_cache=tmp_path / "cache")
        CpuChooser(settings, 1, 1, given[0]).open(version_of(graph), "model.onnx", True, given)
    else:
        open_(*given, warmup_s=29.0 if change == "budget" else 30.0)
    assert len(kept_choices(tmp_path)) == 2


def hangs(path: Path, batched: bool) -> Engine:
    threading.Event().wait(10)
    raise StartError("nobody waited")


@pytest.mark.parametrize("damage", [does_not_open, does_not_load, hangs])
def test_a_choice_that_cannot_be_opened_any_more_is_made_again(
    damage: Callable[[Path, bool], Engine],
    open_: Open,
    candidates: Candidates,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    reference, other = candidates.make("reference", delay_s=SLOW_S), candidates.make("other")
    open_(reference, other)

    damaged = Candidate(other.engine, other.precision, other.distribution, damage)
    _, choice = open_(reference, damaged, hang_timeout_s=0.5)
    assert choice.engine == "reference"
    assert "kept choice of an engine not opened" in caplog.messages
    assert kept_choices(tmp_path)[0]["ends_at"] is not None, "another day it may open, or on another machine"


def test_a_damaged_choice_is_made_again(open_: Open, candidates: Candidates, tmp_path: Path) -> None:
    given = candidates.make("reference", delay_s=SLOW_S), candidates.make("other")
    open_(*given)
    (path,) = (tmp_path / "cache" / "cpu").glob("*.json")
    path.write_bytes(path.read_bytes()[:40])
    assert open_(*given)[1].engine == "other"
    assert kept_choices(tmp_path)[0]["choice"]["engine"] == "other"


def test_where_nothing_can_be_kept_nothing_is_tried(
    open_: Open, candidates: Candidates, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file in its place")
    _, choice = open_(candidates.make("reference", delay_s=SLOW_S), candidates.make("other"))
    assert choice.engine == "reference"
    assert "--engine-cache sets the folder" in choice.why
    assert "other fp32" not in candidates.opened
    assert "engines not measured" in caplog.messages


@pytest.mark.parametrize("warmup_s", [0.0, 0.05])
def test_measuring_ends_in_time(warmup_s: float, open_: Open, candidates: Candidates, tmp_path: Path) -> None:
    _, choice = open_(candidates.make("reference", delay_s=SLOW_S), candidates.make("other"), warmup_s=warmup_s)
    assert choice.engine == "reference"
    assert f"it takes too long; {warmup_s / 2:g} s are half of warmup_s" in choice.why
    assert candidates.still_open == ["reference fp32"]
    (kept,) = kept_choices(tmp_path)
    assert kept["ends_at"] is not None, "the next start need not find out again, one of another day does"


def test_a_server_that_stops_waits_for_no_measurement(candidates: Candidates, graph: Path, tmp_path: Path) -> None:
    settings = read_settings(repository=tmp_path, engine_cache=tmp_path / "cache", warmup_s=600.0)
    given: Sequence[Candidate] = ()
    chooser: CpuChooser | None = None

    def stop(outputs: Outputs, items: int, whole_device: bool) -> Outputs:
        assert chooser is not None
        chooser.stop()
        return outputs

    given = candidates.make("reference"), candidates.make("other", change=stop, delay_s=SLOW_S)
    chooser = CpuChooser(settings, 2, 2, given[0])
    _, choice = chooser.open(version_of(graph), "model.onnx", True, given)
    assert choice.why == "not measured: the server is stopping"
    assert candidates.opened["other fp32"][0].runs == 1
    assert candidates.still_open == ["reference fp32"]
    assert kept_choices(tmp_path) == []


def test_while_models_serve_it_rests_and_its_time_is_longer_by_that(
    candidates: Candidates, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "REST_TIMES", 0.001)
    rests: list[float] = []
    rest = Pace.rest

    def rest_long(self: Pace) -> float:
        """As if most of warmup_s had been rested, of which so little is there that measuring needs all."""
        assert rest(self) > 0.0
        rests.append(1.0)
        return 1.0

    monkeypatch.setattr(Pace, "rest", rest_long)
    busy_s = itertools.count()
    given = candidates.make("reference", delay_s=SLOW_S), candidates.make("other")
    settings = read_settings(repository=tmp_path, engine_cache=tmp_path / "cache", warmup_s=0.001)
    chooser = CpuChooser(settings, 2, 2, given[0], lambda: float(next(busy_s)))
    assert chooser.open(version_of(graph), "model.onnx", True, given)[1].engine == "other"
    assert len(rests) > 4 * speed.ROUNDS


def test_a_graph_that_takes_for_ever_to_open_does_not_keep_others_waiting(
    candidates: Candidates, graph: Path, tmp_path: Path
) -> None:
    write_generator(tmp_path / "large" / "1", layers=2)
    opening, may_open = threading.Event(), threading.Event()
    quick, other = candidates.make("reference", delay_s=SLOW_S), candidates.make("other")

    def open_slowly(path: Path, batched: bool) -> Engine:
        if "large" in path.parts:
            opening.set()
            assert may_open.wait(30)
        return quick.open(path, batched)

    reference = Candidate(quick.engine, quick.precision, quick.distribution, open_slowly)
    settings = read_settings(repository=tmp_path, engine_cache=tmp_path / "cache")
    chooser = CpuChooser(settings, 2, 2, reference)
    large = version_of(tmp_path / "large" / "1")
    thread = threading.Thread(target=chooser.open, args=(large, "model.onnx", True, [reference, other]))
    thread.start()
    assert opening.wait(30)
    found: list[str] = []
    second = threading.Thread(
        target=lambda: found.append(chooser.open(version_of(graph), "model.onnx", True, [reference, other])[1].engine)
    )
    second.start()
    second.join(30)
    may_open.set()
    thread.join(30)
    assert found == ["other"]


def test_a_graph_that_draws_its_own_noise_cannot_be_compared(open_: Open, candidates: Candidates) -> None:
    random = np.random.RandomState(0)

    def noise(outputs: Outputs, items: int, whole_device: bool) -> Outputs:
        return {"image": outputs["image"] ^ random.randint(0, 2, outputs["image"].shape).astype(np.uint8)}

    _, choice = open_(candidates.make("reference", change=noise), candidates.make("other"))
    assert choice.engine == "reference"
    assert choice.why == "not measured: reference fp32: it gives other values when it is run again"


def test_a_reference_that_hangs_is_opened_anew_for_warm_up_to_tell(open_: Open, candidates: Candidates) -> None:
    engine, choice = open_(candidates.make("reference", hangs=True), candidates.make("other"), hang_timeout_s=0.3)
    assert choice.why == "not measured: reference fp32: it had not ended after 0.3 s (hang_timeout_s)"
    first, second = candidates.opened["reference fp32"]
    assert engine is second
    first.release.set()
    second.release.set()


# An engine that was requested: no reference among the candidates.


def test_an_engine_that_was_requested_serves_if_its_images_are_right(open_: Open, candidates: Candidates) -> None:
    reference, slow = candidates.make("reference"), candidates.make("requested", delay_s=SLOW_S)
    _, choice = open_(slow, reference=reference)
    assert (choice.engine, choice.why, choice.note) == ("requested", "", "")
    assert candidates.still_open == ["requested fp32"]


def test_it_serves_with_a_note_if_its_items_depend_on_their_batch(open_: Open, candidates: Candidates) -> None:
    requested = candidates.make("requested", change=other_in_batches)
    for _ in range(2):  # measured, then kept
        _, choice = open_(requested, reference=candidates.make("reference"))
        assert choice.note == "requested fp32: items have other bytes in a batch of 4 than alone"


def test_it_does_not_serve_if_its_images_are_wrong(open_: Open, candidates: Candidates, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(NotServing, match=r"requested bf16: output 'image' has 3.*; --engine auto with"):
            open_(candidates.make("requested", "bf16", change=brighter(3)), reference=candidates.make("reference"))
    assert candidates.still_open == []
    assert kept_choices(tmp_path) == []


# A library that ends the process.


@pytest.mark.parametrize("when", ["compared", "measured"])
def test_a_candidate_that_ends_the_process_is_skipped_by_the_next_one(when: str, graph: Path, tmp_path: Path) -> None:
    assert start(tmp_path, when).status == -signal.SIGSEGV
    second = start(tmp_path, when)
    assert second.status == -signal.SIGSEGV, "once may have been a kill from outside"
    assert "engine tried again" in second.log
    third = start(tmp_path, when)
    assert (third.status, third.engine) == (0, "other")
    (warning,) = [line for line in map(json.loads, third.log.splitlines()) if line["level"] == "WARNING"]
    assert warning["engine"] == "crashing fp32"
    assert "2 processes ended while trying it" in warning["reason"]
    marks = list((tmp_path / "cache" / "cpu").glob("*.crashing-fp32.*.trying"))
    assert all(str(mark) in warning["reason"] for mark in marks)
    assert start(tmp_path, when) == Started(0, "other", ""), "kept"
    assert kept_choices(tmp_path)[0]["ends_at"] is not None, "for as long as it is skipped"


def test_a_kept_choice_that_ends_the_process_when_it_is_opened_is_skipped(graph: Path, tmp_path: Path) -> None:
    def outcome(ends: str = "") -> tuple[int | None, str]:
        started = start(tmp_path, ends)
        return started.status, started.engine

    assert outcome() == (0, "other")
    assert outcome("opened") == (-signal.SIGSEGV, "")
    assert outcome() == (0, "other"), "it may have been a kill"
    assert list((tmp_path / "cache" / "cpu").glob("*.trying")) == []
    assert [outcome("opened")[0] for _ in range(2)] == [-signal.SIGSEGV, -signal.SIGSEGV]
    assert outcome("opened") == (0, "reference")


def test_a_kept_choice_is_opened_from_a_folder_that_can_only_be_read(
    open_: Open, candidates: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = candidates.make("reference", delay_s=SLOW_S), candidates.make("other")
    open_(*given)

    def sealed(*args: Any, **named: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("server.repository.cpu.kept.tempfile.NamedTemporaryFile", sealed)
    assert open_(*given)[1].engine == "other"
    assert len(candidates.opened["reference fp32"]) == 1, "nothing was measured"
