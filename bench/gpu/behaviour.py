"""What only a GPU shows of the server: its GPU metrics, memory after unloading, instances, float32 again, its end."""

import math
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from artifact.repository import CONFIG, ONNX_FP32
from bench.caller.loops import Phase, closed_loop
from bench.caller.server import INFER, Target, TargetError, started
from bench.gpu.artifacts import Version
from bench.gpu.device import Device
from bench.gpu.figures import Finding, Subject
from bench.gpu.rates import feed_of
from bench.gpu.report import first_line
from bench.gpu.serving import batched
from bench.machine import core_count
from server.engines.onnx.cpu import OnnxCpuEngine

KSERVE_OF = {"float32": "FP32", "float16": "FP16", "int64": "INT64", "uint8": "UINT8"}
CYCLES = 3
LARGEST = 64
OVERFLOWING = 1e6  # of a latent: infinite in float16, a picture like any other in float32
STOP_S = 30.0


def look(version: Version, subject: Subject, device: Device, work: Path, seconds: float) -> Iterator[Finding]:
    """Each part's finding, as it is found; a part that broke off is a finding too."""
    parts: list[Callable[[], Finding]] = [
        lambda: _end_under_load(version, subject, device, work),
        lambda: _metrics(version, subject, device, work, seconds),
        lambda: _unloading(version, subject, device, work),
        lambda: _float32_again(version, subject, device, work),
        lambda: _instances(version, subject, device, work, seconds),
    ]
    for part in parts:
        try:
            yield part()
        except Exception as error:  # what broke off is a result, and the other parts are looked at
            # the end of the server's log, if it died
            said = str(error).splitlines()[-1] if isinstance(error, TargetError) else first_line(error)
            yield Finding("a part broke off", False, said)


def _repository(version: Version, work: Path, instances: int = 0) -> Path:
    """A copy with that model alone."""
    folder = work / "behaviour"
    shutil.rmtree(folder, ignore_errors=True)
    model = version.folder.parent
    shutil.copytree(version.folder, folder / model.name / "1")
    config = batched((model / CONFIG).read_text(), LARGEST)
    if instances:
        config += f"\ninstance_group [{{ count: {instances} kind: KIND_GPU }}]\n"
    (folder / model.name / CONFIG).write_text(config)
    return folder


