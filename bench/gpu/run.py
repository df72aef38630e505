"""The sections of `python -m bench gpu`, in their order, each within its share of the time."""

import argparse
import importlib
import time
from collections.abc import Sequence

from bench.gpu import parity, rates, rows, serving
from bench.gpu.artifacts import Artifacts, Version, subjects
from bench.gpu.device import Device, busy_refusal
from bench.gpu.engines import ways
from bench.gpu.figures import SERVED_ROWS, Finding
from bench.gpu.plans import Plans
from bench.gpu.report import Results, Unavailable, first_line
from bench.gpu.serving import Model
from bench.gpu.torch_baseline import torch_model

# Up to where of the time a section may begin something new; what is left is for its end.
RATES_END, ROWS_END, SERVER_END = 0.52, 0.6, 0.92
LONGEST_FIGURE_S, LONGEST_PHASE_S, LONGEST_CHOICE_S, SHORTEST_S = 0.5, 4.0, 0.08, 0.02
SHORTEST_PHASE_S = 1.0  # of 256 callers with 64 images each nobody is answered in less
SETUP_S = 1.0
SERVER_START_S = 12.0
SETTINGS = (
    "parts",
    "models",
    "precisions",
    "batches",
    "tiles",
    "callers",
    "images_per_call",
    "serve_arguments",
    "seconds",
)
DETAILS = (
    "torch: eager, its default memory format, fp32 without TF32 unless said. ONNX Runtime: the server's options, fp32 "
    "without TF32. TensorRT: fp32 may use TF32. With transfers: from host memory to host memory (torch: pageable, the "
    "others as the server does it). Server: ModelInfer, raw tensors, callers on the same machine, max_batch_size "
    f"{SERVED_ROWS} on a GPU, or what one call has."
)


def run(arguments: argparse.Namespace) -> bool:
    """Measures everything and leaves the two files, rewritten after every section; whether nothing was found wrong."""
    began_s = time.perf_counter()
    device = Device(arguments.device)
    settings = {name: vars(arguments)[name] for name in SETTINGS}
    path = arguments.out / f"{'-'.join(filter(None, (device.slug, arguments.suffix)))}.json"
    results = Results(path, device.facts(), {**settings, "details": DETAILS})
    if device.kind == "cpu":
        results.skip("rates without transfers", "a CPU has no transfers to leave out")
    if busy := busy_refusal(device):
        results.skip("GPU busy share", busy)
    models = [model for name in arguments.models if (model := _prepare(arguments, results, device, name)) is not None]
    results.write()
    if "speed" in arguments.parts:
        for model in models:
            parity.check(results, model.subjects, model.versions, model.found, model.ways, device)
            results.write()
        _rates(arguments, results, device, models, began_s + RATES_END * arguments.seconds)
    if "rows" in arguments.parts:
        for model in models:
            end_s = began_s + ROWS_END * arguments.seconds
            rows.check(results, model.subjects, model.versions, model.ways, device, end_s)
            results.write()
    if "speed" in arguments.parts:
        _serve(arguments, results, device, models, began_s + SERVER_END * arguments.seconds)
    if "setups" in arguments.parts:
        _set_up(arguments, results, device, models, began_s + SERVER_END * arguments.seconds)
    if "choices" in arguments.parts:
        _choose(results, device, models)
    if "behaviour" in arguments.parts:
        _look(arguments, results, device, models)
    results.findings += [Finding(part, False, "nothing was measured") for part in empty(results, arguments.parts)]
    results.finished = True
    results.write()
    print(f"wrote {path} and {path.with_suffix('.md').name} in {time.perf_counter() - began_s:.0f} s", flush=True)
    wrong = [finding for finding in results.findings if not finding.right]
    if wrong:
        print(f"not right: {'; '.join(f'{finding.part}: {finding.seen}' for finding in wrong)}", flush=True)
    return not wrong


def empty(results: Results, parts: Sequence[str]) -> list[str]:
    """Those parts that found nothing at all."""
    found = {
        "speed": any(rate.hosted or rate.placed for rate in results.rates)
        and any(not row.setup for row in results.served),
        "rows": bool(results.rows),
        "setups": any(row.setup for row in results.served),
        "choices": any(row.milliseconds for row in results.choices),
        "behaviour": bool(results.findings),
    }
    return [part for part in parts if not found.get(part)]


