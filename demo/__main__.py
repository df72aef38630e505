"""`python -m demo [--models a,b,c]`: exports the zoo, serves it, writes images of each model to out/."""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

from demo import OUT, ROOT, DemoError
from demo.burst import report_burst, report_phases, run_burst
from demo.exports import REPOSITORY, export_models
from demo.gallery import write_images
from demo.metrics_page import read_metrics
from demo.server_process import running_server
from ganserve import Client, ServerError
from models.zoo.entries import ENTRIES, Entry
from models.zoo.fetch import ZooError, find

CALL_DEADLINE_S = 300.0  # x4 of a photograph by the largest network on a slow CPU


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 2 with one line on stderr, or 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m demo", description="Export the zoo, serve it, request images.")
    parser.add_argument("--models", metavar="NAME,...", help="only these, as `ganserve zoo list` names them")
    names = parser.parse_args(arguments).models
    try:
        run([find(name) for name in names.split(",")] if names else list(ENTRIES.values()))
    except KeyboardInterrupt:
        return 130
    except (DemoError, ServerError, ZooError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    return 0


def run(entries: Sequence[Entry]) -> None:
    """Every step.

    Raises:
        DemoError: an export or the server failed.
        ServerError: a request failed.
    """
    started = time.monotonic()
    OUT.mkdir(exist_ok=True)
    export_models(entries)
    with running_server(REPOSITORY) as server:
        with Client(server.address, deadline_s=CALL_DEADLINE_S) as client:
            served = {model.name: model for model in client.models()}
            paths = write_images(client, [(served[entry.name], entry.example) for entry in entries])
        before = read_metrics(server.http_port)
        unconditional = [entry.name for entry in entries if entry.task == "unconditional"]
        if unconditional:
            seconds = asyncio.run(run_burst(server.address, unconditional[0]))
            report_burst(before, read_metrics(server.http_port), unconditional[0], seconds)
        report_phases(read_metrics(server.http_port), [entry.name for entry in entries])
    print("\nImages:", *(f"  {path.relative_to(ROOT)}" for path in paths), sep="\n")
    print(f"\nDone in {time.monotonic() - started:.1f} s.")


if __name__ == "__main__":
    sys.exit(main())
