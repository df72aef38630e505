"""Who may import whom, and what may stand where: docs/architecture.md, as checks."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Each top-level package and which others of ours it may import, anywhere in it.
MAY_IMPORT = {
    "artifact": set(),
    "protos": set(),
    "models": {"artifact"},
    "export": {"artifact", "models"},
    "server": {"artifact", "ganserve.v1"},
    "ganserve": set(),
    "training": {"artifact", "models"},
    "bench": {"artifact", "ganserve.v1"},
    "demo": {"ganserve", "models"},
}
# The command's subcommands import these inside their functions, so that a client needs none of them installed.
COMMAND_MAY_IMPORT = {"artifact", "export", "models", "server"}
# `python -m bench gpu` compares the server's engines with torch, on what it exports itself.
GPU_BENCH_MAY_IMPORT = {"export", "server.engines"}
# `python -m bench engine --engines` measures the server's engines, and what it chooses.
ENGINE_BENCH = Path("bench/cpu/engines.py")
# Runs the server with one of its choices taken back, to measure the difference.
CHANGED_SERVER = Path("bench/gpu/not_ahead.py")
# In server/ a file imports only files of a lower rank, or of its own folder.
RANK = [
    "errors",
    "allocator",
    "last_resort",
    "shared_loop",
    "observability",
    "settings",
    "environment",
    "setting_texts",
    "engines",
    "batching",
    "images",
    "repository",
    "api",
    "app",
]
# Third-party packages that may be met in these places of server/ only.
AT_HOME = {
    "grpc": ("api", "app"),
    "grpc_health": ("api", "app"),
    "grpc_reflection": ("api",),
    "starlette": ("api",),
    "uvicorn": ("api",),
    "ganserve": ("api", "app"),
    "onnxruntime": ("engines/onnx",),
    "openvino": ("engines/openvino",),
    "c2pa": ("images/signing",),
    "isal": ("images/png",),
    "cuda": ("engines/tensorrt",),
    "pynvml": ("observability/nvml",),
    "prometheus_client": ("observability/metrics",),
    "opentelemetry": ("observability/otlp",),
    "pydantic_settings": ("settings",),
}


def modules(folder: str) -> Iterator[Path]:
    """The folder's Python files, relative to the root; generated ones left out."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        if "_pb2" not in path.name:
            yield path.relative_to(ROOT)


