"""Generates the stubs beside `images.proto`; with --check, says whether the committed ones are current."""

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
NAMES = ("images_pb2.py", "images_pb2.pyi", "images_pb2_grpc.py", "images_pb2_grpc.pyi")


def generate(target: Path) -> None:
    """Writes the four stub files under `target/protos`."""
    options = [f"--{plugin}_out={target}" for plugin in ("python", "grpc_python", "mypy", "mypy_grpc")]
    (target / "protos").mkdir(exist_ok=True)
    if protoc.main(["protoc", f"-I{HERE.parent}", *options, str(HERE / "images.proto")]) != 0:
        sys.exit(2)


def main() -> None:
    """Generates, or with --check compares and exits 1 where a committed stub is stale."""
    if "--check" not in sys.argv[1:]:
        generate(HERE.parent)
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = Path(folder, "protos")
        stale = [n for n in NAMES if not (HERE / n).is_file() or (HERE / n).read_text() != (fresh / n).read_text()]
    if stale:
        sys.exit(f"stale: {', '.join(stale)}; run `python -m protos`")


if __name__ == "__main__":
    main()
