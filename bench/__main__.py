"""`python -m bench engine | load | overload MODEL`, `python -m bench tables | peers | chart | soak | gpu | gpu-kit`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.gpu import cli

RPCS = ("infer", "generate")
ENGINES = ("onnx", "openvino", "openvino-bf16", "auto")


# Values of oneDNN's ONEDNN_MAX_CPU_ISA, which ignores others in silence; "all" is none.
INSTRUCTION_SETS = (
    "all", "SSE41", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16",
    "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX512_CORE_AMX_FP16", "AVX10_1_512", "AVX10_1_512_AMX",
)  # fmt: skip


def _count(text: str) -> int:
    if not text.strip().isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from 1")
    return int(text)


def _numbers(text: str) -> list[int]:
    return [_count(part) for part in text.split(",")]


def _factors(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _some_of(text: str, known: Sequence[str]) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(known):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: must be of {', '.join(known)}")
    return names


def _engines(text: str) -> list[str]:
    return _some_of(text, ENGINES)


def _instruction_sets(text: str) -> list[str]:
    return _some_of(text, INSTRUCTION_SETS)


def _add_engines(engine: argparse.ArgumentParser) -> None:
    engine.add_argument(
        "--engines", type=_engines, default=[], metavar="ONE,OTHER",
        help=f"the server's engines side by side, in turns, instead: {', '.join(ENGINES)} (what the server chooses)",
    )  # fmt: skip
    engine.add_argument("--batches", type=_numbers, default=[1, 4, 8, 16], metavar="1,4,8,16", help="with --engines")
    engine.add_argument("--side-px", type=_count, help="with --engines: of images of free size; default: a whole tile")
    engine.add_argument(
        "--instruction-sets", type=_instruction_sets, default=[], metavar="all,AVX512_CORE,AVX2",
        help="with --engines: repeats it under each value of ONEDNN_MAX_CPU_ISA, which limits OpenVINO",
    )  # fmt: skip


def _add_served(command: argparse.ArgumentParser, name: str) -> None:
    command.add_argument("--repository", type=Path, metavar="DIR", help="starts a server over it, unless --server")
    command.add_argument("--server", metavar="HOST:PORT", help="a running server's gRPC address")
    command.add_argument("--metrics", metavar="HOST:PORT", help="its HTTP address (default: same host, port 8002)")
    command.add_argument("--serve-arguments", default="", metavar="ARGS", help="more arguments for a started server")
    command.add_argument("--rpc", choices=RPCS, default="infer")
    command.add_argument("--seconds", type=float, default=5.0, help="per phase")
    command.add_argument("--connections", type=int, default=1 if name == "load" else 4, help="of the generator")
    if name == "load":
        command.add_argument("--concurrency", type=_numbers, default=[1, 4, 16, 64], metavar="1,4,16,64")
        command.add_argument("--rounds", type=_count, default=1)
        command.add_argument("--limit-seconds", type=float, default=2.5, help="per round of the engine limit")
    else:
        command.add_argument(
            "--factor", type=_factors, default=[2.0, 10.0], metavar="2,10", help="open loops: times the capacity"
        )
        command.add_argument("--images", type=_numbers, default=[1, 8], metavar="1,8", help="per call")
        command.add_argument("--deadline-ms", type=float, default=250.0, help="of the open loops")
        command.add_argument(
            "--no-deadline", action="store_true",
            help="also open loops whose callers send no deadline; what comes within 250 ms, or five times a single "
            "call, counts",
        )  # fmt: skip
        command.add_argument(
            "--callers",
            type=_numbers,
            default=[],
            metavar="12,96",
            help="also closed loops, with a deadline of 1 s",
        )
        command.add_argument(
            "--pause-ms", type=float, default=100.0,
            help="how long their rejected callers wait if the server does not say; 0: they call again at once",
        )  # fmt: skip
        command.add_argument(
            "--greedy", action="store_true",
            help="also one connection with 1,000 requests of 8 images in flight: how long another waits for one",
        )  # fmt: skip
        command.add_argument("--pacing", choices=("fixed", "poisson"), default="poisson")


def _add_soak(commands: Any) -> None:
    text = "everything at once, hostile inputs among it, for minutes: what grows, what breaks"
    soak = commands.add_parser("soak", help=text, description=text)
    soak.add_argument("--repository", type=Path, required=True, metavar="DIR", help="starts a server over it")
    soak.add_argument("--minutes", type=float, default=30.0)
    soak.add_argument("--serve-arguments", default="", metavar="ARGS", help="more arguments for the server")
    soak.add_argument("--json", type=Path, metavar="FILE", help="write raw results and the machine's facts")


def _add_tables(commands: Any) -> None:
    text = "the tables of docs/benchmarks.md for this machine's CPU, ONNX Runtime beside another engine, in one run"
    tables = commands.add_parser("tables", help=text, description=text)
    tables.add_argument("--repository", type=Path, required=True, metavar="DIR", help="starts two servers over it")
    tables.add_argument("--generator", default="faces", metavar="MODEL")
    tables.add_argument("--upscaler", default="realesr-animevideov3", metavar="MODEL", help="empty: none")
    tables.add_argument("--other", default="--engine auto", metavar="ARGS", help="of the second server")
    tables.add_argument("--rounds", type=_count, default=5)
    tables.add_argument("--seconds", type=float, default=2.0, help="per phase")
    tables.add_argument("--out", type=Path, metavar="DIR", help="write the tables and raw results there")
    tables.add_argument("--json", type=Path, metavar="FILE", help="write raw results and the machine's facts")
    text = "other servers beside ours over one graph: mosec, BentoML, Triton's Python backend and so on, in one run"
    peers = commands.add_parser("peers", help=text, description=text)
    peers.add_argument("--repository", type=Path, required=True, metavar="DIR")
    peers.add_argument("--model", default="faces", help="one that takes latents only")
    peers.add_argument("--environments", type=Path, required=True, metavar="DIR", help="each one's Python, from PyPI")
    peers.add_argument("--install", action="store_true", help="only make these")
    peers.add_argument("--only", type=lambda text: text.split(","), default=[], metavar="mosec,ray")
    peers.add_argument("--rounds", type=_count, default=2)
    peers.add_argument("--seconds", type=float, default=1.5, help="per phase")
    peers.add_argument("--out", type=Path, metavar="DIR", help="write the table and raw results there")
    peers.add_argument("--json", type=Path, metavar="FILE", help="write raw results and the machine's facts")
    text = "draws what `tables` measured, from its JSON"
    chart = commands.add_parser("chart", help=text, description=text)
    chart.add_argument("file", type=Path, help="JSON of `tables`")
    chart.add_argument("--out", type=Path, metavar="FILE", help="SVG or PNG; default: beside the JSON, .svg")
    chart.set_defaults(json=None)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("engine", "ONNX Runtime in this process: images/s by batch size and use of the cores"),
        ("load", "closed loop through gRPC: images/s, latency, share of the engine limit"),
        ("overload", "more load than the server can take: what is answered in time, rejected, lost"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("model")
        command.add_argument("--json", type=Path, metavar="FILE", help="write raw results and the machine's facts")
        if name == "engine":
            command.add_argument("--repository", type=Path, required=True, metavar="DIR")
            command.add_argument("--seconds", type=float, default=3.0, help="per setup, over all rounds")
            command.add_argument("--rounds", type=_count, default=3)
            _add_engines(command)
            continue
        _add_served(command, name)
    _add_tables(commands)
    _add_soak(commands)
    text = "parity and images/s of every engine on a GPU, and of the server over them"
    cli.add_arguments(commands.add_parser("gpu", help=text, description=text))
    text = "what a machine with a GPU and no network lacks for `make gpu-check`: wheels and models, in pieces to carry"
    cli.add_kit_arguments(commands.add_parser("gpu-kit", help=text, description=text))
    return parser


def main() -> int:
    """Runs one command and returns the exit code."""
    arguments = _parser().parse_args()
    if arguments.command == "gpu":
        return cli.run(arguments)
    if arguments.command == "gpu-kit":
        return cli.make_kit(arguments)
    if arguments.command == "soak":
        from bench.soak.run import main as run_soak

        return run_soak(arguments)
    # only now: a machine that has what `gpu` needs may lack the server's packages
    from bench.cpu import commands

    return commands.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
