"""What PID 1 waits for, in one `select`: requests of the control plane, forked children's reports and ends.

Answers go back over the socket that the requests come by.
"""

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_REQUEST = 64 * 1024


class Refused(Exception):
    """Answered to the caller; with an exit code it is a StartError there."""

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.answer: dict[str, Any] = {"error": message}
        if exit_code is not None:
            self.answer["exit_code"] = exit_code


class Loop:
    """`control` is the socket to the control plane, whose process `control_plane` is a child of this one."""

    def __init__(self, *, control: socket.socket, control_plane: int) -> None:
        self._control = control
        self._control_plane = control_plane
        self._operations: Mapping[str, Callable[..., None]] = {}
        self._selector = selectors.DefaultSelector()
        self._on_exit: dict[int, Callable[[int], None]] = {}
        self._result: int | None = None

    def run(self, lifeline: int, operations: Mapping[str, Callable[..., None]]) -> int:
        """Serves until the control plane ends (its exit code) or the lifeline does (0). An operation, found
        by its name, is given the request's number and arguments; it answers, now or later, or raises Refused
        or OSError."""
        self._operations = operations
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
        except Refused as refusal:
            self.answer(call, refusal.answer)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            self.answer(call, {"error": f"{operation}: {error.strerror}{where}"})

    def answer(self, call: int, answer: Mapping[str, object], fds: Sequence[int] = ()) -> None:
        """To the request of that number; the files go along."""
        self.send({"call": call, **answer}, fds)

    def send(self, message: Mapping[str, object], fds: Sequence[int] = ()) -> None:
        """To the control plane, unasked."""
        # Nobody is left to tell where the control plane has gone.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self._control, [json.dumps(message).encode()], fds)

    def on_exit(self, pid: int, call: Callable[[int], None]) -> None:
        """Calls back once, with the child's exit code; 128 and the signal for one that was killed."""
        self._on_exit[pid] = call

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

    def watch(
        self, report: socket.socket, on_report: Callable[[dict[str, Any] | None, list[int]], bool]
    ) -> None:
        """Calls `on_report` with each message (None at the end) until it answers that it has heard enough."""

        def readable() -> None:
            data, fds, _flags, _peer = socket.recv_fds(report, _REQUEST, 1)
            if on_report(json.loads(data) if data else None, fds) or not data:
                self._selector.unregister(report)
                report.close()

        self._selector.register(report, selectors.EVENT_READ, readable)
