"""One process of a container, from fork to execve: runs in the child that PID 1 forked for it."""

import contextlib
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import stat
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from conformance.cluster.embedded.node import linux
from conformance.cluster.embedded.node.namespaces import single_user
from conformance.cluster.embedded.node.rootfs import set_up_root
from conformance.cluster.embedded.node.spec import ContainerSpec

SANDBOX_NAMESPACES = ("net", "uts", "ipc")

_NOT_FOUND, _NOT_EXECUTABLE, _OTHER = 127, 126, 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    tty: bool


class StartFailure(Exception):
    def __init__(self, message: str, exit_code: int = _OTHER) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


def run_container(
    spec: ContainerSpec, *, namespaces: Sequence[int], stdio: Sequence[int], report: socket.socket
) -> NoReturn:
    """As PID 1 of a new PID namespace; `namespaces` are the sandbox's, `stdio` three descriptors."""

    def enter() -> None:
        for namespace in namespaces:
            linux.setns(namespace)
        linux.unshare(linux.CLONE_NEWNS)
        set_up_root(spec.mounts)

    command = Command(argv=spec.argv, env=spec.env, cwd=spec.cwd, tty=spec.tty)
    _run(command, spec, enter, stdio, report)


def run_exec(
    command: Command, spec: ContainerSpec, *, container: int, stdio: Sequence[int], report: socket.socket
) -> NoReturn:
    """In the PID namespace of a running container, whose main process the pidfd `container` names."""
    shared = linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC
    _run(command, spec, lambda: linux.setns(container, shared), stdio, report)


def _run(
    command: Command,
    spec: ContainerSpec,
    enter: Callable[[], None],
    stdio: Sequence[int],
    report: socket.socket,
) -> NoReturn:
    """Reports nothing where execve succeeds: the report then closes by itself."""
    try:
        reset_signals()
        os.setsid()
        uid = None if single_user() else spec.uid
        _step("set up the container", enter)
        if command.tty:
            stdio = _open_terminal(report, uid)
        for number, fd in enumerate(stdio):
            os.dup2(fd, number, inheritable=True)
        if uid is not None:
            _step("give the streams to the user", lambda: _give_streams(uid))
        _raise_limits()
        os.umask(0o022)
        _step("drop privileges", lambda: linux.become(uid=uid, capabilities=spec.capabilities))
        _execute(command)
    except StartFailure as failure:
        report.send(json.dumps({"error": failure.message, "exit_code": failure.exit_code}).encode())
    except Exception as error:  # noqa: BLE001 - the child of PID 1 must end here and say why, whatever it was
        report.send(json.dumps({"error": f"{type(error).__name__}: {error}", "exit_code": _OTHER}).encode())
    finally:
        os._exit(_OTHER)


def reset_signals() -> None:
    """Gives a forked child of PID 1 the signals of a fresh process."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _step(name: str, action: Callable[[], None]) -> None:
    try:
        action()
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise StartFailure(f"{name}: {error.strerror}{where}") from error
    except ValueError as error:
        raise StartFailure(f"{name}: {error}") from error


def _open_terminal(report: socket.socket, uid: int | None) -> Sequence[int]:
    """A terminal of the container's own /dev/pts; its other side goes to PID 1."""
    master, slave = os.openpty()
    if uid is not None:
        os.fchown(slave, uid, -1)
    socket.send_fds(report, [b'{"terminal": true}'], [master])
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    return (slave, slave, slave)


def _give_streams(uid: int) -> None:
    """As runc does: the user opens its own /dev/stdout anew. /dev/null, which everybody shares, stays."""
    for fd in range(3):
        if not stat.S_ISCHR(os.fstat(fd).st_mode):
            os.fchown(fd, uid, -1)


def _raise_limits() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _execute(command: Command) -> NoReturn:
    try:
        os.chdir(command.cwd or "/")
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise StartFailure(f'chdir to cwd ("{command.cwd}") failed: {reason}') from error
    program = _find_program(command.argv[0], command.env.get("PATH", ""))
    try:
        os.execve(program, list(command.argv), dict(command.env))  # noqa: S606 - as the pod spec says
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        code = {errno.ENOENT: _NOT_FOUND, errno.EACCES: _NOT_EXECUTABLE, errno.ENOEXEC: _NOT_EXECUTABLE}
        raise StartFailure(f"exec {program}: {reason}", code.get(error.errno or 0, _OTHER)) from error


def _find_program(name: str, path: str) -> str:
    """As runc looks it up, with its messages."""
    if "/" in name:
        return _check_program(name)
    for directory in path.split(":"):
        with contextlib.suppress(StartFailure):
            return _check_program(f"{directory or '.'}/{name}")
    raise StartFailure(f'exec: "{name}": executable file not found in $PATH', _NOT_FOUND)


def _check_program(path: str) -> str:
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):  # noqa: PTH116 - Path would drop a leading "./"
            raise StartFailure(f'exec: "{path}": is a directory', _NOT_EXECUTABLE)
    except PermissionError as error:
        raise StartFailure(f'exec: "{path}": permission denied', _NOT_EXECUTABLE) from error
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise StartFailure(f'exec: "{path}": stat {path}: {reason}', _NOT_FOUND) from error
    if not os.access(path, os.X_OK):
        raise StartFailure(f'exec: "{path}": permission denied', _NOT_EXECUTABLE)
    return path
