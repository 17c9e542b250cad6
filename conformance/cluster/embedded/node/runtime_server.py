"""PID 1 of the node: makes sandboxes, starts and reaps processes. Synchronous, one thread, no event loop.

Everything that takes time (a pod's network, a container's mounts) happens in a forked child, which reports
over a socket of its own; this process only forks, waits (`runtime_loop`), and answers. `runtime` is the other
end.
"""

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from conformance.cluster.embedded.node import linux
from conformance.cluster.embedded.node.container import Command, run_container, run_exec
from conformance.cluster.embedded.node.runtime_loop import Loop, Refused
from conformance.cluster.embedded.node.runtime_sandboxes import Sandboxes
from conformance.cluster.embedded.node.runtime_state import (
    Process,
    Sandbox,
    close_all,
    make_streams,
    send_signal,
)
from conformance.cluster.embedded.node.services import ServiceTable
from conformance.cluster.embedded.node.spec import ContainerSpec, ServiceRule


class RuntimeServer:
    """`control` is the socket to the control plane, whose process `control_plane` is a child of this one."""

    def __init__(self, *, control: socket.socket, control_plane: int, services: ServiceTable) -> None:
        self._loop = Loop(control=control, control_plane=control_plane)
        self._sandboxes = Sandboxes(self._loop)
        self._services = services
        self._containers: dict[str, Process] = {}
        self._processes: dict[int, Process] = {}
        self._next = 1
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def run(self, lifeline: int) -> int:
        """Serves until the control plane ends (its exit code) or the lifeline does (0)."""
        operations: dict[str, Callable[..., None]] = {
            "create_sandbox": self._sandboxes.create,
            "remove_sandbox": self._sandboxes.remove,
            "start": self._start,
            "exec": self._exec,
            "signal": self._signal,
            "program_services": self._program_services,
        }
        return self._loop.run(lifeline, operations)

    def _start(self, call: int, *, spec: dict[str, Any], stdin: bool) -> None:
        container = ContainerSpec.from_json(spec)
        sandbox = self._sandboxes.running(container.sandbox)
        if container.id in self._containers:
            raise Refused(f"container {container.id} exists")
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
            raise Refused("container is not running", 128)
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
                raise Refused("container is not running", 128) from error
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
        self._loop.on_exit(pid, lambda code: self._exited(process, code))
        self._loop.watch(report, lambda message, fds: self._reported(process, message, fds))
        return process

    def _reported(self, process: Process, message: dict[str, Any] | None, fds: list[int]) -> bool:
        if message is not None and "terminal" in message:
            process.ours = fds
            return False
        process.answered = True
        if message is not None:
            process.failed = True
            self._forget_container(process)
            self._loop.answer(process.call, message)
        else:
            self._loop.answer(process.call, {"process": process.number, "pid": process.pid}, process.ours)
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
        self._sandboxes.advance_removal(process.spec.sandbox, process.sandbox)

    def _forget_container(self, process: Process) -> None:
        if self._containers.get(process.spec.id) is process:
            del self._containers[process.spec.id]

    def _announce_exit(self, process: Process, code: int) -> None:
        """After the answer to its start, never before; one that never started has no exit."""
        if not process.failed:
            self._loop.send({"exited": process.number, "code": code})

    def _signal(self, call: int, *, process: int, signal: int) -> None:  # the module is not needed here
        running = self._processes.get(process)
        if running is not None:
            send_signal(running, signal)
        self._loop.answer(call, {})

    def _program_services(self, call: int, *, rules: list[tuple[str, int, list[tuple[str, int]]]]) -> None:
        self._services.replace(
            [
                ServiceRule(cluster_ip=ip, port=port, backends=tuple((pod, at) for pod, at in backends))
                for ip, port, backends in rules
            ]
        )
        self._loop.answer(call, {})
