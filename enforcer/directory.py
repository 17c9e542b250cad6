"""The Services of the mesh and the pods behind them, kept so that a change costs its own namespace only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from enforcer.destinations import Destination, Endpoint, destinations, read_endpoint
from enforcer.kube import Json
from enforcer.mesh import MeshOptions
from enforcer.peer_authentication import Modes
from enforcer.watch import Key
from enforcer.xds import outbound
from enforcer.xds.outbound import Outbound


class Directory:
    """`modes` tells what the ports of an endpoint take."""

    def __init__(self, options: MeshOptions, modes: Callable[[Endpoint], Modes]) -> None:
        self._options = options
        self._modes = modes
        self._services: dict[str, dict[Key, Json]] = defaultdict(dict)
        self._endpoints: dict[str, dict[Key, Endpoint]] = defaultdict(dict)
        self._changed: set[str] = set()
        self._destinations: dict[str, tuple[Destination, ...]] = {}
        self._built: dict[bool, Outbound] = {}
        self._generation = 0

    def set_service(self, key: Key, document: Json | None) -> None:
        before = self._services[key.namespace].pop(key, None)
        if document is not None:
            self._services[key.namespace][key] = document
        if before is None or document is None or before.get("spec") != document.get("spec"):
            self._changed.add(key.namespace)

    def set_pod(self, key: Key, document: Json | None) -> None:
        before = self._endpoints[key.namespace].pop(key, None)
        endpoint = None if document is None else read_endpoint(document)
        if endpoint is not None:
            self._endpoints[key.namespace][key] = endpoint
        if endpoint != before:
            self._changed.add(key.namespace)

    def modes_changed(self, namespace: str) -> None:
        """The root namespace's reach everywhere."""
        everywhere = namespace == self._options.root_namespace
        self._changed |= set(self._services) if everywhere else {namespace}

    @property
    def generation(self) -> int:
        """A number that changes with the destinations."""
        self._refresh()
        return self._generation

    def _refresh(self) -> None:
        if not self._changed:
            return
        before = self._destinations
        self._destinations = dict(before)
        for namespace in self._changed:
            self._destinations[namespace] = tuple(
                destinations(
                    self._services[namespace].values(), self._endpoints[namespace].values(), self._modes
                )
            )
        self._changed.clear()
        if _present(before) != _present(self._destinations):
            self._generation += 1
            self._built.clear()

    def outbound(self, *, ipv6: bool) -> Outbound:
        """What every sidecar is told of the way out."""
        self._refresh()
        if ipv6 not in self._built:
            self._built[ipv6] = outbound.build(
                [found for _, group in sorted(self._destinations.items()) for found in group],
                trust=self._options.trust,
                exempt=self._options.exempt,
                ipv6=ipv6,
            )
        return self._built[ipv6]


def _present(found: Mapping[str, Any]) -> dict[str, Any]:
    return {namespace: group for namespace, group in found.items() if group}
