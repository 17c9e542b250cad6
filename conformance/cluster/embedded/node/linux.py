"""The Linux calls that Python 3.11 has no function for. Each raises OSError with the path it was about."""

import ctypes
import errno
import os
import platform
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 2

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_SYS_MOUNT_SETATTR = 442  # the same on every architecture: numbered after the tables were unified
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}

_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522

# fmt: off
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
    "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM",
    "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)
# fmt: on
"""Names without `CAP_`; the position is the number."""

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, about: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), about)


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, flags: int = 0) -> None:
    """`fd` is a namespace's file or, with several flags at once, a pidfd."""
    _check(_libc.setns(fd, flags), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode() or None
    )
    _check(result, target)


def detach(target: str) -> None:
    """Unmounts it, now or once nobody uses it."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), target)


def set_mount_attributes(target: str, attributes: int, *, recursive: bool) -> None:
    """Needs Linux 5.12."""
    flags = _AT_RECURSIVE if recursive else 0
    value = struct.pack("QQQQ", attributes, 0, 0, 0)
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        target.encode(),
        ctypes.c_uint(flags),
        value,
        ctypes.c_size_t(len(value)),
    )
    _check(result, target)


def clone_tree(path: str) -> int:
    """A descriptor of a detached copy of the mounts from `path` down."""
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    tree = _libc.syscall(
        ctypes.c_long(_SYS_OPEN_TREE), ctypes.c_int(_AT_FDCWD), path.encode(), ctypes.c_uint(flags)
    )
    _check(tree, path)
    return int(tree)


def attach_tree(tree: int, target: str) -> None:
    """Mounts what `clone_tree` made, and closes the descriptor."""
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOVE_MOUNT),
        ctypes.c_int(tree),
        b"",
        ctypes.c_int(_AT_FDCWD),
        target.encode(),
        ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH),
    )
    _check(result, target)
    os.close(tree)


def pivot_root(new_root: str) -> None:
    """Makes the mount point `new_root` the root; the old one is gone from this mount namespace."""
    os.chdir(new_root)
    number = _SYS_PIVOT_ROOT[platform.machine()]
    # Onto itself: the old root is then stacked on the new one, and detaching "." uncovers the new.
    _check(_libc.syscall(ctypes.c_long(number), b".", b"."), new_root)
    detach(".")
    os.chdir("/")


def _prctl(option: int, *arguments: int) -> int:
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return int(_libc.prctl(ctypes.c_int(option), *(ctypes.c_ulong(value) for value in padded)))


def die_with_parent(signal_number: int) -> None:
    """The kernel sends the signal when the parent *thread* ends."""
    _check(_prctl(_PR_SET_PDEATHSIG, signal_number), "PR_SET_PDEATHSIG")


def make_readable_to_owner() -> None:
    """Entering a user namespace closes /proc/self/{root,ns} to the user who did; this opens them again."""
    _check(_prctl(_PR_SET_DUMPABLE, 1), "PR_SET_DUMPABLE")


def become(*, uid: int | None, capabilities: frozenset[str]) -> None:
    """Takes the user and keeps just these capabilities, through execve too; nothing can be regained.

    Raises ValueError for a capability that does not exist.
    """
    if unknown := capabilities - set(CAPABILITIES):
        raise ValueError(f"unknown capability {min(unknown)}")
    kept = {CAPABILITIES.index(name) for name in capabilities}
    for number in range(len(CAPABILITIES)):
        # A kernel that knows fewer capabilities answers EINVAL for those it does not.
        if number not in kept and _prctl(_PR_CAPBSET_DROP, number) < 0 and ctypes.get_errno() != errno.EINVAL:
            _check(-1, f"drop CAP_{CAPABILITIES[number]}")
    if uid is not None:
        _check(_prctl(_PR_SET_KEEPCAPS, 1), "PR_SET_KEEPCAPS")
        os.setgroups([])
        os.setresuid(uid, uid, uid)
    mask = sum(1 << number for number in kept)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, struct.pack("6I", low, low, low, high, high, high)), "capset")
    for number in kept:
        # Ambient, or a user other than root loses them in execve.
        _check(_prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number), f"keep CAP_{CAPABILITIES[number]}")
    _check(_prctl(_PR_SET_NO_NEW_PRIVS, 1), "PR_SET_NO_NEW_PRIVS")
