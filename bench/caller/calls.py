"""`python -m bench.caller.calls HOST PORT PATH CALLERS SECONDS CONNECTIONS FILE...`: a closed loop in a process of its
own, so that callers of several servers do not share one interpreter. `FILE`: a serialized request each.

Says `ready`, begins when it gets a line, and prints as JSON what came back.
"""

import json
import sys
from pathlib import Path

from bench.caller.loops import closed_loop


def main() -> None:
    """Runs the loop that the arguments describe."""
    host, port, path, callers, seconds, connections, *files = sys.argv[1:]
    messages = [Path(file).read_bytes() for file in files]
    print("ready", flush=True)
    sys.stdin.readline()
    phase = closed_loop(
        (host, int(port)), path, messages, callers=int(callers), seconds=float(seconds), connections=int(connections)
    )
    answered = phase.in_time
    found = {
        "calls_per_s": phase.per_s,
        "latencies_s": [answer.latency_s for answer in answered],
        "errors": len(phase.answers) - len(answered),
        "caller_cores": phase.processor_s / phase.seconds,
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
