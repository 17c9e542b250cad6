"""The Services of the mesh and the pods behind them, kept so that a change costs its own namespace only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from enforcer.destinations import Destination, Endpoint, destinations, read_endpoint
from enforcer.kube import Json
from enforcer.mesh import MeshOptions
from enforcer.peer_authentication import Modes
from enforcer.providers import Provider
from enforcer.watch import SERVICES, Key
from enforcer.xds import authorizers, outbound
from enforcer.xds.authorizers import Authorizer
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
        self._authorizers: dict[str, Authorizer] = {}
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
        """A number that changes with the destinations and the ways to the authorizers."""
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
        found = {
            provider.name: authorizer
            for provider in self._options.extension_providers
            if (authorizer := self._authorizer(provider)) is not None
        }
        if found != self._authorizers:
            self._authorizers = found
            self._generation += 1

    def _authorizer(self, provider: Provider) -> Authorizer | None:
        """None where its Service is not there."""
        key = Key(kind=SERVICES.name, namespace=provider.namespace, name=provider.service)
        service = self._services[provider.namespace].get(key)
        if service is None:
            return None
        secured = (
            destination
            for destination in self._destinations.get(provider.namespace, ())
            if (destination.host, destination.port) == (provider.host, provider.port)
        )
        return authorizers.build(
            provider,
            service,
            next(secured, None),
            trust=self._options.trust,
            exempt=self._options.exempt,
        )

    def authorizers(self) -> Mapping[str, Authorizer]:
        """The mesh's external authorizers whose Services there are, by the name of the provider."""
        self._refresh()
        return self._authorizers

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
