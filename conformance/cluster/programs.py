"""Programs of others (docker, kind), run to their end with a deadline; what they say is kept."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

__all__ = ["Failed", "run_program"]

PATIENCE = 10.0  # seconds to end by itself after SIGTERM


class Failed(Exception):
    """It could not be started, ended with another code than 0, or not in time. `output`: all that it said."""

    def __init__(self, cause: str, output: str = "") -> None:
        super().__init__(cause)
        self.output = output


def run_program(command: Sequence[str], seconds: float) -> str:
    """Standard output. Raises Failed with the last line of what it said.

    It has a process group of its own, so that Ctrl-C reaches us alone; on every way out it is gone.
    """
    name = " ".join(command[:2])
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise Failed(f"{command[0]} cannot be started: {error.strerror}") from None
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Failed(f"`{name}` did not end within {seconds:.0f} s") from None
    finally:
        _end(process)
    if process.returncode:
        said = "\n".join(filter(None, (out.strip(), err.strip())))
        words = [line.strip() for line in said.splitlines() if line.strip()]
        raise Failed(words[-1] if words else f"`{name}` ended with code {process.returncode}", said)
    return out


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
