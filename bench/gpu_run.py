"""The sections of `python -m bench gpu`, in their order, each within its share of the time."""

import argparse
import importlib
import time
from dataclasses import dataclass

from bench import gpu_parity, gpu_rates
from bench.gpu_artifacts import Artifacts, Torch, Unavailable, Version, subjects, torch_model
from bench.gpu_device import Device, busy_refusal
from bench.gpu_engines import Way, ways
from bench.gpu_report import Results, Subject, first_line

# Up to where of the time a section may begin something new; what is left is for its end.
RATES_END, SERVER_END = 0.6, 0.92
LONGEST_FIGURE_S, LONGEST_PHASE_S, SHORTEST_S = 0.5, 4.0, 0.02
SERVER_START_S = 6.0
SETTINGS = ("models", "precisions", "batches", "tiles", "callers", "images_per_call", "serve_arguments", "seconds")
DETAILS = (
    "torch: eager, its default memory format, fp32 without TF32 unless said. ONNX Runtime and TensorRT: TF32 in fp32 "
    "as they have it by default. With transfers: from and to host memory (torch's pageable). Server: ModelInfer, "
    "raw tensors, callers on the same machine."
)


@dataclass(frozen=True)
class Model:
    """A model with all that could be had of it."""

    versions: dict[str, Version]
    found: Torch | None
    subjects: list[Subject]
    ways: list[Way]


def run(arguments: argparse.Namespace) -> None:
    """Measures everything and leaves the two files, rewritten after every section."""
    began_s = time.perf_counter()
    device = Device(arguments.device)
    settings = {name: vars(arguments)[name] for name in SETTINGS}
    path = arguments.out / f"{device.slug}.json"
    results = Results(path, device.facts(), {**settings, "details": DETAILS})
    if busy := busy_refusal(device):
        results.skip("GPU busy share", busy)
    models = [model for name in arguments.models if (model := _prepare(arguments, results, device, name)) is not None]
    results.write()
    for model in models:
        gpu_parity.check(results, model.subjects, model.versions, model.found, model.ways, device)
        results.write()
    _rates(arguments, results, device, models, began_s + RATES_END * arguments.seconds)
    _serve(arguments, results, device, models, began_s + SERVER_END * arguments.seconds)
    results.finished = True
    results.write()
    print(f"wrote {path} and {path.with_suffix('.md').name} in {time.perf_counter() - began_s:.0f} s", flush=True)


def _prepare(arguments: argparse.Namespace, results: Results, device: Device, name: str) -> Model | None:
    checkpoints = dict(arguments.checkpoint)
    tensorrt = None if arguments.tensorrt == "none" else arguments.tensorrt
    artifacts = Artifacts(arguments.work, arguments.repository, checkpoints, arguments.cache, tensorrt)
    versions: dict[str, Version] = {}
    for precision in arguments.precisions:
        try:
            versions[precision] = artifacts.version(name, precision)
        except Unavailable as error:
            results.skip(f"{name} {precision}", str(error))
    try:
        found = torch_model(checkpoints.get(name, name), arguments.cache)
    except Unavailable as error:
        found = None
        results.skip(f"{name}, torch", str(error))
    if not versions:
        return None
    sizes = subjects(name, next(iter(versions.values())).spec, arguments.tiles)
    return Model(versions, found, sizes, ways(device, found, versions))


def _rates(arguments: argparse.Namespace, results: Results, device: Device, models: list[Model], end_s: float) -> None:
    figures = sum(len(model.ways) * len(model.subjects) for model in models) * len(arguments.batches) * 2
    # half: each figure has its warm-up, and large batches take longer than their share
    seconds = 0.5 * (end_s - time.perf_counter()) / max(1, figures)
    plan = gpu_rates.Plan(arguments.batches, min(LONGEST_FIGURE_S, max(SHORTEST_S, seconds)), end_s)
    for model in models:
        gpu_rates.measure(results, model.subjects, model.versions, model.ways, device, plan)


def _serve(arguments: argparse.Namespace, results: Results, device: Device, models: list[Model], end_s: float) -> None:
    if not models:
        return
    try:
        gpu_server = importlib.import_module("bench.gpu_server")
        importlib.import_module("server.app")
    except ImportError as error:
        results.skip("server", f"what it needs is not installed: {first_line(error)}")
        return
    counts = len(arguments.callers) * len(arguments.images_per_call)
    phases = sum(len(model.versions) * len(model.subjects) for model in models) * counts
    left_s = end_s - time.perf_counter() - SERVER_START_S * len(arguments.precisions)
    seconds = min(LONGEST_PHASE_S, max(10 * SHORTEST_S, 0.7 * left_s / max(1, phases)))
    asked = gpu_server.Phases(arguments.callers, arguments.images_per_call, seconds, end_s, arguments.serve_arguments)
    for precision in arguments.precisions:
        versions = {
            model.subjects[0].model: model.versions[precision] for model in models if precision in model.versions
        }
        sizes = [subject for model in models if precision in model.versions for subject in model.subjects]
        if versions:
            root = arguments.work / f"serving-{precision}"
            gpu_server.serve(results, precision, versions, sizes, root, device, asked)
