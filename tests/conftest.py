"""What tests of every folder share: which run in one process and in what order, and what they need from the machine."""

import contextlib
import functools
import gc
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# Long ones whose tests share nothing but what all processes share (tests/models/exported.py), and the network that each
# is named after.
APART = ("test_architectures.py", "test_zoo_engines.py")
# Tests that import onnxruntime themselves send no usage data either.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# Servers that tests start measure no engines, which takes seconds and may end otherwise each time, unless a test asks.
os.environ["GANSERVE_ENGINE"] = "onnx"
# Nothing of a test depends on how fast the machine is.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")
# Packages, separated by commas, without which tests fail instead of being skipped.
REQUIRED = os.environ.get("TESTS_REQUIRE", "")


def pytest_configure(config: pytest.Config) -> None:
    """pytest-xdist keeps the order of `pytest_collection_modifyitems`; its own is by the number of tests."""
    config.option.loadscopereorder = False


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test for `pytest --dist loadgroup`: a file's tests stay together and share servers and exports.

    The files with most that is slow come first, small pieces last, so that all processes end at about the same time.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (item.path.name in APART, -slow[item.path]))
    for item in items:
        part = ""
        if item.path.name in APART:
            part = f":{item.callspec.params.get('name', item.name) if hasattr(item, 'callspec') else item.name}"
        item.add_marker(pytest.mark.xdist_group(f"{item.path}{part}"))


def pytest_collection_finish() -> None:
    """Spares the tests what is the same for all: a search for garbage in all that was imported, and in those that
    export to ONNX a table of every operator anew each time."""
    gc.collect()
    gc.freeze()
    if "export.graph.trace" in sys.modules:
        with contextlib.suppress(ImportError, AttributeError):  # private: with another torch it only takes longer
            from torch.onnx._internal.exporter import _registration as operators

            registry = operators.ONNXRegistry
            registry.from_torchlib = staticmethod(functools.cache(registry.from_torchlib))  # type: ignore[method-assign]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason for which tests were skipped."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", ()))
    for reason, count in reasons.items():
        terminalreporter.write_line(f"{count} skipped: {reason.removeprefix('Skipped: ')}")


def _need(package: str, *programs: str) -> None:
    """Skips the test if a program of that package is not installed; fails it if TESTS_REQUIRE names it."""
    if missing := [program for program in programs if shutil.which(program) is None]:
        report = pytest.fail if package in REQUIRED.split(",") else pytest.skip
        report(f"{' and '.join(missing)} not found: apt-get install --no-install-recommends {package}")


@pytest.fixture(scope="session")
def needs_prometheus() -> None:
    """For tests that need Prometheus and promtool."""
    _need("prometheus", "prometheus", "promtool")


@pytest.fixture(scope="session")
def needs_openssl() -> None:
    """For tests that make certificates."""
    _need("openssl", "openssl")


@pytest.fixture(scope="session")
def needs_chromium() -> None:
    """For the tests of the page."""
    _need("chromium-driver", "chromium", "chromedriver")


@pytest.fixture(scope="session")
def needs_nginx() -> None:
    """For the test of a caching proxy."""
    _need("nginx-light", "nginx")


@pytest.fixture(scope="session")
def needs_curl() -> None:
    """For the test that runs README's commands."""
    _need("curl", "curl")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT interrupts this process and those it starts, even if the tests run in the background with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
