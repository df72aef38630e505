"""The `ganserve` command: 0, one of `EXIT_CODES` with one line on stderr, 130 after Ctrl-C, or 143 after SIGTERM."""

import os
import signal
import sys
import threading
from collections.abc import Sequence

from ganserve.cli.exit_codes import FAILED, INTERRUPTED, exit_code_of
from ganserve.cli.output import sentence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code. Shows a traceback only with `--traceback`."""
    ended_by: list[int] = []

    def end(number: int, frame: object) -> None:
        ended_by.append(number)
        raise SystemExit(128 + number)

    if threading.current_thread() is threading.main_thread():
        # Process 1 of a container gets only signals that it handles, also while the rest is imported.
        signal.signal(signal.SIGTERM, end)
    from ganserve.cli.app import app

    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(args=given or ["--help"], prog_name="ganserve", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe left, as `| head` does; keep the interpreter's last flush from failing as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if ended_by:  # PyTorch's exporter turns whatever is raised while it traces into an error of its own
            return 128 + ended_by[0]
        if given[:1] == ["--traceback"]:
            raise
        print(f"ganserve: {sentence(error)}", file=sys.stderr)
        return exit_code_of(error)
