"""What hangs is told, seen by the probes, and does not keep the process from ending. With real processes: a thread that
hangs would stay in the tests' own."""

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tritonclient.grpc import service_pb2, service_pb2_grpc

from server.last_resort import EXIT_CODE
from tests.serving import ServerProcess, running, serve_command


def write_endless(folder: Path) -> Path:
    """A repository whose model `endless` loops for ever if its input is above 1000: x (N, 1) -> y (N, 1)."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["goes_on"]), helper.make_node("Identity", ["before"], ["after"])],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "limit"], ["large"]),
        helper.make_node("Loop", ["", "large", "x"], ["y"], body=body),
    ]
    save(folder, nodes, [helper.make_tensor("limit", TensorProto.FLOAT, [], [1000.0])])
    return folder


def write_stuck(folder: Path) -> Path:
    """Like `endless`, but in one node, which nothing interrupts: a million boxes that are each compared with all."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "limit"], ["large"]),
        helper.make_node("Where", ["large", "many", "one"], ["number"]),
        helper.make_node("Concat", ["one", "number", "four"], ["boxes_shape"], axis=0),
        helper.make_node("Expand", ["box", "boxes_shape"], ["boxes"]),
        helper.make_node("Concat", ["one", "one", "number"], ["scores_shape"], axis=0),
        helper.make_node("Expand", ["limit", "scores_shape"], ["scores"]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "many", "overlap"], ["selected"]),
        helper.make_node("ReduceMin", ["selected"], ["least"], keepdims=0),
        helper.make_node("Cast", ["least"], ["zero"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "zero"], ["y"]),
    ]
    constants = [
        helper.make_tensor("limit", TensorProto.FLOAT, [], [1000.0]),
        helper.make_tensor("many", TensorProto.INT64, [1], [1_000_000]),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("four", TensorProto.INT64, [1], [4]),
        helper.make_tensor("box", TensorProto.FLOAT, [1, 1, 4], [0.0, 0.0, 1.0, 1.0]),
        helper.make_tensor("overlap", TensorProto.FLOAT, [1], [1.0]),
    ]
    save(folder, nodes, constants)
    return folder


def save(folder: Path, nodes: list[Any], constants: list[Any]) -> None:
    """A graph of x (N, 1) -> y (N, 1) as the model `endless`."""
    graph = helper.make_graph(
        nodes,
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])],
        constants,
    )
    (folder / "endless" / "1").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / "endless" / "1" / "model.onnx")


def probe(server: ServerProcess, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def infer(server: ServerProcess, value: float, timeout_s: float) -> None:
    request = service_pb2.ModelInferRequest(model_name="endless", id="mine")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    request.raw_input_contents.append(np.float32(value).tobytes())
    with grpc.insecure_channel(server.address) as channel:
        service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=timeout_s)


def wait_for(server: ServerProcess, path: str, status: int) -> str:
    """What the probe says once it has that status."""
    for _ in range(400):
        found, text = probe(server, path)
        if found == status:
            return text
        time.sleep(0.05)
    raise AssertionError(f"{path} is {found}: {text}\n{server.log}")


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_run_that_hangs_is_ended_if_it_can_be_and_the_server_recovers(tmp_path: Path, threads: str) -> None:
    options = ("--hang-timeout-s", "1", "--device", "cpu", "--threads", threads)
    with running(write_endless(tmp_path), *options) as server:
        for _ in range(2):
            with pytest.raises(grpc.RpcError, match="inference failed"):
                infer(server, 2000.0, timeout_s=20)
            wait_for(server, "/readyz", 200)
            infer(server, 1.0, timeout_s=10)
            assert probe(server, "/livez") == (200, "OK\n")
        assert server.log.count("a run hangs") == 2
        assert server.log.count("a run that hung has ended") == 2


@pytest.mark.slow
def test_a_run_ends_soon_after_its_last_caller_has_left(tmp_path: Path) -> None:
    with running(write_endless(tmp_path), "--device", "cpu", "--threads", "1") as server:
        with pytest.raises(grpc.RpcError):
            infer(server, 2000.0, timeout_s=0.3)
        infer(server, 1.0, timeout_s=30)
        assert probe(server, "/readyz")[0] == 200
        assert "ERROR" not in server.log


