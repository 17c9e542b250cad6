"""The container runtime as the kubelet sees it: a typed asyncio client of PID 1 of the node.

Requests, answers and exit notices are JSON messages on a Unix SOCK_SEQPACKET pair; the descriptors of a
process's standard streams travel beside them. `runtime_server` is the other end.
"""

import asyncio
import errno
import fcntl
import itertools
import json
import os
import signal
import socket
import struct
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.cluster.embedded.node.spec import STATE, ContainerSpec, Mount, SandboxSpec, ServiceRule

__all__ = [
    "STATE",
    "ContainerSpec",
    "Mount",
    "Process",
    "Runtime",
    "RuntimeFailure",
    "SandboxSpec",
    "ServiceRule",
    "StartError",
]

# A message above this travels as a memfd: a datagram must fit the socket's buffer.
_INLINE = 32 * 1024
_ANSWER = 64 * 1024


class RuntimeFailure(Exception):
    """The runtime could not do what was asked, for a reason that is not the container's own."""


class StartError(Exception):
    """A process could not be started. The message is the one runc gives.

    `exit_code`: 127 not found, 126 not executable, 128 anything else.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    message: dict[str, Any]
    fds: list[int]
    exited: asyncio.Future[int] | None
    """Of the process that the answer brings, if it brings one."""


class _Output(asyncio.StreamReaderProtocol):
    """Reads a pipe or a terminal; a terminal whose last user has gone says EIO, which is its end."""

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, OSError) and exc.errno == errno.EIO:
            exc = None
        super().connection_lost(exc)


async def _reader(fd: int) -> asyncio.StreamReader:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: _Output(reader), os.fdopen(fd, "rb", buffering=0))
    return reader


async def _writer(fd: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(fd, "wb", buffering=0)
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


def _ended() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_eof()
    return reader


class Process:
    """A running container or exec process.

    With a terminal everything it writes arrives on `stdout`. `pid` is that of the node's PID namespace.
    """

    def __init__(
        self,
        *,
        runtime: "Runtime",
        number: int,
        pid: int,
        exited: asyncio.Future[int],
        stdin: asyncio.StreamWriter | None,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader,
        terminal: int | None,
    ) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self._runtime = runtime
        self._number = number
        self._exited = exited
        self._terminal = terminal
        exited.add_done_callback(self._release)

    async def wait(self) -> int:
        """The exit code; 128 + n where signal n ended it. May be awaited any number of times."""
        return await asyncio.shield(self._exited)

    async def signal(self, number: int) -> None:
        """Signals the process (for a container, its PID 1). One that is gone is no error."""
        await self._runtime.request("signal", process=self._number, signal=number)

    async def resize(self, *, columns: int, rows: int) -> None:
        """Sets the terminal's size; without a terminal there is none to set."""
        if self._terminal is not None:
            size = struct.pack("HHHH", rows, columns, 0, 0)
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    def _release(self, _exited: asyncio.Future[int]) -> None:
        if self.stdin is not None:
            self.stdin.close()
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None


