"""Generates the stubs in `ganserve/v1` from `images.proto`; with --check, says whether they are current."""

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
STUBS = HERE.parent / "ganserve" / "v1"
NAMES = ("images_pb2.py", "images_pb2.pyi", "images_pb2_grpc.py", "images_pb2_grpc.pyi")


def generate(target: Path) -> None:
    """Writes the four stub files under `target/ganserve/v1`."""
    options = [f"--{plugin}_out={target}" for plugin in ("python", "grpc_python", "mypy", "mypy_grpc")]
    (target / "ganserve" / "v1").mkdir(parents=True, exist_ok=True)
    if protoc.main(["protoc", f"-I{HERE}", *options, "ganserve/v1/images.proto"]) != 0:
        sys.exit(2)


def main() -> None:
    """Generates, or with --check compares and exits 1 if a committed stub is stale."""
    if "--check" not in sys.argv[1:]:
        generate(HERE.parent)
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = Path(folder, "ganserve", "v1")
        stale = [n for n in NAMES if not (STUBS / n).is_file() or (STUBS / n).read_text() != (fresh / n).read_text()]
    if stale:
        sys.exit(f"stale: {', '.join(stale)}; run `python -m protos`")


if __name__ == "__main__":
    main()
