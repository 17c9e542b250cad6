"""Cluster IPs and node ports: given to a Service when it is stored, taken from what no Service uses.

Address families as in Kubernetes' reference (docs: IPv4/IPv6 dual-stack, Service API): one family unless
`ipFamilyPolicy` asks for two, the cluster's first one unless `ipFamilies` or an address names another.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from conformance.cluster.embedded.apiserver.field_errors import duplicate, invalid, unsupported
from conformance.cluster.embedded.apiserver.status import FieldError

NETWORKS: Mapping[str, ipaddress.IPv4Network | ipaddress.IPv6Network] = {
    "IPv4": ipaddress.IPv4Network("10.96.0.0/12"),
    "IPv6": ipaddress.IPv6Network("fd00:10:96::/112"),
}
_FIRST = 10  # .1 is the API's; a few stay free for fixed addresses
_NODE_PORTS = range(30000, 32768)
_SINGLE, _PREFER, _REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
_NO_DUAL_STACK = "this cluster is not configured for dual-stack services"
Object = dict[str, Any]


def assign_addresses(
    service: Mapping[str, Any],
    services: Iterable[Mapping[str, Any]],
    *,
    live: Mapping[str, Any] | None = None,
    ipv6: bool = False,
) -> tuple[Object, list[FieldError]]:
    """The Service with its addresses, and what is wrong with those it asks for. `live`: as it is stored."""
    spec = dict(service["spec"])
    others = [s["spec"] for s in services if s["metadata"].get("uid") != service["metadata"].get("uid")]
    if spec.get("type") == "ExternalName":
        return {**service, "spec": spec}, []
    errors = _choose_families(spec, (live or {}).get("spec") or {}, ("IPv4", "IPv6") if ipv6 else ("IPv4",))
    if not errors:
        errors = _fill_in(spec, {ip for other in others for ip in _listed(other)})
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        taken = {port.get("nodePort") for other in others for port in other.get("ports") or ()}
        ports = []
        for port in spec.get("ports") or ():
            node_port = port.get("nodePort") or next(n for n in _NODE_PORTS if n not in taken)
            taken.add(node_port)
            ports.append({**port, "nodePort": node_port})
        spec["ports"] = ports
    return {**service, "spec": spec}, errors


def _listed(spec: Mapping[str, Any]) -> list[str]:
    first = spec.get("clusterIP")
    return list(spec.get("clusterIPs") or ([first] if first else []))


def family_of(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _choose_families(spec: Object, old: Mapping[str, Any], known: tuple[str, ...]) -> list[FieldError]:
    """Sets `ipFamilyPolicy` and `ipFamilies`; a second address that is given up goes."""
    headless = _listed(spec)[:1] == ["None"]
    policy = spec.get("ipFamilyPolicy")
    families = list(spec.get("ipFamilies") or ())
    if policy == _SINGLE and families == old.get("ipFamilies") and _listed(spec) == _listed(old):
        # Only the policy was changed: the rest follows.
        families, spec["clusterIPs"] = families[:1], _listed(spec)[:1]
    if not families and not headless:
        families = [family_of(ip) for ip in _listed(spec)]
    if headless and not spec.get("selector"):
        # Whoever writes its endpoints may use both families, whatever the cluster has.
        policy, known = policy or _REQUIRE, tuple(NETWORKS)
    policy = policy or _SINGLE
    spec["ipFamilyPolicy"], spec["ipFamilies"] = policy, families
    if policy not in (_SINGLE, _PREFER, _REQUIRE):
        return [unsupported("spec.ipFamilyPolicy", policy, (_PREFER, _REQUIRE, _SINGLE))]
    for index, family in enumerate(families):
        if family not in NETWORKS:
            return [unsupported(f"spec.ipFamilies[{index}]", family, tuple(NETWORKS))]
        if family not in known:
            return [invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")]
    if len(set(families)) != len(families):
        return [duplicate("spec.ipFamilies[1]", families[1])]
    if policy == _SINGLE and len(families) > 1:
        why = "may only be 'RequireDualStack' or 'PreferDualStack' when multiple 'ipFamilies' are specified"
        return [invalid("spec.ipFamilyPolicy", policy, why)]
    if policy == _REQUIRE and len(known) < 2:
        return [invalid("spec.ipFamilyPolicy", policy, _NO_DUAL_STACK)]
    if old.get("ipFamilies") and families and families[0] != old["ipFamilies"][0]:
        return [invalid("spec.ipFamilies[0]", families[0], "may not change once set")]
    families = families or [known[0]]
    if policy != _SINGLE:
        families += [family for family in known if family not in families]
    spec["ipFamilies"] = families
    return []


def _fill_in(spec: Object, used: set[str]) -> list[FieldError]:
    """Sets `clusterIP` and `clusterIPs`: those asked for, free ones for the rest."""
    asked = _listed(spec)
    if spec.get("clusterIP") and asked[0] != spec["clusterIP"]:
        return [invalid("spec.clusterIPs", asked, "first value must match `clusterIP`")]
    if asked == ["None"]:
        spec |= {"clusterIP": "None", "clusterIPs": asked}
        return []
    found: list[str] = []
    for index, family in enumerate(spec["ipFamilies"]):
        if index < len(asked):
            errors = _complaints(asked[index], family, used, f"spec.clusterIPs[{index}]")
            if errors:
                return errors
            found.append(asked[index])
        else:
            found.append(_free(family, used))
    if len(asked) > len(found):
        why = "may only hold up to 2 values, one of each family in `ipFamilies`"
        return [invalid("spec.clusterIPs", asked, why)]
    spec |= {"clusterIP": found[0], "clusterIPs": found}
    return []


def _free(family: str, used: set[str]) -> str:
    network = NETWORKS[family]
    return next(
        text
        for number in range(_FIRST, network.num_addresses - 1)
        if (text := str(network[number])) not in used
    )


def _complaints(address: str, family: str, used: set[str], path: str) -> list[FieldError]:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        parsed = None
    network = NETWORKS[family]
    if parsed is not None and f"IPv{parsed.version}" != family:
        return [invalid(path, address, f"expected an {family} value as indicated by `ipFamilies`")]
    if parsed is None or parsed not in network:
        why = f"the provided IP ({address}) is not in the valid range. The range of valid IPs is {network}"
    elif str(parsed) in used:
        why = "provided IP is already allocated"
    else:
        return []
    message = f'Invalid value: []string{{"{address}"}}: failed to allocate IP {address}: {why}'
    return [FieldError(path="spec.clusterIPs", type="FieldValueInvalid", message=message)]