def _prepare(arguments: argparse.Namespace, results: Results, device: Device, name: str) -> Model | None:
    checkpoints = dict(arguments.checkpoint)
    artifacts = Artifacts(arguments.work, arguments.repository, checkpoints, arguments.cache, not arguments.no_export)
    versions: dict[str, Version] = {}
    for precision in arguments.precisions:
        try:
            versions[precision] = artifacts.version(name, precision)
        except Unavailable as error:
            results.skip(f"{name} {precision}", str(error))
    if not versions:
        return None
    try:
        found = torch_model(checkpoints.get(name, name), arguments.cache)
    except Unavailable as error:
        found = None
        results.skip(f"{name}, torch", str(error))
    sizes = subjects(name, next(iter(versions.values())).spec, arguments.tiles)
    variant = None if arguments.tensorrt == "none" else arguments.tensorrt
    most = max(arguments.batches)
    plans = {
        precision: Plans(version, arguments.work / "plans" / name, variant, most, arguments.tiles)
        for precision, version in versions.items()
    }
    return Model(versions, plans, sizes, found, ways(device, found, versions, plans, most))


def _rates(arguments: argparse.Namespace, results: Results, device: Device, models: list[Model], end_s: float) -> None:
    figures = sum(len(model.ways) * len(model.subjects) for model in models) * len(arguments.batches) * 2
    # half: each figure has its warm-up, and large batches take longer than their share
    seconds = 0.5 * (end_s - time.perf_counter()) / max(1, figures)
    for number, model in enumerate(models):
        # a share of what is left for each model, so that a slow one leaves time for the others
        now_s = time.perf_counter()
        until_s = now_s + (end_s - now_s) / (len(models) - number)
        plan = rates.Plan(arguments.batches, min(LONGEST_FIGURE_S, max(SHORTEST_S, seconds)), until_s)
        rates.measure(results, model.subjects, model.versions, model.ways, device, plan)


def _serve(arguments: argparse.Namespace, results: Results, device: Device, models: list[Model], end_s: float) -> None:
    try:
        gpu_server = importlib.import_module("bench.gpu.server")
        importlib.import_module("server.app")
    except ImportError as error:
        results.findings.append(Finding("server", False, f"what it needs is not installed: {first_line(error)}"))
        return
    most = max(*arguments.images_per_call, SERVED_ROWS if device.kind == "cuda" else 1)
    repositories = [
        serving.Serving(engine, precision, arguments.work / f"serving-{engine}-{precision}", most)
        for precision in arguments.precisions
        for engine in (("onnx", "tensorrt") if device.kind == "cuda" else ("onnx",))
    ]
    ready = [
        (repository, sizes)
        for repository in repositories
        if (sizes := [subject for model in models for subject in repository.add(results, model)])
    ]
    for number, (repository, sizes) in enumerate(ready):
        # a share of what is left for each server, as it comes
        now_s = time.perf_counter()
        until_s = now_s + (end_s - now_s) / (len(ready) - number)
        counts = len(arguments.callers) * len(arguments.images_per_call) * len(sizes)
        seconds = phase_s(until_s - now_s, counts)
        loads = arguments.callers, arguments.images_per_call
        asked = gpu_server.Phases(*loads, seconds, until_s, arguments.serve_arguments)
        gpu_server.serve(results, repository, sizes, device, asked)


def phase_s(left_s: float, count: int) -> float:
    """For each of so many phases of one server; the last of them are left out where they would be too short."""
    return min(LONGEST_PHASE_S, max(SHORTEST_PHASE_S, 0.7 * (left_s - SERVER_START_S) / count))


def _set_up(arguments: argparse.Namespace, results: Results, device: Device, models: list[Model], end_s: float) -> None:
    try:
        setups = importlib.import_module("bench.gpu.setups")
    except ImportError as error:
        results.findings.append(Finding("ways to serve", False, f"they cannot be imported: {first_line(error)}"))
        return
    for precision in arguments.precisions:
        setups.compare(results, models, precision, device, arguments.work, SETUP_S, end_s)


def _choose(results: Results, device: Device, models: list[Model]) -> None:
    if device.kind == "cpu":
        results.skip("ONNX Runtime's options", "they are those of a GPU")
        return
    from bench.gpu import choices

    for model in models:
        for version in model.versions.values():
            for subject in model.subjects:
                for row in choices.measure(version, subject, device, LONGEST_CHOICE_S):
                    results.choices.append(row)
                    results.write()
            results.mixed += choices.mixed(version, model.subjects[0], device, LONGEST_CHOICE_S)
            results.write()


def _look(arguments: argparse.Namespace, results: Results, device: Device, models: list[Model]) -> None:
    try:
        behaviour = importlib.import_module("bench.gpu.behaviour")
    except ImportError as error:
        results.findings.append(Finding("what the server does", False, f"it cannot be imported: {first_line(error)}"))
        return
    for model in models[:1]:
        version = model.versions.get("fp16", next(iter(model.versions.values())))  # it can overflow
        for finding in behaviour.look(version, model.subjects[0], device, arguments.work, LONGEST_PHASE_S / 2):
            print(f"{finding.part}: {'as it must be' if finding.right else 'NOT RIGHT'}: {finding.seen}", flush=True)
            results.findings.append(finding)
            results.write()
