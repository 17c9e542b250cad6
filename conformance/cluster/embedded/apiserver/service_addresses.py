"""Cluster IPs and node ports: given to a Service when it is stored, taken from what no Service uses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from conformance.cluster.embedded.apiserver.status import FieldError

SERVICE_NETWORK = ipaddress.IPv4Network("10.96.0.0/12")
_FIRST = int(SERVICE_NETWORK.network_address) + 10  # .1 is the API's; a few stay free for fixed addresses
_NODE_PORTS = range(30000, 32768)


def assign_addresses(
    service: Mapping[str, Any], services: Iterable[Mapping[str, Any]]
) -> tuple[dict[str, Any], list[FieldError]]:
    """The Service with its addresses, and what is wrong with those it asks for."""
    spec = dict(service["spec"])
    others = [s["spec"] for s in services if s["metadata"].get("uid") != service["metadata"].get("uid")]
    if spec.get("type") == "ExternalName":
        return {**service, "spec": spec}, []
    errors = []
    used = {other.get("clusterIP") for other in others}
    asked = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or ()), "")
    if not asked:
        asked = next(
            str(ipaddress.IPv4Address(number))
            for number in range(_FIRST, int(SERVICE_NETWORK.broadcast_address))
            if str(ipaddress.IPv4Address(number)) not in used
        )
    elif asked != "None":
        errors = _complaints(asked, used)
    spec["clusterIP"] = asked
    spec["clusterIPs"] = [asked]
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        taken = {port.get("nodePort") for other in others for port in other.get("ports") or ()}
        ports = []
        for port in spec.get("ports") or ():
            node_port = port.get("nodePort") or next(n for n in _NODE_PORTS if n not in taken)
            taken.add(node_port)
            ports.append({**port, "nodePort": node_port})
        spec["ports"] = ports
    return {**service, "spec": spec}, errors


def _complaints(address: str, used: set[Any]) -> list[FieldError]:
    try:
        valid = ipaddress.IPv4Address(address) in SERVICE_NETWORK
    except ValueError:
        valid = False
    if not valid:
        why = (
            f"the provided IP ({address}) is not in the valid range. "
            f"The range of valid IPs is {SERVICE_NETWORK}"
        )
    elif address in used:
        why = "provided IP is already allocated"
    else:
        return []
    message = f'Invalid value: []string{{"{address}"}}: failed to allocate IP {address}: {why}'
    return [FieldError(path="spec.clusterIPs", type="FieldValueInvalid", message=message)]
