"""`python -m bench engine | load | overload | tables | peers`, with their arguments."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator

from bench.caller.hpack import HeaderError
from bench.caller.payloads import Facts, RepositoryError, facts_of, newest_version
from bench.caller.server import Target, TargetError, model_inputs, parse_address, started
from bench.caller.wire import WireError
from bench.cpu import chart, engines, greedy, load, overload, tables
from bench.cpu.engine import BATCH_SIZES, Engine, Limit, sweep
from bench.peers import run as peers
from bench.percentiles import percentile, spread
from bench.report import milliseconds, show, write_json

METRICS_PORT = 8002
GREEDY_IMAGES = 8  # per call


def run(arguments: argparse.Namespace) -> int:
    """Runs one command and returns the exit code."""
    try:
        run_command = {
            "engine": _run_engine, "tables": tables.run, "chart": chart.run, "peers": peers.run
        }.get(arguments.command, _run_served)  # fmt: skip
        results = run_command(arguments)
    except (TargetError, RepositoryError, HeaderError, WireError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if arguments.json is not None:
        write_json(arguments.json, results)
    return 0


@contextlib.contextmanager
def _target(arguments: argparse.Namespace) -> Iterator[Target]:
    if arguments.server is not None:
        host, port = parse_address(arguments.server)
        yield Target(host, port, arguments.metrics or f"{host}:{METRICS_PORT}")
    elif arguments.repository is not None:
        with started(arguments.repository, arguments.serve_arguments) as target:
            yield target
    else:
        raise TargetError("give --server HOST:PORT, or --repository DIR to have a server started")


def _run_engines(arguments: argparse.Namespace) -> dict[str, object]:
    if arguments.instruction_sets:
        given = [arguments.model, "--repository", str(arguments.repository), "--engines", ",".join(arguments.engines)]
        given += ["--batches", ",".join(map(str, arguments.batches)), "--seconds", str(arguments.seconds)]
        given += ["--rounds", str(arguments.rounds)]
        given += [] if arguments.side_px is None else ["--side-px", str(arguments.side_px)]
        return {"results": engines.measure_under_caps(given, arguments.instruction_sets)}
    version = newest_version(arguments.repository, arguments.model)
    found = engines.measure(
        version, arguments.engines, arguments.batches, arguments.seconds, arguments.rounds, arguments.side_px
    )
    return {"results": found}


def _run_engine(arguments: argparse.Namespace) -> dict[str, object]:
    if arguments.engines:
        return _run_engines(arguments)
    engine = Engine(newest_version(arguments.repository, arguments.model))
    rates = sweep(engine, arguments.seconds, arguments.rounds, BATCH_SIZES)
    latencies_s = engine.latencies_s(arguments.seconds)
    limit = Limit(engine)
    for setup in limit.rates:
        limit.rates[setup] = rates[setup]
    limit.latencies_s = latencies_s
    show(
        f"{arguments.model}: ONNX Runtime in-process, images/s (min-max)",
        ("batch", *(f"{sessions} x {threads} threads" for sessions, threads in engine.ways)),
        [
            (str(batch), *(str(spread(found)) for setup, found in rates.items() if setup.batch == batch))
            for batch in BATCH_SIZES
        ],
    )
    print(f"engine limit: {limit.images_per_s} images/s, best {limit.best}")
    p99_s = percentile(latencies_s, 99)
    print(f"batch 1, all threads: p50 {milliseconds(limit.latency_s)} ms, p99 {milliseconds(p99_s)} ms")
    return {
        "model": arguments.model,
        "limit": limit.as_json(),
        "batch_1_p99_s": p99_s,
        "images_per_s": {str(setup): found for setup, found in rates.items()},
    }


def _run_served(arguments: argparse.Namespace) -> dict[str, object]:
    version = newest_version(arguments.repository, arguments.model) if arguments.repository else None
    facts = facts_of(version) if version else Facts()
    with _target(arguments) as target:
        specs = model_inputs(target, arguments.model)

        def prepare(images: int) -> load.Workload:
            return load.prepare(
                target, arguments.model, arguments.rpc, specs, facts, connections=arguments.connections, images=images
            )

        if arguments.command == "overload":
            return _run_overload(arguments, prepare)
        workload = prepare(1)
        limit = Limit(Engine(version)) if version else None
        rows = load.measure(
            workload, arguments.concurrency, arguments.seconds, arguments.rounds, limit, arguments.limit_seconds
        )
        load.print_table(workload, rows, limit)
        return load.as_json(workload, rows, limit)


def _run_overload(arguments: argparse.Namespace, prepare: Callable[[int], load.Workload]) -> dict[str, object]:
    workloads = {images: prepare(images) for images in arguments.images}
    cases = [
        case
        for workload in workloads.values()
        for case in overload.measure(
            workload,
            seconds=arguments.seconds,
            factors=arguments.factor,
            callers=arguments.callers,
            pause_s=arguments.pause_ms / 1e3,
            deadline_s=arguments.deadline_ms / 1e3,
            no_deadline=arguments.no_deadline,
            pacing=arguments.pacing,
        )
    ]
    overload.print_table(cases)
    results: dict[str, object] = {
        "model": arguments.model,
        "rpc": cases[0].workload.path,
        "frontend": cases[0].workload.target.frontend,
        "cases": overload.as_json(cases),
    }
    if arguments.greedy:
        greed = greedy.measure(prepare(GREEDY_IMAGES), prepare(1), arguments.seconds)
        greedy.print_table(arguments.model, greed)
        results["greedy"] = greedy.as_json(greed)
    return results
