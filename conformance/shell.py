"""One bash into which blocks of commands are typed, as into a terminal, and what each of them prints."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

__all__ = ["Shell", "ShellError"]


class ShellError(Exception):
    """A block did not come to its end; the text says why and shows the block and what it had printed."""


class Shell:
    """A context manager. Variables and functions last from block to block."""

    def __init__(self, *, environment: Mapping[str, str], directory: Path) -> None:
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=dict(environment),
        )

    def __enter__(self) -> Shell:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def type(self, block: str, *, deadline: float) -> tuple[str, int]:
        """What the block prints, errors included, and the exit code of the last command in it that failed,
        else 0. A failure inside a condition (`if`, `&&`, `||`) is none, as under `set -e`.

        Raises ShellError when it does not end within `deadline` seconds, or ends the shell.
        """
        mark = uuid.uuid4().hex
        assert self.process.stdin is not None
        # Standard input is the script itself, so the commands must not read from it.
        script = (
            f"failed=0; trap 'failed=$?' ERR\n{{\n{block}\n}} </dev/null\n"
            f'trap - ERR; printf "%s %d\\n" {mark} "$failed"\n'
        )
        self.process.stdin.write(script.encode())
        self.process.stdin.flush()
        printed, _, code = self._read_past(mark, block, deadline).partition(mark)
        return printed, int(code)

    def _read_past(self, mark: str, block: str, seconds: float) -> str:
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        seen = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not (mark.encode() in seen and seen.endswith(b"\n")):
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                chunk = os.read(self.process.stdout.fileno(), 65536) if ready else b""
                if not chunk:
                    why = "the shell ended" if ready else f"no end within {seconds:g} s"
                    raise ShellError(f"{why}\n{block}\n{seen.decode(errors='replace')}")
                seen += chunk
        return seen.decode(errors="replace")
