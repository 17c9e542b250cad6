"""Which Service addresses are reached by mutual TLS. Pure.

A Service is dialled at its cluster IP, and the cluster chooses the endpoint. So mutual TLS is spoken where
every endpoint can answer it: each has a sidecar that captures the port, and its mode there is not DISABLE.
One that cannot makes the Service plaintext for all, which PERMISSIVE endpoints take as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from enforcer.identity import Identity
from enforcer.inject import EXCLUDE_INBOUND, SIDECAR, InjectionError, excluded_ports
from enforcer.kube import Json
from enforcer.peer_authentication import Mode, Modes

FINISHED = frozenset({"Succeeded", "Failed"})
CLUSTER_DOMAIN = "cluster.local"
DEFAULT_ACCOUNT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A pod, as far as Services and their clients are concerned."""

    identity: Identity
    labels: Mapping[str, str]
    sidecar: bool
    uncaptured: frozenset[int]
    """Ports that its sidecar does not see."""
    named_ports: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A Service's port that takes mutual TLS. `identities`: of its endpoints, sorted."""

    host: str
    addresses: tuple[str, ...]
    port: int
    identities: tuple[Identity, ...]


def read_endpoint(pod: Json) -> Endpoint | None:
    """The endpoint of a pod; None for one that has ended."""
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    if (pod.get("status") or {}).get("phase") in FINISHED:
        return None
    containers = spec.get("containers") or ()
    try:
        excluded = excluded_ports(metadata.get("annotations") or {}, EXCLUDE_INBOUND)
    except InjectionError:
        # Written after the pod was made: capture knows nothing of it.
        excluded = ""
    return Endpoint(
        identity=Identity(
            namespace=metadata["namespace"],
            service_account=spec.get("serviceAccountName") or DEFAULT_ACCOUNT,
        ),
        labels=metadata.get("labels") or {},
        sidecar=any(entry.get("name") == SIDECAR for entry in containers),
        uncaptured=frozenset(int(port) for port in excluded.split(",") if port),
        named_ports={
            str(port["name"]): int(port["containerPort"])
            for entry in containers
            for port in entry.get("ports") or ()
            if port.get("name")
        },
    )


def destinations(
    services: Iterable[Json], endpoints: Iterable[Endpoint], modes: Callable[[Endpoint], Modes]
) -> Iterator[Destination]:
    """Those of one namespace, ordered by name and port. `modes`: what an endpoint's ports take."""
    present = list(endpoints)
    for service in sorted(services, key=lambda document: str(document["metadata"]["name"])):
        spec = service.get("spec") or {}
        selector, addresses = spec.get("selector") or {}, _addresses(spec)
        if not selector or not addresses:
            continue
        behind = [endpoint for endpoint in present if selector.items() <= endpoint.labels.items()]
        metadata = service["metadata"]
        host = f"{metadata['name']}.{metadata['namespace']}.svc.{CLUSTER_DOMAIN}"
        for port in sorted(spec.get("ports") or (), key=lambda entry: int(entry["port"])):
            if port.get("protocol", "TCP") == "TCP" and behind and _all_mutual(behind, port, modes):
                yield Destination(
                    host=host,
                    addresses=addresses,
                    port=int(port["port"]),
                    identities=tuple(sorted({endpoint.identity for endpoint in behind})),
                )


def _addresses(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Its cluster IPs. A headless Service has none: its names lead to pods, which are dialled as they are."""
    listed = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return tuple(address for address in listed if address and address != "None")


def _all_mutual(behind: Iterable[Endpoint], port: Json, modes: Callable[[Endpoint], Modes]) -> bool:
    return all(
        endpoint.sidecar
        and (number := _target(port, endpoint)) not in endpoint.uncaptured
        and modes(endpoint).at(number) is not Mode.DISABLE
        for endpoint in behind
    )


def _target(port: Json, endpoint: Endpoint) -> int:
    """The endpoint's own port; 0, which no mode names, for a name that it does not know."""
    target = port.get("targetPort") or port["port"]
    return target if isinstance(target, int) else endpoint.named_ports.get(str(target), 0)
