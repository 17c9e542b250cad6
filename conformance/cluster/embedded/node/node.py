"""The node's processes: `python -m conformance.cluster.embedded.node.node OPTIONS`, started by `launcher`.

    launcher's child   binds the host's loopback port, enters the namespaces, then waits for either end
      PID 1            mounts, network, packet filter; then the container runtime (`runtime_server`)
        control plane  the entry that the options name

Any of them ending ends all of them: PID 1 of a PID namespace takes the rest along.
"""

import contextlib
import importlib
import json
import os
import resource
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Self

from conformance.cluster.embedded.node import linux
from conformance.cluster.embedded.node.namespaces import (
    FILTER,
    NETWORK,
    NamespaceError,
    enter_namespaces,
    perform,
    set_up_files,
)
from conformance.cluster.embedded.node.network import listen_in_node, set_up_node
from conformance.cluster.embedded.node.runtime_server import RuntimeServer
from conformance.cluster.embedded.node.services import load_services

LOG_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSockets:
    """What the control plane serves on, already listening and non-blocking."""

    host: socket.socket
    """127.0.0.1 in the host's network."""
    node: socket.socket
    """0.0.0.0:6443 in the node's; pods reach it as 10.96.0.1:443."""
    no_ipv6: str
    """Why pods have no IPv6 address; empty: they have."""
    ready: int
    """Takes the one line that `report_ready` writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    entry: str
    """`module:function`, called as function(sockets, runtime_socket, options) in the control plane's process.
    It returns an exit code, or None for 0."""
    options: Mapping[str, Any]
    port: int
    """On the host's loopback; 0 takes a free one."""
    ready: int
    """Descriptors inherited from the starter: for the readiness line,"""
    lifeline: int
    """the pipe whose end means die,"""
    log: int
    """and the memory file that keeps the last of what the node wrote."""
    starter: int | None
    """The process whose death kills the node even while another holds the lifeline open. None: no matter."""

    def to_json(self) -> str:
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


def report_ready(sockets: NodeSockets, *, kubeconfig: str, **more: object) -> None:
    """Tells the starter that the cluster answers. `kubeconfig` is a path inside the node."""
    port = sockets.host.getsockname()[1]
    answer = {"ready": True, "kubeconfig": kubeconfig, "port": port, "no_ipv6": sockets.no_ipv6, **more}
    _report(sockets.ready, answer)


def _report(fd: int, message: Mapping[str, object]) -> None:
    # The starter may have stopped waiting; then the lifeline is about to end, too.
    with contextlib.suppress(BrokenPipeError):
        os.write(fd, json.dumps(message).encode() + b"\n")
    os.close(fd)


def main(arguments: list[str]) -> int:
    options = NodeOptions.from_json(arguments[0])
    for fd in (options.ready, options.lifeline, options.log):
        os.set_inheritable(fd, False)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        host = socket.create_server(("127.0.0.1", options.port), backlog=1024)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        hint = "another process listens there: choose another port"
        _report(options.ready, {"error": f"bind 127.0.0.1:{options.port}: {reason}", "hint": hint})
        return 1
    host.setblocking(False)
    try:
        enter_namespaces()
    except NamespaceError as error:
        _report(options.ready, {"error": f"{error.step}: {error.error}", "hint": error.remedy})
        return 1
    if options.starter is not None:
        # Only now: new credentials clear it.
        linux.die_with_parent(signal.SIGKILL)
        if os.getppid() != options.starter:
            return 0
    output, written = os.pipe()
    alive, held = os.pipe()
    init = os.fork()
    if init == 0:
        os.close(output)
        os.close(held)
        os.dup2(written, 1)
        os.dup2(written, 2)
        _end_with(lambda: _init(options, host, parent_alive=alive))
    host.close()
    os.close(options.ready)
    os.close(written)
    os.close(alive)
    return _attend(init, options, output)


def _attend(init: int, options: NodeOptions, output: int) -> int:
    """Keeps the log, and ends the node when the starter does."""
    init_fd = os.pidfd_open(init)
    with selectors.DefaultSelector() as selector:
        for fd in (options.lifeline, init_fd, output):
            selector.register(fd, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _events in selector.select()}
            if output in ready and not _keep(output, options.log):
                selector.unregister(output)
            if options.lifeline in ready:
                signal.pidfd_send_signal(init_fd, signal.SIGKILL)
            if {options.lifeline, init_fd} & ready:
                break
    # Waiting for PID 1 is waiting for everything in its namespace.
    _pid, status = os.waitpid(init, 0)
    with contextlib.suppress(BlockingIOError):
        os.set_blocking(output, False)
        while _keep(output, options.log):
            pass
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _keep(output: int, log: int) -> bool:
    """Moves what the node wrote to the log, which drops its older half when full. False: no more comes."""
    data = os.read(output, 65536)
    size = os.lseek(log, 0, os.SEEK_END)
    if size + len(data) > LOG_BYTES:
        recent = os.pread(log, LOG_BYTES // 2, max(0, size - LOG_BYTES // 2))
        os.ftruncate(log, 0)
        os.pwrite(log, recent, 0)
        os.lseek(log, 0, os.SEEK_END)
    os.write(log, data)
    return bool(data)


def _end_with(body: Callable[[], int]) -> NoReturn:
    """The whole life of a forked child: whatever happens, it ends here."""
    code = 70
    try:
        code = body()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:  # noqa: BLE001 - a forked child must not return into its parent's code
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _init(options: NodeOptions, host: socket.socket, *, parent_alive: int) -> int:
    """PID 1 of the node."""
    linux.die_with_parent(signal.SIGKILL)
    # The parent may have ended before that line.
    if _at_end(parent_alive):
        return 0
    try:
        set_up_files()
        no_ipv6 = perform("set the node's network up", NETWORK, set_up_node)
        services, no_ipv6 = perform("load the packet filter", FILTER, lambda: load_services(no_ipv6))
        node = perform("listen in the node's network", NETWORK, listen_in_node)
    except NamespaceError as error:
        _report(options.ready, {"error": f"{error.step}: {error.error}", "hint": error.remedy})
        return 1
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sockets = NodeSockets(host=host, node=node, ready=options.ready, no_ipv6=no_ipv6)
    control_plane = os.fork()
    if control_plane == 0:
        control.close()
        _end_with(lambda: _control_plane(options, sockets, theirs))
    theirs.close()
    host.close()
    node.close()
    os.close(options.ready)
    server = RuntimeServer(control=control, control_plane=control_plane, services=services)
    return server.run(parent_alive)


def _at_end(pipe: int) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        return bool(selector.select(timeout=0))


def _control_plane(options: NodeOptions, sockets: NodeSockets, runtime: socket.socket) -> int:
    module, _, function = options.entry.partition(":")
    try:
        entry = getattr(importlib.import_module(module), function)
        return entry(sockets, runtime, options.options) or 0
    except Exception as error:  # noqa: BLE001 - whatever stops the control plane is told to who waits for it
        traceback.print_exc()
        _report(
            sockets.ready,
            {
                "error": f"the control plane failed: {type(error).__name__}: {error}",
                "hint": "the log says where",
            },
        )
        return 1


if __name__ == "__main__":
    # Under its own name, so that the control plane's import of this module finds it, not a second copy.
    from conformance.cluster.embedded.node import node

    sys.exit(node.main(sys.argv[1:]))
