"""Workers of one run sharing a mesh: cases that touch all of it run alone.

Files and flock, because workers are processes; a lock goes with its process.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["mesh_lock"]


@contextmanager
def mesh_lock(directory: Path | None, *, exclusive: bool) -> Iterator[None]:
    """Holds the mesh, alone or beside others; without a directory there is one worker and no lock.

    Whoever wants it alone holds the gate while waiting, so that a stream of others cannot starve it."""
    if directory is None:
        yield
        return
    with (directory / "mesh.gate").open("w") as gate, (directory / "mesh.lock").open("w") as mesh:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(mesh, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        if not exclusive:
            fcntl.flock(gate, fcntl.LOCK_UN)
        yield
