"""PID 1 of the node: makes sandboxes, starts and reaps processes. Synchronous, one thread, no event loop.

Everything that takes time (a pod's network, a container's mounts) happens in a forked child, which reports
over a socket of its own; this process only forks, waits in `select`, and answers. `runtime` is the other end.
"""

import contextlib
import errno
import gc
import json
import os
import selectors
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from conformance.cluster.embedded.node import linux
from conformance.cluster.embedded.node.container import (
    SANDBOX_NAMESPACES,
    Command,
    run_container,
    run_exec,
)
from conformance.cluster.embedded.node.runtime_state import (
    Process,
    Sandbox,
    close_all,
    free_network,
    kill,
    make_network,
    make_streams,
    send_signal,
)
from conformance.cluster.embedded.node.services import ServiceTable
from conformance.cluster.embedded.node.spec import ContainerSpec, ServiceRule

_REQUEST = 64 * 1024


class _Refused(Exception):
    """Answered to the caller; with an exit code it is a StartError there."""

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.answer: dict[str, Any] = {"error": message}
        if exit_code is not None:
            self.answer["exit_code"] = exit_code


class RuntimeServer:
    """`control` is the socket to the control plane, whose process `control_plane` is a child of this one."""

    def __init__(self, *, control: socket.socket, control_plane: int, services: ServiceTable) -> None:
        self._control = control
        self._control_plane = control_plane
        self._services = services
        self._selector = selectors.DefaultSelector()
        self._sandboxes: dict[str, Sandbox] = {}
        self._containers: dict[str, Process] = {}
        self._processes: dict[int, Process] = {}
        self._on_exit: dict[int, Callable[[int], None]] = {}
        self._next = 1
        self._result: int | None = None
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._operations: dict[str, Callable[..., None]] = {
            "create_sandbox": self._create_sandbox,
            "remove_sandbox": self._remove_sandbox,
            "start": self._start,
            "exec": self._exec,
            "signal": self._signal,
            "program_services": self._program_services,
        }

    def run(self, lifeline: int) -> int:
        """Serves until the control plane ends (its exit code) or the lifeline does (0)."""
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self._selector.register(woken, selectors.EVENT_READ, lambda: self._reap(woken))
        self._selector.register(self._control, selectors.EVENT_READ, self._receive)
        self._selector.register(lifeline, selectors.EVENT_READ, lambda: self._finish(0))
        # What exists now is shared with every child: never touched again, never copied.
        gc.collect()
        gc.freeze()
        self._reap(None)
        while self._result is None:
            for key, _events in self._selector.select():
                key.data()
        return self._result

    def _finish(self, result: int) -> None:
        if self._result is None:
            self._result = result

    # Requests and answers ---------------------------------------------------------------------------------

    def _receive(self) -> None:
        try:
            data, fds, _flags, _peer = socket.recv_fds(self._control, _REQUEST, 1)
        except ConnectionResetError:
            data, fds = b"", []
        if not data:
            # Closed: the control plane is ending; its exit code comes with its exit.
            self._selector.unregister(self._control)
            return
        for fd in fds:
            with os.fdopen(fd, "rb") as large:
                large.seek(0)
                data = large.read()
        request = json.loads(data)
        call, operation = request.pop("call"), request.pop("operation")
        try:
            self._operations[operation](call, **request)
        except _Refused as refusal:
            self._answer(call, refusal.answer)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            self._answer(call, {"error": f"{operation}: {error.strerror}{where}"})

    def _answer(self, call: int, answer: Mapping[str, object], fds: Sequence[int] = ()) -> None:
        self._send({"call": call, **answer}, fds)

    def _send(self, message: Mapping[str, object], fds: Sequence[int] = ()) -> None:
        # Nobody is left to tell where the control plane has gone.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self._control, [json.dumps(message).encode()], fds)

    # Children ---------------------------------------------------------------------------------------------

    def _reap(self, woken: socket.socket | None) -> None:
        if woken is not None:
            with contextlib.suppress(BlockingIOError):
                woken.recv(4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            code = 128 - code if code < 0 else code
            if pid == self._control_plane:
                self._finish(code)
            elif (on_exit := self._on_exit.pop(pid, None)) is not None:
                on_exit(code)

    def _watch(
        self, report: socket.socket, on_report: Callable[[dict[str, Any] | None, list[int]], bool]
    ) -> None:
        """Calls `on_report` with each message (None at the end) until it answers that it has heard enough."""

        def readable() -> None:
            data, fds, _flags, _peer = socket.recv_fds(report, _REQUEST, 1)
            if on_report(json.loads(data) if data else None, fds) or not data:
                self._selector.unregister(report)
                report.close()

        self._selector.register(report, selectors.EVENT_READ, readable)

    # Sandboxes --------------------------------------------------------------------------------------------

    def _create_sandbox(self, call: int, *, uid: str, hostname: str, ip: str, ip6: str) -> None:
        if uid in self._sandboxes:
            raise _Refused(f"sandbox {uid} exists")
        sandbox = self._sandboxes[uid] = Sandbox(ip=ip)
        report, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            report.close()
            make_network(theirs, ip=ip, ip6=ip6, hostname=hostname)
        theirs.close()

        def on_report(message: dict[str, Any] | None, _fds: list[int]) -> bool:
            if message is None:
                message = {"error": f"the network of {hostname} ({ip}) was not made"}
            if "error" in message:
                del self._sandboxes[uid]
                self._answer(call, message)
            else:
                # The child, and so its namespaces' files, lives until the report is closed.
                sandbox.namespaces = tuple(
                    os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
                    for kind in SANDBOX_NAMESPACES
                )
                self._answer(call, {})
            sandbox.busy = False
            self._advance_removal(uid, sandbox)
            return True

        self._watch(report, on_report)

    def _remove_sandbox(self, call: int, *, uid: str) -> None:
        sandbox = self._sandboxes.get(uid)
        if sandbox is None:
            self._answer(call, {})
            return
        sandbox.removals.append(call)
        for process in sandbox.processes:
            kill(process)
        self._advance_removal(uid, sandbox)

    def _advance_removal(self, uid: str, sandbox: Sandbox) -> None:
        """Frees the network once nothing runs in it; in a child, for the kernel takes its time."""
        if not sandbox.removals or sandbox.busy or sandbox.processes:
            return
        if uid not in self._sandboxes:
            self._removed(sandbox)
            return
        sandbox.busy = True
        pid = os.fork()
        if pid == 0:
            free_network(sandbox.ip)

        def on_exit(_code: int) -> None:
            del self._sandboxes[uid]
            self._removed(sandbox)

        self._on_exit[pid] = on_exit

    def _removed(self, sandbox: Sandbox) -> None:
        for fd in sandbox.namespaces:
            os.close(fd)
        for call in sandbox.removals:
            self._answer(call, {})

    # Processes --------------------------------------------------------------------------------------------

    def _start(self, call: int, *, spec: dict[str, Any], stdin: bool) -> None:
        container = ContainerSpec.from_json(spec)
        sandbox = self._sandboxes.get(container.sandbox)
        if sandbox is None or not sandbox.namespaces or sandbox.removals:
            raise _Refused(f"there is no sandbox {container.sandbox}")
        if container.id in self._containers:
            raise _Refused(f"container {container.id} exists")
        ours, theirs = make_streams(stdin=stdin, tty=container.tty)

        def child(report: socket.socket) -> None:
            run_container(container, namespaces=sandbox.namespaces, stdio=theirs, report=report)

        try:
            process = self._spawn(
                call,
                sandbox,
                container,
                ours,
                enter=lambda: linux.unshare(linux.CLONE_NEWPID),
                child=child,
            )
        finally:
            close_all(theirs)
        self._containers[container.id] = process

    def _exec(
        self,
        call: int,
        *,
        container: str,
        argv: list[str],
        env: dict[str, str],
        cwd: str,
        stdin: bool,
        tty: bool,
    ) -> None:
        main = self._containers.get(container)
        if main is None or not main.answered:
            raise _Refused("container is not running", 128)
        ours, theirs = make_streams(stdin=stdin, tty=tty)
        command = Command(argv=argv, env=env, cwd=cwd, tty=tty)

        def child(report: socket.socket) -> None:
            run_exec(command, main.spec, container=main.pidfd, stdio=theirs, report=report)

        try:
            self._spawn(
                call,
                main.sandbox,
                main.spec,
                ours,
                enter=lambda: linux.setns(main.pidfd, linux.CLONE_NEWPID),
                child=child,
            )
        except OSError as error:
            close_all(ours)
            if error.errno in (errno.ESRCH, errno.ENOMEM, errno.EINVAL):
                raise _Refused("container is not running", 128) from error
            raise
        finally:
            close_all(theirs)

    def _spawn(
        self,
        call: int,
        sandbox: Sandbox,
        spec: ContainerSpec,
        ours: list[int],
        *,
        enter: Callable[[], None],
        child: Callable[[socket.socket], None],
    ) -> Process:
        """Forks into the PID namespace that `enter` chooses; only children are ever in one."""
        report, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            enter()
            pid = os.fork()
            if pid == 0:
                try:
                    report.close()
                    child(theirs)
                finally:
                    os._exit(128)
        except OSError:
            report.close()
            raise
        finally:
            theirs.close()
            linux.setns(self._own_pids, linux.CLONE_NEWPID)
        process = Process(
            number=self._next,
            call=call,
            pid=pid,
            pidfd=os.pidfd_open(pid),
            sandbox=sandbox,
            spec=spec,
            ours=ours,
        )
        self._next += 1
        self._processes[process.number] = process
        sandbox.processes.add(process)
        self._on_exit[pid] = lambda code: self._exited(process, code)
        self._watch(report, lambda message, fds: self._reported(process, message, fds))
        return process

    def _reported(self, process: Process, message: dict[str, Any] | None, fds: list[int]) -> bool:
        if message is not None and "terminal" in message:
            process.ours = fds
            return False
        process.answered = True
        if message is not None:
            process.failed = True
            self._forget_container(process)
            self._answer(process.call, message)
        else:
            self._answer(process.call, {"process": process.number, "pid": process.pid}, process.ours)
        close_all(process.ours)
        if process.exit_code is not None:
            self._announce_exit(process, process.exit_code)
        return True

    def _exited(self, process: Process, code: int) -> None:
        del self._processes[process.number]
        os.close(process.pidfd)
        process.sandbox.processes.discard(process)
        self._forget_container(process)
        process.exit_code = code
        if process.answered:
            self._announce_exit(process, code)
        self._advance_removal(process.spec.sandbox, process.sandbox)

    def _forget_container(self, process: Process) -> None:
        if self._containers.get(process.spec.id) is process:
            del self._containers[process.spec.id]

    def _announce_exit(self, process: Process, code: int) -> None:
        """After the answer to its start, never before; one that never started has no exit."""
        if not process.failed:
            self._send({"exited": process.number, "code": code})

    def _signal(self, call: int, *, process: int, signal: int) -> None:  # the module is not needed here
        running = self._processes.get(process)
        if running is not None:
            send_signal(running, signal)
        self._answer(call, {})

    def _program_services(self, call: int, *, rules: list[tuple[str, int, list[tuple[str, int]]]]) -> None:
        self._services.replace(
            [
                ServiceRule(cluster_ip=ip, port=port, backends=tuple((pod, at) for pod, at in backends))
                for ip, port, backends in rules
            ]
        )
        self._answer(call, {})
