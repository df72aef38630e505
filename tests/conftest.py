"""Which tests go to which process: a file's tests stay together and share its servers and exports."""

import pytest

APART = ("test_architectures.py", "test_zoo_engines.py")  # long ones that share nothing


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test for `pytest --dist loadgroup`."""
    for item in items:
        if item.path.name not in APART:
            item.add_marker(pytest.mark.xdist_group(str(item.path)))
