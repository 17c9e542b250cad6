"""Services to the node's packet rules: the part that kube-proxy plays on a real node."""

from collections.abc import Iterable
from typing import Any

from conformance.cluster.embedded.controllers.queue import WorkQueue
from conformance.cluster.embedded.controllers.shared import (
    ENDPOINTS,
    SERVICES,
    SLICES,
    SharedInformers,
)
from conformance.cluster.embedded.node.runtime import Runtime, ServiceRule

Object = dict[str, Any]
OWNER = "kubernetes.io/service-name"


class ServiceProxy:
    """Programs ClusterIP:port -> ready pod addresses into the node whenever they change."""

    def __init__(self, informers: SharedInformers, runtime: Runtime) -> None:
        self._runtime = runtime
        self._queue = WorkQueue[str]("proxy", self._program)
        self._services = informers.watch(SERVICES, self._changed)
        self._endpoints = informers.watch(ENDPOINTS, self._changed)
        self._slices = informers.watch(SLICES, self._changed)
        self._programmed: list[ServiceRule] | None = None

    async def run(self) -> None:
        """Work until cancelled."""
        await self._queue.run()

    def _changed(self, _event: str, _item: Object) -> None:
        self._queue.add("all")  # one key: the rules are always replaced together

    async def _program(self, _key: str) -> None:
        slices: dict[tuple[str, str], list[Object]] = {}
        for (namespace, _), item in self._slices.cache.items():
            owner = (item["metadata"].get("labels") or {}).get(OWNER)
            if owner:
                slices.setdefault((namespace, owner), []).append(item)
        rules = [
            rule
            for key, service in sorted(self._services.cache.items())
            for rule in (
                *rules_of(service, self._endpoints.cache.get(key)),
                *second_rules_of(service, slices.get(key, ())),
            )
        ]
        if rules != self._programmed:
            await self._runtime.program_services(rules)
            self._programmed = rules


def rules_of(service: Object, endpoints: Object | None) -> list[ServiceRule]:
    """One rule for each port of a Service that has a ClusterIP; a port nobody serves has no backends."""
    cluster_ip = service["spec"].get("clusterIP")
    if not cluster_ip or cluster_ip == "None":
        return []
    subsets = (endpoints or {}).get("subsets") or ()
    rules = []
    for port in service["spec"].get("ports") or ():
        backends = tuple(
            (address["ip"], target["port"])
            for subset in subsets
            for target in subset.get("ports") or ()
            if target.get("name") == port.get("name")
            for address in subset.get("addresses") or ()
        )
        rules.append(ServiceRule(cluster_ip=cluster_ip, port=port["port"], backends=backends))
    return rules


def second_rules_of(service: Object, slices: Iterable[Object]) -> list[ServiceRule]:
    """The same for the second address of a dual-stack Service: Endpoints tell of its first family only."""
    rules = []
    for cluster_ip in (service["spec"].get("clusterIPs") or ())[1:]:
        family = "IPv6" if ":" in cluster_ip else "IPv4"
        own = [item for item in slices if item["addressType"] == family]
        for port in service["spec"].get("ports") or ():
            backends = tuple(
                (address, target["port"])
                for item in own
                for target in item.get("ports") or ()
                if (target.get("name") or "") == (port.get("name") or "")
                for endpoint in item.get("endpoints") or ()
                if (endpoint.get("conditions") or {}).get("ready") is not False
                for address in endpoint["addresses"]
            )
            rules.append(ServiceRule(cluster_ip=cluster_ip, port=port["port"], backends=backends))
    return rules
