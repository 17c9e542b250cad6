"""A container's files: the node's, read-only, with private scratch space and the mounts of its spec."""

import contextlib
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from conformance.cluster.embedded.node import linux
from conformance.cluster.embedded.node.images import COMMANDS
from conformance.cluster.embedded.node.namespaces import (
    bind,
    mount_proc,
    mount_scratch,
    mount_sys,
    mount_terminals,
)
from conformance.cluster.embedded.node.spec import Mount

# Root owns these on the host, and a container's root may be that root: it must not turn the kernel's knobs.
_SEALED = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    tree: int
    directory: bool

    @classmethod
    def take(cls, path: str) -> Self:
        return cls(tree=linux.clone_tree(path), directory=Path(path).is_dir())


def set_up_root(mounts: Sequence[Mount]) -> None:
    """In the container's new mount and PID namespaces. Raises OSError."""
    ordered = sorted(mounts, key=lambda mount: len(PurePosixPath(mount.target).parts))
    # Taken first: the container's own /run and /tmp will hide them.
    sources = [None if mount.source is None else _Source.take(mount.source) for mount in ordered]
    own_root = any(not os.path.lexists(_top(mount.target)) for mount in ordered)
    if own_root:
        _enter_own_root()
    mount_proc()
    # The pod's own network there, not the host's; where the kernel refuses, the host's can only be read.
    with contextlib.suppress(OSError):
        mount_sys()
    mount_scratch((COMMANDS,))
    mount_terminals()
    for path in _SEALED:
        if Path(path).exists():
            bind(path, path, read_only=True)
    overlays = _Overlays()
    for mount, source in zip(ordered, sources, strict=True):
        overlays.make_target(mount, source)
    for mount, source in zip(ordered, sources, strict=True):
        overlays.make_target(mount, source)
        if source is None:
            linux.mount("tmpfs", mount.target, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV)
        else:
            linux.attach_tree(source.tree, mount.target)
            if mount.read_only:
                linux.set_mount_attributes(mount.target, linux.MOUNT_ATTR_RDONLY, recursive=True)
    overlays.seal()
    if own_root:
        linux.set_mount_attributes("/", linux.MOUNT_ATTR_RDONLY, recursive=False)


def _top(target: str) -> str:
    return "/".join(target.split("/", 2)[:2])


def _enter_own_root() -> None:
    """A tmpfs that shows every entry of the old root, and has room for more."""
    trees: dict[str, int] = {}
    links: dict[str, str] = {}
    for entry in os.scandir("/"):
        if entry.is_symlink():
            links[entry.name] = str(Path(entry.path).readlink())
        elif entry.is_dir():
            trees[entry.name] = linux.clone_tree(entry.path)
    new = "/tmp"  # noqa: S108 - any existing directory will do
    linux.mount("tmpfs", new, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=0755")
    for name, to in links.items():
        Path(new, name).symlink_to(to)
    for name, tree in trees.items():
        Path(new, name).mkdir()
        linux.attach_tree(tree, f"{new}/{name}")
    linux.pivot_root(new)


class _Overlays:
    """Makes mount points in directories that cannot be written, by a writable layer over the nearest one."""

    def __init__(self) -> None:
        self._parents: list[str] = []

    def make_target(self, mount: Mount, source: _Source | None) -> None:
        target = Path(mount.target)
        if target.exists():
            return
        directory = source is None or source.directory
        try:
            _make(target, directory=directory)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            self._cover(next(parent for parent in target.parents if parent.is_dir()))
            _make(target, directory=directory)

    def _cover(self, parent: Path) -> None:
        layers = "/run/.layers"
        Path(layers).mkdir()
        linux.mount("tmpfs", layers, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=0755")
        for name in ("upper", "work"):
            Path(layers, name).mkdir()
        lower = os.open(parent, os.O_PATH | os.O_CLOEXEC)
        options = f"lowerdir=/proc/self/fd/{lower},upperdir={layers}/upper,workdir={layers}/work,userxattr"
        linux.mount("overlay", str(parent), "overlay", linux.MS_NOSUID | linux.MS_NODEV, options)
        os.close(lower)
        # The overlay keeps its layers; nobody else needs to see them.
        linux.detach(layers)
        Path(layers).rmdir()
        self._parents.append(str(parent))

    def seal(self) -> None:
        for parent in self._parents:
            linux.set_mount_attributes(parent, linux.MOUNT_ATTR_RDONLY, recursive=False)


def _make(target: Path, *, directory: bool) -> None:
    if directory:
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