def imported(tree: ast.AST) -> set[str]:
    """Full names of what a piece of code imports, also inside functions; `from a import b` is `a.b`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imports(path: Path) -> set[str]:
    return imported(ast.parse((ROOT / path).read_text()))


def at_import_time(path: Path) -> set[str]:
    """What importing the file imports: not what its functions do, nor what is for type checkers."""
    body = ast.parse((ROOT / path).read_text()).body
    return {name for node in body if isinstance(node, ast.Import | ast.ImportFrom) for name in imported(node)}


def is_one_of(name: str, allowed: set[str]) -> bool:
    return any(name == entry or name.startswith(entry + ".") for entry in allowed)


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] in MAY_IMPORT}


def misplaced(path: Path, allowed: set[str]) -> set[str]:
    """What a file imports of ours that it may not."""
    inside_command = path.parts[:2] == ("ganserve", "cli")
    found = ours(at_import_time(path) if inside_command else imports(path))
    late = ours(imports(path)) - found
    return {name for name in found if not is_one_of(name, allowed)} | {
        name for name in late if not is_one_of(name, allowed | COMMAND_MAY_IMPORT)
    }


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_what_they_may(package: str) -> None:
    for path in modules(package):
        allowed = {package} | MAY_IMPORT[package]
        if path.parts[:2] == ("bench", "gpu"):
            allowed |= GPU_BENCH_MAY_IMPORT
        if path == ENGINE_BENCH:
            allowed |= {"server"}
        if path == CHANGED_SERVER:
            allowed |= {"ganserve.__main__", "server.batching"}
        assert not misplaced(path, allowed), path


def rank(part: str) -> int:
    assert part in RANK, f"server/{part} has no rank"
    return RANK.index(part)


def above(path: Path, names: set[str]) -> set[str]:
    """What a file of server/ imports of a higher rank, or of the same one in another folder."""
    if path == Path("server/__init__.py"):
        return names
    mine = path.parts[1].removesuffix(".py")
    inside = {name for name in names if name.startswith("server.")}
    return {name for name in inside if (part := name.split(".")[1]) != mine and rank(part) >= rank(mine)}


def test_the_server_imports_downwards_only() -> None:
    for path in modules("server"):
        assert not above(path, imports(path)), path


def test_the_rank_rule_sees_a_violation_wherever_it_is_hidden() -> None:
    hidden = "def late():\n    from server.api.calls import Calls\nif TYPE_CHECKING:\n    import server.app\n"
    found = imported(ast.parse(hidden))
    assert above(Path("server/batching/queue.py"), found) == {"server.api.calls.Calls", "server.app"}
    assert above(Path("server/api/images.py"), found) == {"server.app"}


def test_exports_graph_and_engine_know_neither_each_other_nor_the_pipeline() -> None:
    for folder in ("graph", "engine"):
        for path in modules(f"export/{folder}"):
            used = {name.split(".")[1] for name in imports(path) if name.startswith("export.")}
            assert used <= {"errors", folder}, path


def test_the_border_needs_only_the_standard_library_and_numpy() -> None:
    for path in modules("artifact"):
        for name in imports(path):
            top = name.split(".")[0]
            assert top in sys.stdlib_module_names or top in ("numpy", "artifact"), f"{path}: {name}"


def test_each_dependency_is_met_only_where_it_belongs() -> None:
    for path in modules("server"):
        place = path.relative_to("server").with_suffix("").as_posix()
        for top in {name.split(".")[0] for name in imports(path)}:
            homes = AT_HOME.get(top, (place,))
            assert any(place == home or place.startswith(home + "/") for home in homes), f"{path}: {top}"
            assert top not in ("torch", "onnx", "tensorrt", "tensorrt_rtx", "export", "models", "training"), path
            assert top != "asyncio" or not place.startswith("engines"), path
        names = imports(path)
        protobuf = {name for name in names if name.startswith("tritonclient.grpc") and "service_pb2" in name}
        assert not protobuf or place == "app" or place.startswith("api/"), path
        assert place in ("settings", "environment") or "os.environ" not in (ROOT / path).read_text(), path


def test_nothing_hides_a_circle_from_the_interpreter() -> None:
    for package in ("artifact", "models", "export", "server"):
        for path in modules(package):
            for node in ast.walk(ast.parse((ROOT / path).read_text())):
                if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
                    assert not ours(imported(node)), path


def test_nothing_in_the_server_polls_or_sleeps() -> None:
    for path in modules("server"):
        assert not re.search(r"sleep\(|timeout=0\.", (ROOT / path).read_text()), path


def test_asyncio_is_started_only_by_the_command() -> None:
    for package in MAY_IMPORT:
        for path in modules(package):
            if "asyncio.run(" in (ROOT / path).read_text():
                assert package in ("bench", "demo") or "cli" in path.parts, path


def test_files_and_functions_keep_their_size() -> None:
    for package in MAY_IMPORT:
        for path in modules(package):
            text = (ROOT / path).read_text()
            assert text.count("\n") <= 350, f"{path} has {text.count(chr(10))} lines"
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                    assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"


def test_every_package_says_what_it_is() -> None:
    for package in MAY_IMPORT:
        for path in modules(package):
            if path.name == "__init__.py":
                said = ast.get_docstring(ast.parse((ROOT / path).read_text()))
                assert said, path
                assert "TODO" not in said, path


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("server.app", ("torch", "onnx", "openvino", "export", "models")),
        ("ganserve", ("torch", "onnxruntime", "typer", "server", "artifact", "tritonclient")),
    ],
)
def test_importing_stays_light(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*[name for name in {absent!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.strip() == ""
