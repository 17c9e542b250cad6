"""The embedded cluster: a Kubernetes API with real processes behind it, on any Linux machine, without root.

`start_embedded` is all that the suite needs; what stands behind it speaks through the Kubernetes API alone.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from conformance.cluster.embedded.node.launcher import Node, NodeError, start_node

__all__ = ["EmbeddedCluster", "NodeError", "start_embedded"]


class EmbeddedCluster:
    """A running cluster. It ends with `stop()`, and with the process that started it however that dies."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig. It lives inside the node and vanishes with it."""
        return self._node.path(str(self._node.ready["kubeconfig"]))

    @property
    def description(self) -> str:
        """One line for reports."""
        families = "IPv4 only" if self.no_ipv6 else "IPv4 and IPv6"
        return f"embedded cluster of this suite, API on 127.0.0.1:{self._node.port}, {families}"

    @property
    def no_ipv6(self) -> str:
        """Why pods have no IPv6 address; empty where they have one."""
        return str(self._node.ready["no_ipv6"])

    def alive(self) -> bool:
        """Whether the node still runs."""
        return self._node.alive()

    def log(self) -> str:
        """The last of what the control plane wrote, for a failure's report."""
        return self._node.log()

    def stop(self) -> None:
        """Returns once every process of the cluster is gone. A second call does nothing."""
        self._node.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.stop()


def start_embedded(*, port: int = 0) -> EmbeddedCluster:
    """Start a cluster and wait until its API answers; about a second. Raises NodeError with cause and remedy.

    `port` is the API's on 127.0.0.1; 0 takes a free one.
    """
    return EmbeddedCluster(start_node(port=port))
