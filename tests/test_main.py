"""The command line: its exit codes, and one message instead of a traceback for whatever is typed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.__main__ import main
from conformance.interrupts import GRACE, Interrupted, Interrupts

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: the following arguments are required: COMMAND"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["cluster"], "error: the following arguments are required: ACTION"),
        (["cluster", "up", "--port", "99999"], "'99999' is not a port (0 to 65535)"),
        (["cluster", "up", "--port", "http"], "'http' is not a port (0 to 65535)"),
        (["list", "--format", "xml"], "invalid choice: 'xml'"),
    ],
)
def test_what_is_not_understood_is_bad_input(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 4
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nope"], "error: there is no scenario or requirement 'nope' (see `list`)\n"),
        (["report", "/nowhere"], "error: /nowhere cannot be read: No such file or directory\n"),
    ],
)
def test_what_is_not_there_is_bad_input(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 4
    assert capsys.readouterr().err == message


def test_an_option_that_is_not_known_is_told_under_the_name_that_was_typed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "--nosuch"]) == 4
    assert "python -m conformance run: error: unrecognized arguments: --nosuch" in capfd.readouterr().err


def test_a_reader_that_had_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "conformance", "list"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, timeout=120, check=False
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


# Stands for any command that a user interrupts while it still imports.
INTERRUPTED = """
import os, signal, sys
from conformance import __main__ as command
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a terminal's child has
command.list_plan = lambda _: os.kill(os.getpid(), int(sys.argv[1]))
sys.exit(command.main(["list"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_is_one_line_and_exit_code_2(number: signal.Signals) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(int(number))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, "\ninterrupted, nothing is left running\n")


def test_only_the_first_interruption_is_let_through(capfd: pytest.CaptureFixture[str]) -> None:
    handler = Interrupts()
    with pytest.raises(Interrupted, match="SIGINT"):
        handler(signal.SIGINT, None)
    handler(signal.SIGINT, None)
    handler(signal.SIGTERM, None)
    assert capfd.readouterr().err == "\nstopping, a moment ...\n" * 2


def test_cleaning_up_that_hangs_can_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    handler = Interrupts()
    handler.finish()
    handler(signal.SIGINT, None)
    now += GRACE
    with pytest.raises(KeyboardInterrupt):
        handler(signal.SIGINT, None)
