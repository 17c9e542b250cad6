"""Where a run leaves its record and reports."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conformance.errors import InputError, SetupError

__all__ = ["check_reports", "display_path", "point_latest", "writing"]


def display_path(path: Path) -> str:
    """Relative to the current directory where it is below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def check_reports(directory: Path) -> None:
    """Raises InputError where no run can leave its record: told before anything is started."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the report directory {directory} cannot be made: {error.strerror}") from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise InputError(f"nothing can be written to the report directory {directory}")


def point_latest(directory: Path) -> None:
    """reports/latest -> this run."""
    link = directory.parent / "latest"
    fresh = directory.parent / f".latest-{os.getpid()}"
    fresh.symlink_to(directory.name)
    fresh.replace(link)


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Raises SetupError where what is inside cannot write to the run's folder."""
    try:
        yield
    except OSError as error:
        raise SetupError(
            f"no record can be written to {directory}: {error.strerror}; there is no result",
            hint="--report-dir DIR",
        ) from None
