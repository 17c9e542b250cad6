"""What a process started, as the kernel tells it: for tests that kill and look for what was left."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A process, told from a later one of the same number by when it started."""

    pid: int
    start_ticks: int
    network_namespace: str


def look_up(pid: int) -> tuple[int, Started] | None:
    """The parent's pid and the process itself; None where it is gone."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
        namespace = str((PROC / str(pid) / "ns" / "net").readlink())
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name may hold spaces and parentheses
    if fields[0] == "Z":
        return None
    return int(fields[1]), Started(pid=pid, start_ticks=int(fields[19]), network_namespace=namespace)


def everything() -> dict[int, tuple[int, Started]]:
    """Every process of the machine: pid to (parent's pid, process)."""
    pids = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]
    return {pid: found for pid in pids if (found := look_up(pid))}


def descendants(root: int) -> set[Started]:
    """Every process below root, root included."""
    table = everything()
    below = {root}
    while grown := {pid for pid, (parent, _) in table.items() if parent in below} - below:
        below |= grown
    return {table[pid][1] for pid in below if pid in table}


def children(pid: int) -> list[Started]:
    """The processes that it is the parent of, oldest first. Their numbers tell no age: they begin anew."""
    below = [process for parent, process in everything().values() if parent == pid]
    return sorted(below, key=lambda process: process.start_ticks)


def still_alive(processes: set[Started]) -> set[Started]:
    """Those of the processes that still run."""

    def runs(process: Started) -> bool:
        found = look_up(process.pid)
        return found is not None and found[1].start_ticks == process.start_ticks

    return set(filter(runs, processes))


def ticks() -> int:
    """Now, as `Started.start_ticks` counts."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def still_in(namespaces: set[str], *, since_before: int) -> set[Started]:
    """The processes in one of these network namespaces that were started before that tick: the kernel soon
    gives the number of a namespace that has gone to another one, of another run on this machine."""
    return {
        process
        for _, process in everything().values()
        if process.network_namespace in namespaces and process.start_ticks <= since_before
    }


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait for the condition; fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(POLL_SECONDS)
