"""`make demo`: exports the zoo, serves it, asks it for pictures, and shows where they are and how long they took."""

import asyncio
import hashlib
import json
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganserve import AsyncClient, Client, ServerError
from ganserve.grid import compose_grid
from ganserve.measured import Page, describe_batches, read_metrics

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = ROOT / "repository"
OUT = ROOT / "out"
LOG = OUT / "server.log"
PICTURE = Path(__file__).resolve().parent / "pictures" / "astronaut.png"
UPSCALERS = ("realesr-animevideov3", "realesrgan-x4plus")
READY_S = 300.0
STOP_S = 60.0
CALLERS = 16
CALLS_EACH = 16
FEW = 10  # below this a quantile says more about the histogram's buckets than about the server


class DemoError(Exception):
    """A step failed; one line."""


@dataclass(frozen=True)
class Ports:
    """Where the demo's server listens on this machine."""

    grpc: int
    http: int

    @property
    def server(self) -> str:
        """As the client takes it."""
        return f"127.0.0.1:{self.grpc}"


def main() -> int:
    """Runs every step; 0, or 2 with one line on stderr."""
    started = time.monotonic()
    try:
        OUT.mkdir(exist_ok=True)
        export_zoo()
        with running_server() as ports:
            with Client(ports.server, deadline_s=300) as client:
                pictures = [draw_faces(client), draw_digits(client), *upscale_picture(client)]
            before = read_metrics(ports.http)
            seconds = asyncio.run(burst(ports.server))
            after = read_metrics(ports.http)
            report_burst(before, after, seconds)
            report_phases(after)
    except KeyboardInterrupt:
        return 130
    except (DemoError, ServerError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    print("\nPictures:")
    for path in pictures:
        print(f"  {path.relative_to(ROOT)}")
    print(f"\nDone in {time.monotonic() - started:.1f} s.")
    return 0


def export_zoo() -> None:
    """Exports what the repository does not hold yet, each model as its next version."""
    entries = json.loads(_command("zoo", "list", "--json"))
    stamps_path = REPOSITORY / ".demo.json"
    stamps: dict[str, str] = json.loads(stamps_path.read_text()) if stamps_path.is_file() else {}
    code = _code_hash()
    print(f"Models, in {REPOSITORY.relative_to(ROOT)}/:", flush=True)
    for entry in entries:
        name, stamp = entry["name"], f"{entry['sha256']}-{code}"
        if stamps.get(name) == stamp and any((REPOSITORY / name).glob("*/manifest.json")):
            print(f"  {name}: there already", flush=True)
            continue
        begun = time.monotonic()
        print(f"  {name}: exporting ({entry['licence']})", flush=True)
        _command("export", name, "--repository", str(REPOSITORY), "--name", name, "--json")
        stamps[name] = stamp
        stamps_path.write_text(json.dumps(stamps, indent=2))
        print(f"  {name}: exported in {time.monotonic() - begun:.1f} s", flush=True)


def _code_hash() -> str:
    """Of the code and the committed weights that an export depends on."""
    digest = hashlib.sha256()
    for folder in ("export", "models"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _command(*arguments: str) -> str:
    """What `ganserve ARGUMENTS` prints; its progress goes to the terminal.

    Raises:
        DemoError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "ganserve", *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise DemoError(f"`ganserve {' '.join(arguments)}` failed; the line above says why")
    return done.stdout


@contextmanager
def running_server() -> Iterator[Ports]:
    """A server of the repository on free ports; at the end it must stop cleanly.

    Raises:
        DemoError: it did not start, or did not end with code 0 after SIGTERM.
    """
    print("\nServer: reading, verifying and warming every model", flush=True)
    command = [sys.executable, "-m", "ganserve", "serve", "--repository", str(REPOSITORY), "--host", "127.0.0.1"]
    command += ["--grpc-port", "0", "--http-port", "0", "--shutdown-delay-s", "0", "--json"]
    with LOG.open("w") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            facts = _wait_ready(process)
            print(
                f"Server: {facts['models']} models ready, front end {facts['frontend']}, device {facts['device']}, "
                f"gRPC port {facts['grpc_port']}, HTTP port {facts['http_port']}\n",
                flush=True,
            )
            yield Ports(facts["grpc_port"], facts["http_port"])
            process.send_signal(signal.SIGTERM)
            code = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise DemoError(f"the server did not stop within {STOP_S:g} s of SIGTERM; see {LOG}") from None
        finally:
            if process.poll() is None:
                process.kill()
    if code != 0:
        raise DemoError(f"the server ended with code {code}; see {LOG}")
    print("Server: stopped by SIGTERM, exit code 0")


def _wait_ready(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """The facts of the server's ready line."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], READY_S)
    line = process.stdout.readline() if readable else ""
    if not line:
        last = LOG.read_text().strip().splitlines()[-1:] or ["it said nothing"]
        raise DemoError(f"the server did not start: {last[0]}")
    facts: dict[str, Any] = json.loads(line)
    if facts["unavailable"]:
        raise DemoError(f"{facts['unavailable']} model(s) could not be loaded; see {LOG}")
    return facts


def draw_faces(client: Client) -> Path:
    """A 4x4 sheet of faces from seeds 0 to 15."""
    images = client.generate("faces", seeds=range(16), format="raw")
    timings = images[0].timings
    print(
        f"faces: 16 pictures in one call, {timings.total_s * 1e3:.0f} ms on the server, "
        f"largest batch {max(image.batch_size for image in images)}"
    )
    return _save(compose_grid([image.array for image in images], columns=4), "faces.png")


def draw_digits(client: Client) -> Path:
    """A row of the digits 0 to 9, asked for by label."""
    images = client.generate("digits", seeds=range(10), labels=[str(digit) for digit in range(10)], format="raw")
    print(f"digits: labels 0 to 9 in one call, {images[0].timings.total_s * 1e3:.0f} ms on the server")
    return _save(compose_grid([image.array for image in images], columns=10), "digits.png")


def upscale_picture(client: Client) -> list[Path]:
    """The shipped photograph, four times as large by each model, and beside plain interpolation."""
    paths, sheet = [], []
    for model in UPSCALERS:
        result = client.upscale(model, PICTURE)
        paths.append(OUT / f"astronaut-{model}.png")
        result.save(paths[-1])
        sheet.append(result.array)
        print(
            f"{model}: {PICTURE.name} to {result.width}x{result.height} in {result.timings.total_s * 1e3:.0f} ms, "
            f"{result.tiles} tile(s)",
            flush=True,
        )
    with Image.open(PICTURE) as picture:
        plain = picture.convert("RGB").resize((result.width, result.height), Image.Resampling.BICUBIC)
    return [*paths, _save(compose_grid([np.asarray(plain), *sheet], columns=len(sheet) + 1), "astronaut-compared.png")]


def _save(sheet: NDArray[np.uint8], name: str) -> Path:
    path = OUT / name
    Image.fromarray(sheet.squeeze(2) if sheet.shape[2] == 1 else sheet).save(path)
    return path


async def burst(server: str) -> float:
    """Seconds that CALLERS callers at once take for CALLS_EACH pictures each, one a call."""
    async with AsyncClient(server) as client:

        async def call(caller: int) -> None:
            for turn in range(CALLS_EACH):
                await client.generate("faces", seeds=caller * CALLS_EACH + turn)

        begun = time.monotonic()
        await asyncio.gather(*(call(caller) for caller in range(CALLERS)))
        return time.monotonic() - begun


def report_burst(before: Page, after: Page, seconds: float) -> None:
    """Throughput and batches of the burst alone, from the pages before and after it."""
    name, sizes = "ganserve_images_total", "ganserve_batch_size"
    pictures = after.total(name, model="faces") - before.total(name, model="faces")
    batches = after.distribution(sizes, model="faces") - before.distribution(sizes, model="faces")
    print(f"\nBurst: {CALLERS} callers, {CALLS_EACH} calls each, one face a call, in {seconds:.2f} s:")
    print(f"  {pictures:.0f} pictures, {pictures / seconds:.0f} a second; rows of a batch: {describe_batches(batches)}")


def report_phases(page: Page) -> None:
    """Latency, batches and throughput by model, from the server's own metrics."""
    print(f"\nFrom /metrics, times in ms, p50 / p95, below {FEW} calls the mean:")
    rows: list[Sequence[str]] = [("model", "pictures", "request", "queue", "compute", "encode", "rows of a batch")]
    for model in ("faces", "digits", *UPSCALERS):
        rows.append((model, f"{page.total('ganserve_images_total', model=model):.0f}", *_latencies(page, model)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print()


def _latencies(page: Page, model: str) -> Iterator[str]:
    for name in (f"ganserve_{phase}_seconds" for phase in ("request_duration", "queue", "compute", "encode")):
        seconds = page.distribution(name, model=model)
        if seconds.total >= FEW:
            yield f"{seconds.quantile(0.5) * 1e3:.1f} / {seconds.quantile(0.95) * 1e3:.1f}"
        elif seconds.total:
            yield f"mean {page.total(f'{name}_sum', model=model) / seconds.total * 1e3:.1f}"
        else:
            yield "-"
    yield describe_batches(page.distribution("ganserve_batch_size", model=model))


if __name__ == "__main__":
    sys.exit(main())
