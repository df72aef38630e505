"""`make gpu-check`: everything that only a GPU shows, in one command, on a machine without a network.

Run by its path with the machine's own Python; needs nothing installed:

    python3 bench/gpu/check.py --kit PIECES     # made elsewhere with `python -m bench gpu-kit`

Installs the kit beside the checkout, then runs `python -m bench gpu` for each part in a process of its own with a limit
of time, the most valuable first. Each part leaves its JSON and Markdown under bench/results/ as it goes, so that what
was measured is there whatever happens to the rest.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.gpu.kit import KitError, install  # noqa: E402  # `bench` is where this file is, wherever it is run


@dataclass(frozen=True)
class Part:
    """A run of `python -m bench gpu`, with its limit as a share of the time."""

    name: str
    share: float
    arguments: tuple[str, ...]


PARTS = (
    Part("speed", 0.42, ("--batches", "1,4,16,64,256", "--tensorrt", "none")),
    Part("behaviour", 0.16, (
        "--parts", "behaviour", "--models", "faces", "--precisions", "fp16", "--tensorrt", "none",
    )),
    Part("choices", 0.12, ("--parts", "choices", "--precisions", "fp16", "--tensorrt", "none")),
    Part("heavy", 0.22, (
        "--models", "realesrgan-x4plus,stylegan2-256,stylegan3-256", "--batches", "1,4,16,64", "--tiles", "64",
        "--callers", "16", "--images-per-call", "1,16", "--tensorrt", "none",
    )),
    Part("tensorrt", 0.08, (
        "--models", "faces", "--precisions", "fp16", "--batches", "1,16,64", "--callers", "16",
        "--images-per-call", "1,64",
    )),
)  # fmt: skip


def main() -> int:
    """Runs the parts and returns 0 if all of them ended by themselves and found nothing wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kit", type=Path, metavar="PIECES", help="default: what is needed is installed")
    parser.add_argument("--work", type=Path, default=Path("out/gpu-check"), metavar="DIR", help="for all it installs")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", metavar="DIR")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu only rehearses it")
    parser.add_argument("--seconds", type=float, default=480.0, help="for everything together")
    parser.add_argument("--parts", default=",".join(part.name for part in PARTS), metavar="A,B")
    given = parser.parse_args()
    began_s = time.monotonic()
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if given.kit is not None:
        try:
            install(given.kit.resolve(), work)
        except KitError as error:
            print(f"gpu-check: {error}", file=sys.stderr)
            return 2
    wanted = [part for part in PARTS if part.name in given.parts.split(",")]
    left_s = given.seconds - (time.monotonic() - began_s)
    shares = sum(part.share for part in wanted)
    ended = [_run(part, given, work, left_s * part.share / shares) for part in wanted]
    print(f"gpu-check: {sum(ended)} of {len(wanted)} parts ended as they must; results in {given.out}", flush=True)
    return 0 if all(ended) else 1


def _run(part: Part, given: argparse.Namespace, work: Path, limit_s: float) -> bool:
    """Whether the part ended by itself; its output is in a log beside its results."""
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "bench", "gpu", "--device", given.device, "--work", str(work), "--repository",
        str(work / "models" / "fp32"), "--repository", str(work / "models" / "fp16"), "--out", str(out), "--suffix",
        part.name, "--seconds", f"{0.85 * limit_s:.0f}", *part.arguments,
    ]  # fmt: skip
    print(f"gpu-check: {part.name}, {limit_s:.0f} s", flush=True)
    began_s = time.monotonic()
    with (work / f"{part.name}.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=_environment(work), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            said = f"exit code {process.wait(limit_s)}"
        except subprocess.TimeoutExpired:
            said = "its time was over"
            os.killpg(process.pid, signal.SIGKILL)  # with the server that it measures
            process.wait()
    lines = (work / f"{part.name}.log").read_text(errors="replace").splitlines()
    print(f"gpu-check: {part.name}: {said} after {time.monotonic() - began_s:.0f} s: {lines[-1] if lines else ''}")
    return said == "exit code 0"


def _environment(work: Path) -> dict[str, str]:
    """The checkout and what the kit brought before what the machine has."""
    paths = [str(ROOT), str(work / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PATH": os.pathsep.join([str(work / "site" / "bin"), os.environ.get("PATH", "")]),
        "PYTHONUNBUFFERED": "1",
    }


if __name__ == "__main__":
    sys.exit(main())
