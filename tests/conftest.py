"""For the suite's own tests only: a warning is a failure. A user's run must not end in one."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "error")
