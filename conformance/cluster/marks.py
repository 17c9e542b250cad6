"""Which kind clusters are ours and in use: one locked file each, in the user's state directory.

The kernel drops the lock with the process, however that ends: a mark that can be locked is of a run that is
over.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from conformance.errors import SetupError

__all__ = ["Mark", "read_mark", "take_mark"]


class Mark:
    """The file of a cluster; locked for as long as the run lives that uses it."""

    def __init__(self, path: Path, file: IO[str]) -> None:
        self.path = path
        self._file = file

    def write(self, content: Mapping[str, object]) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps(content))
        self._file.flush()

    def release(self, *, remove: bool) -> None:
        if remove:
            self.path.unlink(missing_ok=True)
        self._file.close()


def marks() -> Path:
    """The directory of the marks. Raises SetupError where it cannot be made."""
    state = os.environ.get("XDG_STATE_HOME") or Path(os.environ.get("HOME") or "/", ".local", "state")
    directory = Path(state, "authz-conformance", "kind")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{directory} cannot be made: {error.strerror}", hint="set XDG_STATE_HOME") from None
    return directory


def take_mark(name: str) -> Mark | None:
    """The cluster's mark, locked; None where another run holds it. Raises SetupError."""
    path = marks() / f"{name}.json"
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return Mark(path, file)


def read_mark(name: str) -> Mapping[str, object]:
    """What stands in a cluster's mark; empty where it has none."""
    try:
        content = json.loads((marks() / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
