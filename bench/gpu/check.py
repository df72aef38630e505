"""`make gpu-check`: everything that only a GPU shows, in one command, on a machine without a network.

Run by its path with the machine's own Python; needs nothing installed:

    python3 bench/gpu/check.py --kit PIECES     # made elsewhere with `python -m bench gpu-kit`

Installs the kit beside the checkout, without what of it is damaged, then runs `python -m bench gpu` for each part in a
process of its own with a limit of time, the most valuable first. Each part leaves its JSON and Markdown under
bench/results/ as it goes, so that what was measured is there whatever happens to the rest; how each of them ended is in
`gpu-check-DATE`, written at once too.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date
from importlib.util import find_spec
from pathlib import Path

KILLED_S = 5.0
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.gpu.kit import KitError, install  # noqa: E402  # `bench` is where this file is, wherever it is run
from bench.gpu.summary import Ended, Summary, without_folders  # noqa: E402


@dataclass(frozen=True)
class Part:
    """A run of `python -m bench gpu`, with its limit as a share of the time."""

    name: str
    share: float
    arguments: tuple[str, ...]


PARTS = (
    Part("speed", 0.34, (
        "--parts", "speed,rows", "--precisions", "fp16,fp32", "--batches", "64,1,256,16,4", "--callers", "16,256,1",
        "--images-per-call", "64,1", "--tensorrt", "none",
    )),
    Part("behaviour", 0.13, (
        "--parts", "behaviour", "--models", "faces", "--precisions", "fp16", "--tensorrt", "none",
    )),
    Part("setups", 0.17, ("--parts", "setups", "--precisions", "fp16", "--tiles", "64", "--tensorrt", "none")),
    Part("choices", 0.09, ("--parts", "choices", "--precisions", "fp16", "--tensorrt", "none")),
    Part("heavy", 0.20, (
        "--models", "realesrgan-x4plus,stylegan2-256,stylegan3-256", "--precisions", "fp16,fp32", "--tiles", "64",
        "--batches", "64,1,256,16", "--callers", "16,256,1", "--images-per-call", "64,1", "--tensorrt", "none",
    )),
    Part("tensorrt", 0.07, (
        "--models", "faces", "--precisions", "fp16", "--batches", "64,1,16", "--callers", "16",
        "--images-per-call", "64,1", "--tensorrt", "classic" if find_spec("tensorrt") else "rtx",
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
    names = given.parts.split(",")
    if unknown := set(names) - {part.name for part in PARTS}:
        parser.error(f"--parts {sorted(unknown)[0]}: must be of {', '.join(part.name for part in PARTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that it ends what it started
    began_s = time.monotonic()
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    wanted = [part for part in PARTS if part.name in names]
    name = f"gpu-check-{date.today().isoformat()}.json"
    summary = Summary(given.out.resolve() / name, given.device, given.seconds, missing=[part.name for part in wanted])
    summary.write()
    if given.kit is not None:
        try:
            summary.left_out = install(given.kit.resolve(), work)
        except KitError as error:
            print(f"gpu-check: {error}", file=sys.stderr)
            summary.left_out = [without_folders(str(error))]
            summary.write()
            return 2
    for said in summary.left_out:
        print(f"gpu-check: left out of the kit: {said}", flush=True)
    summary.write()
    for number, part in enumerate(wanted):  # what a part leaves of its time the later ones have
        left_s = given.seconds - (time.monotonic() - began_s)
        ended = _run(part, given, work, left_s * part.share / sum(later.share for later in wanted[number:]))
        print(f"gpu-check: {part.name}: {ended.how} after {ended.seconds:.0f} s: {ended.last_line}", flush=True)
        summary.parts.append(ended)
        summary.missing.remove(part.name)
        summary.write()
    right = sum(each.right for each in summary.parts)
    print(f"gpu-check: {right} of {len(wanted)} parts ended as they must; results in {given.out}", flush=True)
    return 0 if right == len(wanted) and not summary.left_out else 1


def _run(part: Part, given: argparse.Namespace, work: Path, limit_s: float) -> Ended:
    """Runs it with its limit; its output is in a log in the work folder."""
    command = [
        sys.executable, "-m", "bench", "gpu", "--device", given.device, "--work", str(work), "--repository",
        str(work / "models" / "fp32"), "--repository", str(work / "models" / "fp16"), "--out", str(given.out.resolve()),
        "--suffix", part.name, "--seconds", f"{0.85 * limit_s:.0f}", *([] if given.kit is None else ["--no-export"]),
        *_checkpoints(work / "models"), *part.arguments,
    ]  # fmt: skip
    print(f"gpu-check: {part.name}, {limit_s:.0f} s", flush=True)
    began_s = time.monotonic()
    with (work / f"{part.name}.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=_environment(work, given.kit is not None),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            how = f"exit code {process.wait(limit_s)}"
        except subprocess.TimeoutExpired:
            how = "its time was over"
        finally:  # with the server that it measures
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            try:
                process.wait(KILLED_S)
            except subprocess.TimeoutExpired:  # a driver does not let it go
                how = "its time was over, and it could not be ended"
    lines = (work / f"{part.name}.log").read_text(errors="replace").splitlines()
    last = without_folders(lines[-1]) if lines else ""
    return Ended(part.name, how == "exit code 0", how, time.monotonic() - began_s, limit_s, last)


def _checkpoints(models: Path) -> list[str]:
    """What the kit brought for torch, as options."""
    cache = ["--cache", str(models / "zoo")] if (models / "zoo").is_dir() else []
    return cache + [f"--checkpoint={path.stem}={path}" for path in sorted((models / "checkpoints").glob("*.pt"))]


def _environment(work: Path, has_kit: bool) -> dict[str, str]:
    """The checkout and what the kit brought before what the machine has. With a kit nothing is fetched besides: where
    there is no network, each attempt takes its time."""
    paths = [str(ROOT), str(work / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PATH": os.pathsep.join([str(work / "site" / "bin"), os.environ.get("PATH", "")]),
        "PYTHONUNBUFFERED": "1",
        **({"PIP_NO_INDEX": "1"} if has_kit else {}),
    }


if __name__ == "__main__":
    sys.exit(main())
