"""The demo's model repository: what it lacks of the zoo is exported, what it has is kept."""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from demo import ROOT, DemoError
from models.zoo.entries import Entry

REPOSITORY = ROOT / "repository"
STAMPS = REPOSITORY / ".demo.json"  # name -> what its export was made from
CODE = ("artifact", "export", "models")
AT_ONCE = 2  # each export imports torch


def export_models(entries: Sequence[Entry]) -> None:
    """Fetches the weights of all entries and exports, as the model's next version, those that are new or changed.

    Raises:
        DemoError: an entry cannot be fetched or exported.
    """
    print(f"Weights: {len(entries)} models of the zoo", flush=True)
    _run_command("zoo", "pull", *(entry.name for entry in entries))
    print(f"Models, in {REPOSITORY.relative_to(ROOT)}/:", flush=True)
    code = _hash_code()
    stamps: dict[str, str] = json.loads(STAMPS.read_text()) if STAMPS.is_file() else {}

    def export(entry: Entry) -> str:
        """What happened to the entry."""
        exported = any((REPOSITORY / entry.name).glob("*/manifest.json"))
        if exported and stamps.get(entry.name) == f"{entry.sha256}-{code}":
            return "exported before"
        started = time.monotonic()
        _run_command("export", entry.name, "--repository", str(REPOSITORY), "--name", entry.name, "--json")
        return f"exported in {time.monotonic() - started:.1f} s ({entry.licence})"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for entry, outcome in zip(entries, pool.map(export, entries), strict=True):
            print(f"  {entry.name}: {outcome}", flush=True)
            stamps = {**stamps, entry.name: f"{entry.sha256}-{code}"}
            STAMPS.write_text(json.dumps(stamps, indent=2))


def _hash_code() -> str:
    """SHA-256 of the code that an export depends on."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _run_command(*arguments: str) -> None:
    """Runs `ganserve ARGUMENTS`.

    Raises:
        DemoError: it failed; with the last line of its stderr.
    """
    done = subprocess.run([sys.executable, "-m", "ganserve", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        raise DemoError(f"`ganserve {' '.join(arguments)}` failed: {last[0]}")