class Runtime:
    """Must be made inside the running event loop that uses it. Takes over the socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._calls = itertools.count(1)
        self._answers: dict[int, asyncio.Future[_Answer]] = {}
        self._exits: dict[int, asyncio.Future[int]] = {}
        self._sending = asyncio.Lock()
        self._discarding: set[asyncio.Task[_Answer]] = set()
        self._loop.add_reader(sock, self._receive)

    def close(self) -> None:
        """Lets go of the socket; the runtime ends with it, and everything it runs."""
        self._fail(RuntimeFailure("the connection to the container runtime was closed"))

    async def create_sandbox(self, spec: SandboxSpec) -> None:
        await self.request("create_sandbox", uid=spec.uid, hostname=spec.hostname, ip=spec.ip, ip6=spec.ip6)

    async def remove_sandbox(self, uid: str) -> None:
        """Kills what is left in it and frees its network. A sandbox that is not there is no error."""
        await self.request("remove_sandbox", uid=uid)

    async def start(self, spec: ContainerSpec, *, stdin: bool = False) -> Process:
        """Returns once the command has been executed. Raises StartError where it cannot be."""
        answer = await self.request("start", spec=spec.to_json(), stdin=stdin)
        return await self._process(answer, stdin=stdin, tty=spec.tty)

    async def exec(
        self,
        container_id: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        stdin: bool,
        tty: bool,
    ) -> Process:
        """Runs a command in a running container, with its user and capabilities. Raises StartError."""
        answer = await self.request(
            "exec", container=container_id, argv=list(argv), env=dict(env), cwd=cwd, stdin=stdin, tty=tty
        )
        return await self._process(answer, stdin=stdin, tty=tty)

    async def program_services(self, rules: Sequence[ServiceRule]) -> None:
        """Replaces every Service at once; established connections stay."""
        await self.request(
            "program_services", rules=[[rule.cluster_ip, rule.port, list(rule.backends)] for rule in rules]
        )

    async def request(self, operation: str, **arguments: object) -> _Answer:
        """One call to PID 1. Raises what it answers with: StartError or RuntimeFailure."""
        call = next(self._calls)
        answer: asyncio.Future[_Answer] = self._loop.create_future()
        self._answers[call] = answer
        try:
            await self._send(json.dumps({"call": call, "operation": operation, **arguments}).encode())
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                self._discard(answer.result())
            raise
        finally:
            self._answers.pop(call, None)

    async def _send(self, message: bytes) -> None:
        body = message
        fds: list[int] = []
        if len(message) > _INLINE:
            fds = [os.memfd_create("request")]
            with os.fdopen(os.dup(fds[0]), "wb") as large:
                large.write(message)
            body = b"{}"
        try:
            async with self._sending:
                while True:
                    try:
                        socket.send_fds(self._socket, [body], fds)
                        return
                    except BlockingIOError:
                        await self._writable()
                    except OSError as error:
                        raise RuntimeFailure(f"the container runtime is gone: {error.strerror}") from error
        finally:
            for fd in fds:
                os.close(fd)

    async def _writable(self) -> None:
        ready = asyncio.Event()
        self._loop.add_writer(self._socket, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_writer(self._socket)

    def _receive(self) -> None:
        while True:
            try:
                data, fds, _flags, _peer = socket.recv_fds(self._socket, _ANSWER, 3)
            except BlockingIOError:
                return
            except OSError as error:
                self._fail(RuntimeFailure(f"the container runtime is gone: {error.strerror}"))
                return
            if not data:
                self._fail(RuntimeFailure("the container runtime is gone"))
                return
            self._dispatch(json.loads(data), fds)

    def _dispatch(self, message: dict[str, Any], fds: list[int]) -> None:
        if "exited" in message:
            ended = self._exits.pop(message["exited"], None)
            if ended is not None and not ended.done():
                ended.set_result(message["code"])
            return
        exited: asyncio.Future[int] | None = None
        if "process" in message:
            # Registered here, in order, so that an exit notice that follows at once finds it.
            exited = self._exits[message["process"]] = self._loop.create_future()
        answer = self._answers.get(message["call"])
        if answer is None or answer.done():
            self._discard(_Answer(message=message, fds=fds, exited=exited))
        elif "error" in message:
            code, text = message.get("exit_code"), message["error"]
            answer.set_exception(RuntimeFailure(text) if code is None else StartError(text, code))
        else:
            answer.set_result(_Answer(message=message, fds=fds, exited=exited))

    def _discard(self, answer: _Answer) -> None:
        """The caller was cancelled while its process started: nobody reads it, so it ends."""
        for fd in answer.fds:
            os.close(fd)
        if answer.exited is not None:
            kill = self.request("signal", process=answer.message["process"], signal=signal.SIGKILL)
            self._discarding.add(task := self._loop.create_task(kill))
            task.add_done_callback(self._discarded)

    def _discarded(self, task: "asyncio.Task[_Answer]") -> None:
        self._discarding.discard(task)
        if not task.cancelled():
            task.exception()

    def _fail(self, failure: RuntimeFailure) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(failure)
        for exited in self._exits.values():
            if not exited.done():
                exited.set_result(128 + 9)
        self._exits.clear()

    async def _process(self, answer: _Answer, *, stdin: bool, tty: bool) -> Process:
        if answer.exited is None:
            raise RuntimeFailure("the container runtime started a process and did not name it")
        fds = answer.fds
        writer: asyncio.StreamWriter | None = None
        terminal: int | None = None
        if tty:
            (terminal,) = fds
            stdout, stderr = await _reader(os.dup(terminal)), _ended()
            writer = await _writer(os.dup(terminal)) if stdin else None
        else:
            stdout, stderr = await _reader(fds[0]), await _reader(fds[1])
            writer = await _writer(fds[2]) if stdin else None
        return Process(
            runtime=self,
            number=answer.message["process"],
            pid=answer.message["pid"],
            exited=answer.exited,
            stdin=writer,
            stdout=stdout,
            stderr=stderr,
            terminal=terminal,
        )
