"""For the suite's own tests only: a warning is a failure. A user's run must not end in one."""

import signal

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "error")
    # A job in the background ignores Ctrl-C, and so would every process of the tests that send it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
