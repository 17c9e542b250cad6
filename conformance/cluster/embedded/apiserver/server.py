"""What every room of the API server shares: the state, and how it asks admission."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from conformance.cluster.embedded.apiserver.admission import Admission
from conformance.cluster.embedded.apiserver.attributes import Attributes
from conformance.cluster.embedded.apiserver.auth import Authenticator
from conformance.cluster.embedded.apiserver.registry import Registry
from conformance.cluster.embedded.apiserver.requests import Call
from conformance.cluster.embedded.apiserver.storage import Object, Storage
from conformance.cluster.embedded.apiserver.streams import PodStreams


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Server:
    storage: Storage
    registry: Registry
    authenticator: Authenticator
    admission: Admission
    streams: PodStreams
    ipv6: bool = False

    def objects(self, resource: str) -> Iterator[Object]:
        """All of `plural.group`: what RBAC and admission read."""
        return self.storage.all(resource)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def attributes(
    call: Call,
    operation: str,
    *,
    name: str,
    obj: Object | None,
    old: Object | None,
    options: dict[str, Any] | None = None,
    dry_run: bool | None = None,
) -> Attributes:
    resource = call.resource
    return Attributes(
        operation=operation,
        group=resource.group,
        version=resource.version,
        resource=resource.plural,
        kind=resource.kind,
        subresource=call.target.subresource,
        namespace=name if resource.key == "namespaces" else call.target.namespace,
        name=name,
        user=call.user,
        obj=obj,
        old=old,
        dry_run=call.dry_run if dry_run is None else dry_run,
        options=options or {},
    )
