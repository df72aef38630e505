"""Whose turn the threads that compute leave to others, and that they take no other one's."""

import subprocess
import sys
from pathlib import Path

import pytest

from server.engines.niceness import LANE_NICENESS

ROOT = Path(__file__).resolve().parents[3]
COMPUTE = """
import os, sys, threading
from server.engines.niceness import yield_to_loop
os.nice(int(sys.argv[1]))
def compute():
    yield_to_loop()
    print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
thread = threading.Thread(target=compute)
thread.start()
thread.join()
print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux knows the niceness of a thread")
@pytest.mark.parametrize(("process", "lane"), [(0, LANE_NICENESS), (5, LANE_NICENESS), (15, 15)])
def test_a_lane_is_nicer_than_the_loop_and_never_less_nice_than_the_process(process: int, lane: int) -> None:
    command = [sys.executable, "-c", COMPUTE, str(process)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.split() == [str(lane), str(process)]
    assert found.stderr == ""