def _message(version: Version, subject: Subject, rows: int) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=subject.model)
    for name, array in feed_of(version, subject, rows).items():
        request.inputs.add(name=name, datatype=KSERVE_OF[array.dtype.name], shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    serialized: bytes = request.SerializeToString()
    return serialized


def _load(target: Target, message: bytes, callers: int, seconds: float) -> Phase:
    return closed_loop(target.address, INFER, [message], callers=callers, seconds=seconds, connections=4)


def _arguments(device: Device, more: str = "") -> str:
    engine = " --engine onnx" if device.kind == "cuda" else ""
    return f"--device {device.kind}{engine} --shutdown-delay-s 0 --queue-target-s 0 {more}"


def _page(target: Target) -> dict[str, float]:
    """The GPU's metrics by name."""
    with urllib.request.urlopen(f"http://{target.metrics}/metrics", timeout=5) as reply:
        lines = reply.read().decode().splitlines()
    found = {}
    for line in lines:
        if line.startswith(("nv_gpu_", "nv_energy")):
            name, _, value = line.rpartition(" ")
            found[name.partition("{")[0]] = float(value)
    return found


def _nvidia_smi(*fields: str) -> list[float]:
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", "--id=0"]
    line = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return [float(part) if re.fullmatch(r"\s*[\d.]+\s*", part) else math.nan for part in line.split(",")]


def _metrics(version: Version, subject: Subject, device: Device, work: Path, seconds: float) -> Finding:
    """The metrics page beside nvidia-smi, while the GPU works."""
    with started(_repository(version, work), _arguments(device)) as target:
        message = _message(version, subject, 64)
        thread = threading.Thread(target=_load, args=(target, message, 16, 2 * seconds))
        thread.start()
        time.sleep(seconds)
        page = _page(target)
        if device.kind == "cpu":
            thread.join()
            return Finding("metrics", not page, f"no GPU: {len(page)} GPU metrics")
        used, total, watts, busy, limit = _nvidia_smi(
            "memory.used", "memory.total", "power.draw", "utilization.gpu", "power.limit"
        )
        thread.join()
    return compared(page, (used, total, watts, busy, limit))


def compared(page: Mapping[str, float], theirs: Sequence[float]) -> Finding:
    """Our page beside what nvidia-smi says a moment later: memory used and in all, power, busy share, power limit; nan
    where one of them does not know, which only memory must be."""
    names = ("memory used MiB", "memory total MiB", "power W", "busy %", "power limit W")
    kept = ("memory_used_bytes", "memory_total_bytes", "power_usage", "utilization", "power_limit")
    scales = (2**-20, 2**-20, 1, 100, 1)
    ours = [scale * page.get(f"nv_gpu_{name}", math.nan) for name, scale in zip(kept, scales, strict=True)]
    # memory by what one more context takes; power and busy share change from one moment to the next
    tolerances = (1024, 0.02 * theirs[1], 0.5 * theirs[2], 50, 1)
    pairs = list(zip(ours, theirs, tolerances, strict=True))
    near = all(a > 0 and b > 0 and abs(a - b) <= most for a, b, most in pairs[:2]) and all(
        abs(a - b) <= most for a, b, most in pairs[2:] if not math.isnan(a + b)
    )
    text = "; ".join(f"{name} {a:.0f} / {b:.0f}" for name, (a, b, _) in zip(names, pairs, strict=True))
    return Finding("GPU metrics / nvidia-smi", near, text)


def _memory_mib(device: Device) -> float:
    return _nvidia_smi("memory.used")[0] if device.kind == "cuda" else 0.0


def _unloading(version: Version, subject: Subject, device: Device, work: Path) -> Finding:
    """The GPU's memory after a model was loaded and unloaded again, several times."""
    before = _memory_mib(device)
    seen = []
    with started(_repository(version, work), _arguments(device, "--model-control explicit")) as target:
        empty = _memory_mib(device) - before
        with grpc.insecure_channel(f"{target.host}:{target.grpc_port}") as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            for _ in range(CYCLES):
                stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name=subject.model), timeout=60)
                stub.ModelInfer(service_pb2.ModelInferRequest.FromString(_message(version, subject, 4)), timeout=60)
                loaded = _memory_mib(device) - before
                stub.RepositoryModelUnload(
                    service_pb2.RepositoryModelUnloadRequest(model_name=subject.model), timeout=60
                )
                time.sleep(1)
                seen.append((loaded, _memory_mib(device) - before))
    left, first = seen[-1][1], seen[0][1]
    text = f"MiB: at start {empty:.0f}; loaded / unloaded {', '.join(f'{a:.0f} / {b:.0f}' for a, b in seen)}"
    text += f"; process ended {_memory_mib(device) - before:.0f}"
    return Finding("memory after unloading", left <= first + 64, text)


def _instances(version: Version, subject: Subject, device: Device, work: Path, seconds: float) -> Finding:
    """Images per second of one instance and of two, calls of one image and of 64."""
    found = {}
    kind = "KIND_GPU" if device.kind == "cuda" else "KIND_CPU"
    for count in (1, 2):
        folder = _repository(version, work, count)
        config = folder / subject.model / CONFIG
        config.write_text(config.read_text().replace("KIND_GPU", kind))
        with started(folder, _arguments(device)) as target:
            for rows in (1, 64):
                phase = _load(target, _message(version, subject, rows), 64 if rows == 1 else 16, seconds)
                found[count, rows] = phase.per_s * rows
    text = "; ".join(f"{count} instances, {rows} images a call: {rate:.0f}/s" for (count, rows), rate in found.items())
    return Finding("two instances", all(found.values()), text)


