"""Who may import whom, and what may stand where: docs/architecture.md, as checks."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("bench", "export", "ganserve", "models", "protos", "server", "training")
MAY_IMPORT = {
    "protos": set(),
    "models": set(),
    "export": {"models", "server.engines.tensorrt_library", "server.errors"},
    "training": {"models"},
    "server": {"models.spec", "models.artifact", "protos"},
    "ganserve": {"protos"},
    "bench": {"models.artifact", "models.spec", "protos"},
}
# `python -m bench gpu` compares the server's engines with torch, on what it exports itself.
GPU_BENCH_MAY_IMPORT = {"export", "server.engines"}
TORCH_FREE = ("artifact/spec.py", "artifact/repository.py")
GRPC_AT = {"app.py", "calls.py", "frontend.py", "health.py", "images.py", "inference.py"}


def modules(folder: str) -> Iterator[Path]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        if "_pb2" not in path.name:
            yield path


def imports(path: Path, top_only: bool = False) -> set[str]:
    """Full names of what a file imports; `top_only`: outside functions and TYPE_CHECKING blocks."""
    tree = ast.parse(path.read_text())
    nodes: list[ast.AST] = list(tree.body) if top_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def under(name: str, allowed: set[str]) -> bool:
    return any(name == entry or name.startswith(entry + ".") for entry in allowed)


@pytest.mark.parametrize("package", OURS)
def test_packages_import_only_what_they_may(package: str) -> None:
    for path in modules(package):
        inside_command = package == "ganserve" and "cli" in path.parts
        allowed = MAY_IMPORT[package] | {package}
        if package == "bench" and path.name.startswith("gpu_"):
            allowed |= GPU_BENCH_MAY_IMPORT
        for name in imports(path, top_only=inside_command):
            if name.split(".")[0] in OURS and not under(name, allowed):
                # `from models import spec` names the package first and the module after.
                assert any(entry.startswith(name + ".") for entry in allowed), f"{path}: {name}"


def test_the_border_formats_need_only_the_standard_library_and_numpy() -> None:
    for file in TORCH_FREE:
        for name in imports(ROOT / file):
            top = name.split(".")[0]
            assert top in sys.stdlib_module_names or top in ("numpy", "models"), f"{file}: {name}"


def test_each_dependency_is_met_only_where_it_belongs() -> None:
    for path in modules("server"):
        tops = {name.split(".")[0] for name in imports(path)}
        assert not tops & {"torch", "onnx", "export", "training"}, path
        assert "onnxruntime" not in tops or re.fullmatch(r"ort(_\w+)?\.py", path.name), path
        assert "grpc" not in tops or path.name in GRPC_AT, path
        assert "prometheus_client" not in tops or path.name == "metrics.py", path
        assert "opentelemetry" not in tops or path.name == "tracing.py", path
        if path.parent.name == "engines":
            assert "asyncio" not in tops, path
        if path.name != "settings.py":
            assert "environ" not in path.read_text(), path


def test_nothing_in_the_server_polls_or_sleeps() -> None:
    for path in modules("server"):
        assert not re.search(r"sleep\(|timeout=0\.", path.read_text()), path


def test_asyncio_is_started_only_by_the_command() -> None:
    for package in OURS:
        for path in modules(package):
            if "asyncio.run(" in path.read_text():
                assert package == "bench" or "cli" in path.parts or path.name == "demo.py", path


def test_files_and_functions_keep_their_size() -> None:
    for package in OURS:
        for path in modules(package):
            text = path.read_text()
            assert text.count("\n") <= 300, f"{path} has {text.count(chr(10))} lines"
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                    assert node.end_lineno - node.lineno < 50, f"{path}: {node.name}"


@pytest.mark.parametrize(
    ("module", "absent"),
    [("server.app", ("torch", "onnx", "export")), ("ganserve", ("torch", "onnxruntime", "typer", "server"))],
)
def test_importing_stays_light(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*[name for name in {absent!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.strip() == ""