@pytest.mark.slow
@pytest.mark.parametrize("frontend", ["native", "grpcio"])
def test_a_hung_engine_is_told_fails_the_probes_and_does_not_keep_sigterm_from_ending_the_process(
    tmp_path: Path, frontend: str
) -> None:
    options = ("--hang-timeout-s", "1", "--drain-s", "0.5", "--frontend", frontend, "--device", "cpu", "--threads", "1")
    with ServerProcess(serve_command(write_stuck(tmp_path), *options)) as server:
        assert server.ready
        infer(server, 1.0, timeout_s=10)
        assert probe(server, "/livez") == (200, "OK\n")
        with pytest.raises(grpc.RpcError) as error:
            infer(server, 2000.0, timeout_s=0.5)
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        said = "a batch of 1 of model 'endless', requests"
        assert said in wait_for(server, "/readyz", 503)
        assert said in wait_for(server, "/livez", 503)
        assert "a run hangs" in server.log
        server.terminate()
        began = time.monotonic()
        assert server.wait() == EXIT_CODE
        assert time.monotonic() - began < 15


def test_a_loop_that_does_not_answer_ends_the_process() -> None:
    code = """
import asyncio, time
from server import last_resort
last_resort.GRACE_S = 0.1
async def main():
    last_resort.LastResort(0.2)
    time.sleep(60)
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == EXIT_CODE
    assert ended.stderr == "ganserve: the event loop did not answer for 0.2 s (hang_timeout_s); exiting with 70\n"


def test_an_end_that_hangs_ends_all_the_same() -> None:
    code = """
import asyncio, threading
from server.last_resort import LastResort
async def main():
    LastResort(0.0).end_within(0.2)
asyncio.run(main())
threading.Thread(target=threading.Event().wait).start()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (
        EXIT_CODE,
        "ganserve: the server did not end in time; exiting with 70\n",
    )


@pytest.mark.parametrize(("bug", "code"), [("", 0), ("raise RuntimeError('bug')", EXIT_CODE)])
def test_a_thread_that_the_server_left_behind_does_not_keep_the_process(repository: Path, bug: str, code: int) -> None:
    script = """
import asyncio, sys, threading
from server import app
from server.environment import read_settings
app.CLOSE_S = 0.5
async def main():
    stop = asyncio.Event()
    def ready(serving):
        threading.Thread(target=threading.Event().wait).start()
        exec(sys.argv[2])
        stop.set()
    settings = read_settings(repository=sys.argv[1], host="127.0.0.1", grpc_port=0, http_port=0, device="cpu",
                             shutdown_delay_s=0)
    await app.serve(settings, ready, stop)
asyncio.run(main())
"""
    command = [sys.executable, "-c", script, str(repository), bug]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == code, ended.stderr  # 0: every call was answered
    assert f"ganserve: the server did not end in time; exiting with {code}" in ended.stderr


@pytest.mark.slow
def test_signals_that_end_a_process_by_default_drain_or_are_ignored(tmp_path: Path) -> None:
    faults = {
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGSEGV,
        signal.SIGSYS,
        signal.SIGTRAP,
    }
    harmless = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, signal.SIGPIPE, signal.SIGXFSZ}
    faults |= {signal.SIGSYS, signal.SIGTRAP}
    stopping = {signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
    drained = [signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU, signal.SIGPWR]
    repository = write_endless(tmp_path)
    for ending in drained:
        with running(repository, "--device", "cpu") as server:
            if ending is drained[0]:
                others = {*drained, signal.SIGTERM, signal.SIGINT}
                for number in signal.valid_signals() - faults - harmless - stopping - others:
                    server.process.send_signal(number)
            infer(server, 1.0, timeout_s=10)
            server.process.send_signal(ending)
            assert server.wait() == 0
            assert "Traceback" not in server.log
