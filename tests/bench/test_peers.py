"""Other servers beside ours: a peer as a process, and the HTTP caller that it is measured with."""

import argparse
import ast
import contextlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.caller.http import content_length
from bench.caller.server import TargetError
from bench.caller.wire import OK, UNKNOWN, Answer, WireError
from bench.peers import catalogue, run
from bench.peers.catalogue import PEERS, SERVERS, Peer
from bench.peers.process import served, way_of

PROGRAM = """
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(3 * len(body)))
        self.end_headers()
        self.wfile.write(3 * body)

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PEER_PORT"])), Handler).serve_forever()
"""
PEER = Peer("tripler", "Tripler 1", ("tripler==1",))


def _contestant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> run.Contestant:
    (tmp_path / "tripler_.py").write_text(PROGRAM)
    monkeypatch.setattr(catalogue, "SERVERS", tmp_path)
    monkeypatch.setattr(run, "CALLERS", (1, 3))
    monkeypatch.setattr(run, "WARM_S", 0.01)
    path, kind = way_of(PEER)
    return run.Contestant(
        PEER.name, "1 x 2", False, path, kind, [b"abc"],
        lambda: served(PEER, Path(sys.executable), tmp_path / "model.onnx", 1, 2, b"abc"),
    )  # fmt: skip


def test_a_peer_is_started_measured_at_each_number_of_callers_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contestant = _contestant(tmp_path, monkeypatch)
    contestant.measure(0.1, np.frombuffer(b"abcabcabc", np.uint8))
    assert {callers: len(phases) for callers, phases in contestant.phases.items()} == {1: 1, 3: 1}
    assert contestant.as_json()["errors"] == 0


def test_a_peer_that_answers_with_another_image_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contestant = _contestant(tmp_path, monkeypatch)
    with pytest.raises(TargetError, match="another image"):
        contestant.measure(0.1, np.zeros(9, np.uint8))


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [(Answer(0.0, 0.0, OK, 0, b""), "another image: 0 bytes"), (Answer(0.0, 0.0, UNKNOWN, 0), "answers with status 2")],
)
def test_a_reply_over_grpc_that_holds_no_image_is_that_peers_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, sentence: str
) -> None:
    contestant = _contestant(tmp_path, monkeypatch)
    contestant.is_grpc = True
    contestant.start = lambda: contextlib.nullcontext(0)
    monkeypatch.setattr(run, "call_once", lambda *_: answer)
    with pytest.raises(TargetError, match=sentence):
        contestant.measure(0.1, np.zeros(9, np.uint8))


def test_a_peer_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TargetError, match="--only mosek: must be of triton, mosec"):
        run.run(argparse.Namespace(only=["mosec", "mosek"]))


def test_a_peer_that_ends_is_reported_with_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tripler_.py").write_text("raise SystemExit('no such port')")
    monkeypatch.setattr(catalogue, "SERVERS", tmp_path)
    with (
        pytest.raises(TargetError, match="no such port"),
        served(PEER, Path(sys.executable), tmp_path / "model.onnx", 1, 2, b"abc"),
    ):
        pass


def test_every_peer_has_a_program_and_fixed_versions() -> None:
    for peer in PEERS:
        ast.parse(peer.program.read_text())
        assert all(re.fullmatch(r"[\w.\-\[\]]+==[\d.]+", each) for each in peer.requirements), peer.name
    assert {path.name for path in SERVERS.glob("*_.py")} == {peer.program.name for peer in PEERS}


def test_a_reply_without_a_length_is_refused() -> None:
    assert content_length(b"HTTP/1.1 200 OK\r\nServer: x\r\nCONTENT-LENGTH: 12") == 12
    with pytest.raises(WireError, match="without Content-Length"):
        content_length(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked")
