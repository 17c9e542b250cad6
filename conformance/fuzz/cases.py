"""A set of policies, and the table of connections that is predicted and probed for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from conformance.sweep import Lane
from conformance.topology import SERVICES, Ref

__all__ = ["CLIENTS", "SHARED", "TABLE", "TARGET", "Document", "PolicySet", "Row", "placed"]

Document = Mapping[str, Any]

TARGET = Ref(name="tcp-echo", namespace="foo")
CLIENTS = tuple(map(Ref.parse, ("sleep.foo", "sleep-b.foo", "sleep.bar", "sleep.legacy")))
# Clients that every slot of the pool is probed from.
SHARED = ("bar", "legacy")


def placed(ref: Ref, slot: str) -> Ref:
    """A workload of the topology as it stands in a slot of the pool, whose namespace stands for foo."""
    return ref if ref.namespace in SHARED else Ref(name=ref.name, namespace=slot)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet:
    """Documents with placeholders, each with a name and a namespace of its own."""

    documents: tuple[Document, ...]

    @property
    def mesh_wide(self) -> bool:
        """Whether something of it is in the root namespace, so that no other set can stand beside it."""
        return any(item["metadata"]["namespace"] == "${root}" for item in self.documents)

    @property
    def transport(self) -> bool:
        """Whether it changes how clients speak, which every sidecar is told of."""
        return any(item["kind"] == "PeerAuthentication" for item in self.documents)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A path of the table, in logical names: by Service (`service`) or by the pod's address (`pod`)."""

    source: Ref
    service: str
    port: int
    via: str = "service"

    @property
    def workload_port(self) -> int:
        return SERVICES[self.service].ports[self.port] if self.via == "service" else self.port

    def lane(self, slot: str) -> Lane:
        """The path in a slot of the pool: its namespace stands for foo."""
        return Lane(
            source=placed(self.source, slot),
            target=Ref(name=self.service, namespace=slot),
            via=self.via,
            port=self.port,
            workload=Ref(name=TARGET.name, namespace=slot),
            workload_port=self.workload_port,
        )


def _table() -> Iterator[Row]:
    for source in CLIENTS:
        if source.name == "sleep-b":
            yield Row(source=source, service="tcp-echo-alt", port=80)  # 9000 by another port
        else:
            yield Row(source=source, service="tcp-echo", port=9000)
        yield Row(source=source, service="tcp-echo", port=9001)
        yield Row(source=source, service="tcp-echo", port=9002, via="pod")
        yield Row(source=source, service="tcp-echo", port=9003)


# Each client on each port of the workload, once: who decided is told apart by client and port.
TABLE: tuple[Row, ...] = tuple(_table())
