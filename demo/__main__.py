"""`make demo`: exports the zoo, serves it, asks it for pictures, and shows where they are and how long they took."""

import asyncio
import hashlib
import json
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from demo.contact_sheet import compose_contact_sheet
from demo.gallery import show
from demo.metrics_page import Page, describe_batches, read_metrics
from ganserve import AsyncClient, Client, ServedModel, ServerError

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = ROOT / "repository"
OUT = ROOT / "out"
LOG = OUT / "server.log"
EXPORTS = 2  # at once: each imports torch
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
        entries = export_zoo()
        with running_server() as ports:
            with Client(ports.server, deadline_s=300) as client:
                served = {model.name: model for model in client.models()}
                models = [served[entry["name"]] for entry in entries]
                pictures = show_all(client, models, {entry["name"]: entry["example"] for entry in entries})
            drawn = next(model.name for model in models if model.task == "unconditional")
            before = read_metrics(ports.http)
            seconds = asyncio.run(burst(ports.server, drawn))
            after = read_metrics(ports.http)
            report_burst(before, after, drawn, seconds)
            report_phases(after, [model.name for model in models])
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


def export_zoo() -> list[dict[str, Any]]:
    """The zoo's entries, once the repository holds them all; what it lacks is exported as the model's next version."""
    entries: list[dict[str, Any]] = json.loads(_command("zoo", "list", "--json"))
    stamps_path = REPOSITORY / ".demo.json"
    stamps: dict[str, str] = json.loads(stamps_path.read_text()) if stamps_path.is_file() else {}
    done: dict[str, str] = {}
    code = _code_hash()
    print(f"Weights: {len(entries)} models of the zoo", flush=True)
    _command("zoo", "pull", *(entry["name"] for entry in entries))
    print(f"Models, in {REPOSITORY.relative_to(ROOT)}/:", flush=True)

    def export(entry: dict[str, Any]) -> str:
        """What happened to the entry."""
        name = entry["name"]
        if stamps.get(name) == f"{entry['sha256']}-{code}" and any((REPOSITORY / name).glob("*/manifest.json")):
            return "there already"
        begun = time.monotonic()
        _command("export", name, "--repository", str(REPOSITORY), "--name", name, "--json")
        return f"exported in {time.monotonic() - begun:.1f} s ({entry['licence']})"

    with ThreadPoolExecutor(EXPORTS) as pool:
        for entry, told in zip(entries, pool.map(export, entries), strict=True):
            print(f"  {entry['name']}: {told}", flush=True)
            done[entry["name"]] = f"{entry['sha256']}-{code}"
            stamps_path.write_text(json.dumps({**stamps, **done}, indent=2))
    return entries


def _code_hash() -> str:
    """Of the code and the committed weights that an export depends on."""
    digest = hashlib.sha256()
    for folder in ("export", "models"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _command(*arguments: str) -> str:
    """What `ganserve ARGUMENTS` prints on stdout.

    Raises:
        DemoError: it failed; with the last line that it said.
    """
    done = subprocess.run([sys.executable, "-m", "ganserve", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise DemoError(f"`ganserve {' '.join(arguments)}` failed: {last[0]}")
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


def show_all(client: Client, models: Sequence[ServedModel], examples: Mapping[str, str]) -> list[Path]:
    """A sheet of each model's own pictures, and the contact sheet with one of each."""
    paths, panels = [], []
    for model in models:
        exhibit = show(client, model, examples[model.name])
        print(f"{model.name}: {exhibit.line}", flush=True)
        paths.append(OUT / f"{model.name}.png")
        sheet = exhibit.sheet.squeeze(2) if exhibit.sheet.shape[2] == 1 else exhibit.sheet
        Image.fromarray(sheet).save(paths[-1])
        panels.append(exhibit.panel)
    compose_contact_sheet(panels).save(OUT / "contact-sheet.png", optimize=True)
    return [*paths, OUT / "contact-sheet.png"]


async def burst(server: str, model: str) -> float:
    """Seconds that CALLERS callers at once take for CALLS_EACH pictures each, one a call."""
    async with AsyncClient(server) as client:

        async def call(caller: int) -> None:
            for turn in range(CALLS_EACH):
                await client.generate(model, seeds=caller * CALLS_EACH + turn)

        begun = time.monotonic()
        await asyncio.gather(*(call(caller) for caller in range(CALLERS)))
        return time.monotonic() - begun


def report_burst(before: Page, after: Page, model: str, seconds: float) -> None:
    """Throughput and batches of the burst alone, from the pages before and after it."""
    name, sizes = "ganserve_images_total", "ganserve_batch_size"
    pictures = after.total(name, model=model) - before.total(name, model=model)
    batches = after.distribution(sizes, model=model) - before.distribution(sizes, model=model)
    print(f"\nBurst: {CALLERS} callers, {CALLS_EACH} calls each, one picture of {model} a call, in {seconds:.2f} s:")
    print(f"  {pictures:.0f} pictures, {pictures / seconds:.0f} a second; rows of a batch: {describe_batches(batches)}")


def report_phases(page: Page, models: Sequence[str]) -> None:
    """Latency, batches and throughput by model, from the server's own metrics."""
    print(f"\nFrom /metrics, times in ms, p50 / p95, below {FEW} calls the mean:")
    rows: list[Sequence[str]] = [("model", "pictures", "request", "queue", "compute", "encode", "rows of a batch")]
    for model in models:
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
