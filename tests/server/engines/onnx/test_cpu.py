"""ONNX Runtime's memory on the CPU."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.graphs import write_upscaler

# RSS in MiB of a process: with both sessions opened and run on a small image, run on a large one, trimmed. Then
# whether a small and a large image come out as before.
MEASURE = """
import sys
import numpy as np
from pathlib import Path
from server import allocator
from server.engines.onnx.cpu import OnnxCpuEngine

def rss():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))

allocator.configure()
engine = OnnxCpuEngine(Path(sys.argv[1]), 2, 2, True)
small, large = (np.random.RandomState(0).randint(0, 256, (1, side, side, 3)).astype(np.uint8) for side in (32, 512))
def runs(image):
    return [engine.run({"image": image}, whole)["upscaled"] for whole in (False, True)]
before = runs(small)
print(rss())
engine.run({"image": large}, False), engine.run({"image": large}, True)
print(rss())
engine.trim()
print(rss())
print(all(np.array_equal(a, b) for a, b in zip(runs(small), before)))
print(np.array_equal(runs(large)[0][:, ::2, ::2], large))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_trimming_gives_back_what_a_large_run_took(tmp_path: Path) -> None:
    write_upscaler(tmp_path, "upscaler", channels=64)  # 64 MiB for each of two large runs
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "upscaler" / "1" / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[4])
    rest, large, trimmed, small_same, large_same = done.stdout.split()
    assert int(large) - int(rest) > 100, "else this shows nothing"
    assert int(trimmed) - int(rest) < 10
    assert (small_same, large_same) == ("True", "True")
