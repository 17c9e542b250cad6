"""Entering the namespaces of a node, and what its processes then see of the host's files.

The same steps serve the node and `preflight`: a machine is judged by doing, not by guessing.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from conformance.cluster.embedded.node import linux
from conformance.cluster.embedded.node.images import COMMANDS, install_commands, needed_paths
from conformance.cluster.embedded.node.spec import STATE

NODE_NAMESPACES = (
    linux.CLONE_NEWUSER
    | linux.CLONE_NEWNET
    | linux.CLONE_NEWNS
    | linux.CLONE_NEWUTS
    | linux.CLONE_NEWIPC
    | linux.CLONE_NEWPID
)

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}

_USER_NAMESPACES = (
    "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces"
    " above 0, on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0), or run as root; in a container"
    " start it with --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
)
_PROC = (
    "something is mounted over part of /proc, as in a container: start it with"
    " --security-opt systempaths=unconfined (Docker, Podman: --security-opt unmask=ALL) or --privileged"
)
MOUNTS = (
    "the machine forbids mounts in a user namespace: in a container start it with"
    " --security-opt seccomp=unconfined --security-opt apparmor=unconfined; the kernel must be 5.12 or newer"
)
NETWORK = (
    "the kernel must have veth, and /proc/sys/net must be writable in a network namespace of one's own: in a"
    " container start it with --security-opt systempaths=unconfined"
)
FILTER = "the kernel must have nf_tables with nat, numgen and reject"

T = TypeVar("T")


class NamespaceError(Exception):
    """A step that this machine refuses: which one, what the kernel said, what to do."""

    def __init__(self, step: str, error: str, remedy: str) -> None:
        super().__init__(f"{step}: {error}; {remedy}")
        self.step = step
        self.error = error
        self.remedy = remedy


def perform(step: str, remedy: str, action: Callable[[], T]) -> T:
    """Runs one step; an OSError becomes a NamespaceError that names it."""
    try:
        return action()
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise NamespaceError(step, f"{error.strerror}{where}", remedy) from error


def enter_namespaces() -> None:
    """Takes this (single-threaded) process into a node's namespaces; its first child is PID 1 there.

    Raises NamespaceError.
    """
    perform("enter user, network, mount, UTS, IPC and PID namespaces", _USER_NAMESPACES, _unshare_and_map)
    # The user's own processes read the kubeconfig through /proc/<pid>/root.
    linux.make_readable_to_owner()


def _unshare_and_map() -> None:
    """Root maps every user it has, by a child that stays behind; anyone else maps himself, as root."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and _mapped_by_child():
        os.setgroups([])
        return
    if uid != 0:
        linux.unshare(NODE_NAMESPACES)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _mapped_by_child() -> bool:
    """Enters the namespaces; a child outside writes the whole map. False: it may not."""
    maps = {name: _identity(Path("/proc/self", name).read_text()) for name in ("uid_map", "gid_map")}
    parent = os.getpid()
    go_read, go_write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(go_write)
            if os.read(go_read, 1):
                for name, text in maps.items():
                    Path("/proc", str(parent), name).write_text(text)
                status = 0
        except OSError:
            status = 1
        finally:
            os._exit(status)
    os.close(go_read)
    try:
        linux.unshare(NODE_NAMESPACES)
        os.write(go_write, b"x")
    finally:
        os.close(go_write)
        _pid, result = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(result) == 0


def _identity(text: str) -> str:
    """Each range of a map, mapped to itself."""
    ranges = [line.split() for line in text.splitlines()]
    return "\n".join(f"{inside} {inside} {count}" for inside, _outside, count in ranges)


def single_user() -> bool:
    """Whether this user namespace knows one user only, so that no process can become another."""
    ranges = Path("/proc/self/uid_map").read_text().split()
    return len(ranges) == 3 and ranges[2] == "1"


def set_up_files() -> None:
    """As PID 1: what the node and every container sees. Raises NamespaceError.

    The host's files, read-only; a fresh /proc; a /dev of six devices; private /tmp and /run; the state.
    """
    for step, remedy, action in file_steps():
        perform(step, remedy, action)


def file_steps() -> tuple[tuple[str, str, Callable[[], None]], ...]:
    """(step, remedy, action) in order."""
    return (
        ("make mounts private", MOUNTS, _make_private),
        ("make the host's files read-only", MOUNTS, _make_read_only),
        ("mount a fresh /proc", _PROC, mount_proc),
        ("mount a tmpfs over /tmp and /run", MOUNTS, mount_scratch),
        ("mount a private /dev", MOUNTS, _mount_devices),
        ("make the node's state", MOUNTS, _make_state),
    )


def _make_private() -> None:
    linux.mount("", "/", flags=linux.MS_REC | linux.MS_PRIVATE)


def _make_state() -> None:
    Path(STATE).mkdir(mode=0o755)
    Path(COMMANDS).mkdir()
    install_commands(COMMANDS)


def mount_proc() -> None:
    linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)


def mount_sys() -> None:
    """The devices of the network namespace that the caller is in."""
    quiet = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    linux.mount("sysfs", "/sys", "sysfs", quiet | linux.MS_RDONLY)


def _make_read_only() -> None:
    linux.set_mount_attributes("/", linux.MOUNT_ATTR_RDONLY, recursive=True)


def mount_scratch(kept: tuple[str, ...] = ()) -> None:
    """Fresh tmpfs on /tmp and /run; what the image has in the old ones, and `kept`, shows through."""
    for scratch in ("/tmp", "/run"):  # noqa: S108 - mount points
        shown = [path for path in (*needed_paths(), *kept) if path.startswith(scratch + "/")]
        opened = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in shown}
        linux.mount("tmpfs", scratch, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=1777")
        for path, fd in opened.items():
            Path(path).mkdir(parents=True, exist_ok=True)
            bind(f"/proc/self/fd/{fd}", path, read_only=True)
            os.close(fd)


def bind(source: str, target: str, *, read_only: bool) -> None:
    linux.mount(source, target, flags=linux.MS_BIND | linux.MS_REC)
    if read_only:
        linux.set_mount_attributes(target, linux.MOUNT_ATTR_RDONLY, recursive=True)


def _mount_devices() -> None:
    devices = {name: os.open(f"/dev/{name}", os.O_PATH | os.O_CLOEXEC) for name in _DEVICES}
    linux.mount("tmpfs", "/dev", "tmpfs", linux.MS_NOSUID, "mode=0755,size=64k")
    for name, fd in devices.items():
        Path("/dev", name).touch()
        linux.mount(f"/proc/self/fd/{fd}", f"/dev/{name}", flags=linux.MS_BIND)
        os.close(fd)
    for name, to in _DEVICE_LINKS.items():
        Path("/dev", name).symlink_to(to)
    for name in ("pts", "shm"):
        Path("/dev", name).mkdir()
    mount_terminals()
    # Sealed: containers share this file system.
    linux.set_mount_attributes("/dev", linux.MOUNT_ATTR_RDONLY, recursive=False)


def mount_terminals() -> None:
    """A /dev/pts of one's own and an empty /dev/shm."""
    quiet = linux.MS_NOSUID | linux.MS_NOEXEC
    linux.mount("devpts", "/dev/pts", "devpts", quiet, "newinstance,ptmxmode=0666,mode=0620")
    linux.mount("tmpfs", "/dev/shm", "tmpfs", quiet | linux.MS_NODEV, "mode=1777")  # noqa: S108 - a mount point
