"""A run that is killed or interrupted leaves nothing: no process, namespace, mount or file."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import descendants, still_alive, still_in, ticks, wait_until

PROJECT = Path(__file__).parent.parent
START_SECONDS = 120.0
GONE_SECONDS = 60.0


class Run:
    """A conformance run in a process of its own, with its output as it comes."""

    def __init__(self, folder: Path) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "conformance",
                "run",
                "--cluster=embedded",
                f"--report-dir={folder}/reports",
            ],
            cwd=PROJECT,
            env={**os.environ, "TMPDIR": str(self.temporary), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(self._process.stdout)

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_for(self, text: str) -> None:
        wait_until(
            lambda: text in self.output or self._process.poll() is not None,
            seconds=START_SECONDS,
            what=f"{text!r} in the output:\n{self.output}",
        )
        assert text in self.output, self.output

    def send(self, number: signal.Signals) -> None:
        # To the whole foreground group, as a terminal does for Ctrl-C; SIGKILL to the one process.
        with contextlib.suppress(ProcessLookupError):
            (os.kill if number == signal.SIGKILL else os.killpg)(self.pid, number)

    def exit_code(self) -> int:
        code = self._process.wait(timeout=START_SECONDS)
        self._reader.join(timeout=START_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    started = Run(tmp_path)
    yield started
    started.send(signal.SIGKILL)
    started.exit_code()


def mounts() -> str:
    return Path("/proc/self/mounts").read_text()


def test_sigkill_in_the_middle_of_a_run_leaves_nothing(run: Run) -> None:
    mounted, mine = mounts(), str(Path("/proc/self/ns/net").readlink())
    run.wait_for("PASSED")
    processes = descendants(run.pid)
    foreign = {process.network_namespace for process in processes} - {mine}
    assert len(foreign) > 5, "the pods are not running: the test would prove nothing"

    run.send(signal.SIGKILL)
    killed = ticks()

    run.exit_code()
    wait_until(lambda: not still_alive(processes), seconds=GONE_SECONDS, what="every process is gone")
    wait_until(
        lambda: not still_in(foreign, since_before=killed), seconds=GONE_SECONDS, what="nobody is in its pods"
    )
    assert mounts() == mounted
    assert list(run.temporary.iterdir()) == []


@pytest.mark.parametrize("moment", ["cluster", "workloads", "PASSED"])
def test_interrupting_at_any_moment_stops_everything_and_says_so(run: Run, moment: str) -> None:
    run.wait_for(moment)
    processes = descendants(run.pid)

    run.send(signal.SIGINT)

    assert run.exit_code() == 2, run.output
    assert "nothing is left running" in run.output
    assert "Traceback" not in run.output
    wait_until(lambda: not still_alive(processes), seconds=GONE_SECONDS, what="every process is gone")
    assert list(run.temporary.iterdir()) == []