def _float32_again(version: Version, subject: Subject, device: Device, work: Path) -> Finding:
    """A latent so large that float16 overflows on the GPU: the picture is the float32 graph's."""
    feed = {name: array.copy() for name, array in feed_of(version, subject, 2).items()}
    floats = [name for name, array in feed.items() if array.dtype.kind == "f" and array.ndim > 1]
    if version.spec.precision == "fp32" or not floats:
        return Finding("float32 again", False, f"{subject} {version.spec.precision} has no latent that can overflow")
    feed[floats[0]][1] *= OVERFLOWING / np.abs(feed[floats[0]][1]).max()
    request = service_pb2.ModelInferRequest(model_name=subject.model)
    for name, array in feed.items():
        request.inputs.add(name=name, datatype=KSERVE_OF[array.dtype.name], shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    with started(_repository(version, work), _arguments(device)) as target:
        with grpc.insecure_channel(f"{target.host}:{target.grpc_port}") as channel:
            reply = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=60)
        with urllib.request.urlopen(f"http://{target.metrics}/metrics", timeout=5) as answer:
            lines = [line for line in answer.read().decode().splitlines() if "float32" in line or "fallback" in line]
    counted = sum(float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#"))
    pixels = np.frombuffer(reply.raw_output_contents[0], np.uint8).reshape(reply.outputs[0].shape)
    precise = OnnxCpuEngine(version.folder / ONNX_FP32, 1, core_count(), True)
    expected = precise.run(feed, True)[version.spec.outputs[0].name]
    precise.close()
    # a value of a million that is nearly zero may have either sign
    apart = float(np.mean(np.abs(pixels[1].astype(np.int16) - expected[1]) > 1))
    text = f"items computed again: {counted:.0f}; {100 * apart:.2f} % of values unlike float32 on the CPU"
    return Finding("float32 again", counted >= 1 and apart < 0.001, text)


def _end_under_load(version: Version, subject: Subject, device: Device, work: Path) -> Finding:
    """SIGTERM while 16 callers wait: what was taken in is answered, and the process ends in time with code 0."""
    request = service_pb2.ModelInferRequest.FromString(_message(version, subject, 16))
    said: list[str] = []
    with started(_repository(version, work), _arguments(device)) as target:

        def call_on() -> None:
            with grpc.insecure_channel(f"{target.host}:{target.grpc_port}") as channel:
                stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
                while True:
                    try:
                        stub.ModelInfer(request, timeout=STOP_S)
                        said.append("answered")
                    except grpc.RpcError as error:
                        said.append(error.code().name)
                        return

        threads = [threading.Thread(target=call_on) for _ in range(16)]
        for thread in threads:
            thread.start()
        began_s = time.perf_counter()
        while not said and time.perf_counter() - began_s < STOP_S:
            time.sleep(0.05)
        time.sleep(1.0)
        before = list(said)
        began_s = time.perf_counter()
        os.kill(target.pid, signal.SIGTERM)
        for thread in threads:
            thread.join()
        took_s = time.perf_counter() - began_s
        code = _exit_code(target.pid, began_s + STOP_S)
    return ended(before, said[len(before) :], took_s, code)


def ended(before: Sequence[str], after: Sequence[str], took_s: float, code: int | None) -> Finding:
    """What callers were told before the signal and after it, when the last of them knew, and how the process ended;
    None if it did not."""
    counts = ", ".join(f"{count} {name}" for name, count in sorted(Counter(after).items()))
    good = set(before) == {"answered"} and set(after) <= {"answered", "UNAVAILABLE"} and took_s < STOP_S and code == 0
    how = "the process did not end" if code is None else f"exit code {code}"
    text = f"{len(before)} calls before it; after it: {counts}; the last caller knew after {took_s:.2f} s; {how}"
    return Finding("SIGTERM under load", good, text)


def _exit_code(pid: int, end_s: float) -> int | None:
    """Of a process of ours, which is still to be waited for; minus the signal that ended it; None if it runs on."""
    while time.perf_counter() < end_s:
        if found := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        time.sleep(0.05)
    return None
