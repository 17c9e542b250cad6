"""What PID 1 remembers of each sandbox and process, and what its forked helpers do."""

import contextlib
import json
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from conformance.cluster.embedded.node.container import reset_signals
from conformance.cluster.embedded.node.network import remove_pod, set_up_pod
from conformance.cluster.embedded.node.spec import ContainerSpec


@dataclass(slots=True, kw_only=True)
class Sandbox:
    ip: str
    namespaces: tuple[int, ...] = ()
    """Descriptors that keep the network, UTS and IPC namespaces alive; none until they are made."""
    processes: "set[Process]" = field(default_factory=set)
    busy: bool = True
    """A child is making or freeing its network."""
    removals: list[int] = field(default_factory=list)
    """The calls that wait for it to be gone."""


@dataclass(slots=True, kw_only=True, eq=False)
class Process:
    number: int
    call: int
    pid: int
    pidfd: int
    sandbox: Sandbox
    spec: ContainerSpec
    ours: list[int]
    """The descriptors of its streams that go to the caller."""
    answered: bool = False
    failed: bool = False
    exit_code: int | None = None


def send_signal(process: Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process.pidfd, number)


def kill(process: Process) -> None:
    send_signal(process, signal.SIGKILL)


def make_streams(*, stdin: bool, tty: bool) -> tuple[list[int], list[int]]:
    """(the caller's ends: stdout, stderr and maybe stdin; the process's three). A terminal comes later."""
    if tty:
        return [], []
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    if stdin:
        in_read, in_write = os.pipe()
        return [out_read, err_read, in_write], [in_read, out_write, err_write]
    nothing = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    return [out_read, err_read], [nothing, out_write, err_write]


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def make_network(report: socket.socket, *, ip: str, ip6: str, hostname: str) -> NoReturn:
    """In a forked child, which does not return."""
    try:
        reset_signals()
        set_up_pod(ip=ip, ip6=ip6, hostname=hostname)
        report.send(b"{}")
        report.recv(1)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        report.send(json.dumps({"error": f"network of {hostname} ({ip}): {error.strerror}{where}"}).encode())
    finally:
        os._exit(0)


def free_network(ip: str) -> NoReturn:
    """In a forked child, which does not return. What it cannot delete goes with the namespace."""
    try:
        reset_signals()
        remove_pod(ip)
    finally:
        os._exit(0)
