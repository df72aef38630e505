"""`python -m bench gpu`: parity, images/s of every engine, and the server's, on a GPU; on a CPU as a proof of itself.

It runs on a bare machine too: what is not installed there is skipped and said to be, in both files.
"""

import argparse
import importlib
import sys
from pathlib import Path

MODELS = ("faces", "realesr-animevideov3")
PRECISIONS = ("fp32", "fp16")
PARTS = ("speed", "rows", "setups", "choices", "behaviour")


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _named(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    return name, Path(path)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of `python -m bench gpu`."""
    command.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu only proves the script")
    command.add_argument(
        "--parts", type=lambda text: text.split(","), default=["speed"], metavar="A,B",
        help="speed: parity, images/s, the server's. rows: alike in every batch? setups: ways to serve. choices: ONNX "
        "Runtime's options. behaviour: metrics, memory, end",
    )  # fmt: skip
    command.add_argument("--work", type=Path, default=Path("out/bench-gpu"), metavar="DIR", help="for what is exported")
    command.add_argument("--out", type=Path, default=Path("bench/results"), metavar="DIR", help="for the two files")
    command.add_argument("--suffix", default="", metavar="NAME", help="of the two files' names")
    command.add_argument(
        "--repository", type=Path, action="append", default=[], metavar="DIR", help="versions exported before; several"
    )
    command.add_argument("--no-export", action="store_true", help="only those; what is not there is not measured")
    command.add_argument(
        "--checkpoint", type=_named, action="append", default=[], metavar="MODEL=FILE", help="in place of the zoo's"
    )
    command.add_argument("--cache", type=Path, metavar="DIR", help="where the zoo keeps fetched weights")
    command.add_argument("--models", type=lambda text: text.split(","), default=list(MODELS), metavar="A,B")
    command.add_argument("--precisions", type=lambda text: text.split(","), default=list(PRECISIONS), metavar="A,B")
    command.add_argument("--batches", type=_numbers, default=[2**power for power in range(9)], metavar="1,2,...")
    command.add_argument("--tiles", type=_numbers, default=[64, 256], metavar="64,256", help="sides of pictures in")
    command.add_argument("--callers", type=_numbers, default=[1, 16, 256], metavar="1,16,256")
    command.add_argument("--images-per-call", type=_numbers, default=[1, 64], metavar="1,64")
    command.add_argument("--tensorrt", choices=("rtx", "classic", "none"), default="rtx", help="engines to build")
    command.add_argument("--serve-arguments", default="", metavar="ARGS", help="more arguments for the servers")
    command.add_argument("--seconds", type=float, default=480.0, help="for everything together")


def run(arguments: argparse.Namespace) -> int:
    """Measures and returns the exit code."""
    refusal = _refusal(arguments.device)
    if refusal:
        print(f"bench: {refusal}", file=sys.stderr)
        return 2
    from bench.gpu import run  # only now: it needs torch

    return 0 if run.run(arguments) else 1


def _refusal(device: str) -> str:
    """Why nothing at all can be measured here; "" where something can."""
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        return f"gpu needs torch, the yardstick: {error}"
    if device == "cuda" and not torch.cuda.is_available():
        return f"no GPU: torch {torch.__version__} sees none; --device cpu proves the script on a CPU"
    return ""


def add_kit_arguments(command: argparse.ArgumentParser) -> None:
    """The options of `python -m bench gpu-kit`."""
    command.add_argument("pieces", type=Path, metavar="PIECES", help="folder for the pieces, in place of earlier ones")
    command.add_argument("--models", type=Path, metavar="DIR", help="exported before: DIR/fp32 and DIR/fp16")
    command.add_argument("--work", type=Path, default=Path("out/gpu-kit"), metavar="DIR", help="for what is downloaded")
    command.add_argument("--piece-mb", type=int, default=36, metavar="MB", help="of one piece, at most")
    command.add_argument("--python", default="3.12", metavar="X.Y", help="of the machine")
    command.add_argument("--no-tensorrt", action="store_true", help="without TensorRT for RTX")


def make_kit(arguments: argparse.Namespace) -> int:
    """Makes the kit and returns the exit code."""
    from bench.gpu.kit import KitError, make

    constraints = Path(__file__).resolve().parents[2] / "constraints.txt"
    try:
        count = make(
            arguments.pieces, arguments.work, constraints, arguments.models, arguments.piece_mb * 10**6,
            not arguments.no_tensorrt, arguments.python,
        )  # fmt: skip
    except KitError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print(f"{count} pieces of at most {arguments.piece_mb} MB in {arguments.pieces}")
    return 0
