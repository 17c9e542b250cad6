"""What the kubelet asks of the container runtime: plain values that cross a socket as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

STATE = "/run/authz-node"
"""The node's private tmpfs: admin kubeconfig, volumes, `bin`. Gone with the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    source: str | None
    """A path in the node's mount namespace; None is a fresh tmpfs."""
    target: str
    """An absolute path in the container; made where it is missing."""
    read_only: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """A pod's network, host name and IPC namespaces."""

    uid: str
    hostname: str
    ip: str
    ip6: str = ""
    """Empty where the node has no IPv6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    id: str
    """Unique for each start, restarts included."""
    sandbox: str
    """The `uid` of its sandbox."""
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    mounts: tuple[Mount, ...]
    capabilities: frozenset[str]
    """What is kept, without `CAP_`; empty is none."""
    uid: int | None
    """None does not change it; without effect where the node maps a single uid."""
    tty: bool = False
    read_only_root: bool = True
    """Always in effect: a container never writes the host's files."""

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "sandbox": self.sandbox,
            "argv": list(self.argv),
            "env": dict(self.env),
            "cwd": self.cwd,
            "mounts": [[mount.source, mount.target, mount.read_only] for mount in self.mounts],
            "capabilities": sorted(self.capabilities),
            "uid": self.uid,
            "tty": self.tty,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            id=data["id"],
            sandbox=data["sandbox"],
            argv=tuple(data["argv"]),
            env=data["env"],
            cwd=data["cwd"],
            mounts=tuple(Mount(source=s, target=t, read_only=ro) for s, t, ro in data["mounts"]),
            capabilities=frozenset(data["capabilities"]),
            uid=data["uid"],
            tty=data["tty"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRule:
    """One port of one Service, as the node's packet filter sees it."""

    cluster_ip: str
    port: int
    backends: tuple[tuple[str, int], ...]
    """(pod IP, port) each; connections are spread at random. None: refused at once."""
