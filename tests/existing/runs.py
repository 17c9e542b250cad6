"""`python -m conformance` against a cluster that is there, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.processes import wait_until

PROJECT = Path(__file__).parent.parent.parent
SECONDS = 240.0


class Run:
    """A started command with its output as it comes."""

    def __init__(self, *arguments: str) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "conformance", *arguments],
            cwd=PROJECT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "KUBECONFIG": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.output or self.process.poll() is not None, seconds=SECONDS, what=text)
        assert text in self.output, self.output

    def send(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def finish(self) -> tuple[int, str]:
        try:
            code = self.process.wait(timeout=SECONDS)
        finally:
            if self.process.poll() is None:
                self.send(signal.SIGKILL)
                self.process.wait()
        self._reader.join(timeout=SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        assert "Traceback" not in self.output, self.output
        return code, self.output


def command(*arguments: str) -> tuple[int, str]:
    return Run(*arguments).finish()


def suite(kubeconfig: Path, reports: Path, *arguments: str) -> Run:
    given = ("--cluster=existing", f"--kubeconfig={kubeconfig}", f"--report-dir={reports}")
    return Run("run", *given, *arguments)


def record(reports: Path) -> list[Mapping[str, Any]]:
    text = (reports / "latest" / "record.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]
