"""The processes of the embedded cluster's containers, as the host sees them: signals, files, sockets."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from conformance.cluster.embedded.node.spec import STATE
from tests.processes import descendants, wait_until

PIDFD_GETFD = 438  # the same on every architecture
SECONDS = 30.0
_libc = ctypes.CDLL(None, use_errno=True)


def find(node: int, pod: str, program: str) -> list[int]:
    """The processes of a pod (its host name is the pod's) whose command line has `program`."""
    found = []
    for process in descendants(node):
        folder = Path(f"/proc/{process.pid}")
        with suppress(OSError):
            names = folder.joinpath("environ").read_bytes().split(b"\0")
            if f"HOSTNAME={pod}".encode() in names and program.encode() in folder.joinpath(
                "cmdline"
            ).read_bytes().replace(b"\0", b" "):
                found.append(process.pid)
    return sorted(found)


def find_one(node: int, pod: str, program: str) -> int:
    """The first of them, as soon as there is one."""
    wait_until(lambda: bool(find(node, pod, program)), seconds=SECONDS, what=f"a process {program} in {pod}")
    return find(node, pod, program)[0]


def kill(pid: int) -> None:
    """SIGKILL; returns when the process is gone."""
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
    wait_until(lambda: not _runs(pid), seconds=SECONDS, what=f"the end of {pid}")


def _runs(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP, and SIGCONT at the end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def hosts_of(node: int, pid: int, old: str, new: str) -> Iterator[None]:
    """The hosts file that a process sees, `old` replaced by `new`, no longer than it; put back at the end."""
    seen = Path(f"/proc/{pid}/root/etc/hosts")  # read-only in there: the kubelet's own file is written
    state = Path(f"/proc/{node}/root{STATE}")
    file = next(each for each in state.rglob("*hosts*") if each.is_file() and each.samefile(seen))
    before = file.read_bytes()
    after = before.replace(old.encode(), new.encode())
    assert after != before, f"{old!r} is not in the hosts file"
    _rewrite(file, after)
    try:
        yield
    finally:
        with suppress(OSError):  # the pod may be gone
            _rewrite(file, before)


def _rewrite(file: Path, data: bytes) -> None:
    # In place and with one write, because it is a mount, and read meanwhile.
    descriptor = os.open(file, os.O_RDWR)
    try:
        os.pwrite(descriptor, data.ljust(os.fstat(descriptor).st_size, b"\n"), 0)
    finally:
        os.close(descriptor)


def cut_connections(pid: int, port: int) -> int:
    """Shuts down a process's TCP connections to a port of others; how many."""
    handle = os.pidfd_open(pid)
    cut = 0
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if not str(entry.readlink()).startswith("socket:"):
                    continue
                copy = _libc.syscall(PIDFD_GETFD, handle, int(entry.name), 0)
                if copy < 0:
                    continue
                with socket.socket(fileno=copy) as link:
                    if link.family == socket.AF_INET and link.getpeername()[1] == port:
                        link.shutdown(socket.SHUT_RDWR)
                        cut += 1
    finally:
        os.close(handle)
    return cut
