"""What engines on the CPU keep of their largest run, and give back."""

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

def opened(kind, path):
    if kind == "onnx":
        return OnnxCpuEngine(path, 2, 2, True)
    from server.engines.openvino.engine import OpenVinoCpuEngine
    return OpenVinoCpuEngine(path, 2, 2, True, "fp32")

def rss():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))

allocator.configure()
engine = opened(sys.argv[1], Path(sys.argv[2]))
small, large = (np.random.RandomState(0).randint(0, 256, (1, side, side, 3)).astype(np.uint8) for side in (32, 512))
def runs(image):
    return [engine.run({"image": image}, whole)["upscaled"] for whole in (False, True)]
before = runs(small)
print(rss())
engine.run({"image": large}, False), engine.run({"image": large}, True)
print(rss())
engine.trim()
allocator.trim()
print(rss())
print(all(np.array_equal(a, b) for a, b in zip(runs(small), before)))
print(np.array_equal(runs(large)[0][:, ::2, ::2], large))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_trimming_gives_back_what_a_large_run_took(tmp_path: Path, kind: str) -> None:
    if kind == "openvino":
        pytest.importorskip("openvino")
    write_upscaler(tmp_path, "upscaler", channels=64)  # 64 MiB for each of two large runs
    command = [sys.executable, "-c", MEASURE, kind, str(tmp_path / "upscaler" / "1" / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    rest, large, trimmed, small_same, large_same = done.stdout.split()
    assert int(large) - int(rest) > 100, "else this shows nothing"
    assert int(trimmed) - int(rest) < 10
    assert (small_same, large_same) == ("True", "True")
