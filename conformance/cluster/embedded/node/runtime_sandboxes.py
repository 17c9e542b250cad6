"""The pods' sandboxes in PID 1: their networks made, and freed once nothing runs in them any more."""

import os
import socket
from typing import Any

from conformance.cluster.embedded.node.container import SANDBOX_NAMESPACES
from conformance.cluster.embedded.node.runtime_loop import Loop, Refused
from conformance.cluster.embedded.node.runtime_state import Sandbox, free_network, kill, make_network


class Sandboxes:
    """By the pod's uid. What takes the kernel its time happens in forked children."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._sandboxes: dict[str, Sandbox] = {}

    def running(self, uid: str) -> Sandbox:
        """One that containers can be started in. Raises Refused."""
        sandbox = self._sandboxes.get(uid)
        if sandbox is None or not sandbox.namespaces or sandbox.removals:
            raise Refused(f"there is no sandbox {uid}")
        return sandbox

    def create(self, call: int, *, uid: str, hostname: str, ip: str, ip6: str) -> None:
        """Answers when the network is there, or could not be made."""
        if uid in self._sandboxes:
            raise Refused(f"sandbox {uid} exists")
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
                self._loop.answer(call, message)
            else:
                # The child, and so its namespaces' files, lives until the report is closed.
                sandbox.namespaces = tuple(
                    os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
                    for kind in SANDBOX_NAMESPACES
                )
                self._loop.answer(call, {})
            sandbox.busy = False
            self.advance_removal(uid, sandbox)
            return True

        self._loop.watch(report, on_report)

    def remove(self, call: int, *, uid: str) -> None:
        """Kills what runs in it; answers when the network is gone, at once where there is no such sandbox."""
        sandbox = self._sandboxes.get(uid)
        if sandbox is None:
            self._loop.answer(call, {})
            return
        sandbox.removals.append(call)
        for process in sandbox.processes:
            kill(process)
        self.advance_removal(uid, sandbox)

    def advance_removal(self, uid: str, sandbox: Sandbox) -> None:
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

        self._loop.on_exit(pid, on_exit)

    def _removed(self, sandbox: Sandbox) -> None:
        for fd in sandbox.namespaces:
            os.close(fd)
        for call in sandbox.removals:
            self._loop.answer(call, {})
