"""Whether one rule matches one connection on TCP, and why not."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.oracle.facts import Destination, Identity, Mesh, RuleFinding, Source
from conformance.oracle.validate import is_http_only

__all__ = ["View", "match_rule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A connection as the destination's proxy sees it. `peer` is None, and `sni` empty, on plaintext."""

    source: Source
    destination: Destination
    peer: Identity | None
    sni: str
    mesh: Mesh
    policy_namespace: str  # what a bare service account belongs to


# The field of a source or operation that says the same as a key of `when`.
ATTRIBUTES = {
    "principals": "source.principal",
    "namespaces": "source.namespace",
    "serviceAccounts": "source.serviceAccount",
    "trustDomains": "source.trustDomain",
    "ipBlocks": "source.ip",
    "remoteIpBlocks": "remote.ip",
    "ports": "destination.port",
}


def match_rule(rule: Mapping[str, Any], index: int, action: str, view: View) -> RuleFinding:
    """`from`, `to` and `when` must all hold; absent ones do."""
    http = list(_http_conditions(rule))
    if http and action == "ALLOW":
        said = f"it is ignored on TCP, because {', '.join(http)} exists in HTTP alone"
        return RuleFinding(index=index, matches=False, reasons=(said,))
    matched: list[str] = []
    missed: list[str] = []
    for part, entry_name in (("from", "source"), ("to", "operation")):
        held, reasons = _any_entry([entry[entry_name] for entry in rule.get(part) or []], view)
        (matched if held else missed).extend(reasons)
    for condition in rule.get("when") or []:
        failures, successes = _hold(_of_condition(condition), view)
        missed += failures
        matched += [] if failures else successes
    if missed:
        return RuleFinding(index=index, matches=False, reasons=tuple(missed))
    if http:
        matched.append(f"{', '.join(http)} exists in HTTP alone and narrows nothing on TCP")
    return RuleFinding(index=index, matches=True, reasons=tuple(matched) or ("it has no condition",))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Condition:
    """One list of values: any of them must match, or with `negated` none."""

    name: str
    attribute: str
    values: tuple[str, ...]
    negated: bool


def _of_fields(fields: Mapping[str, Sequence[str]]) -> Iterator[_Condition]:
    for name, values in fields.items():
        negated = name.startswith("not")
        plain = name[3].lower() + name[4:] if negated else name
        if values and not is_http_only(name):
            attribute = ATTRIBUTES[plain]
            yield _Condition(name=name, attribute=attribute, values=tuple(values), negated=negated)


def _of_condition(condition: Mapping[str, Any]) -> Iterator[_Condition]:
    key = condition["key"]
    for name, negated in (("values", False), ("notValues", True)):
        values = condition.get(name)
        if values and not is_http_only(key):
            label = f"{key} {name}"
            yield _Condition(name=label, attribute=key, values=tuple(values), negated=negated)


def _http_conditions(rule: Mapping[str, Any]) -> Iterator[str]:
    for part, entry_name in (("from", "source"), ("to", "operation")):
        for entry in rule.get(part) or []:
            yield from (name for name, values in entry[entry_name].items() if values and is_http_only(name))
    yield from (item["key"] for item in rule.get("when") or [] if is_http_only(item["key"]))


def _any_entry(entries: Sequence[Mapping[str, Sequence[str]]], view: View) -> tuple[bool, list[str]]:
    missed: list[str] = []
    for entry in entries:
        failures, successes = _hold(_of_fields(entry), view)
        if not failures:
            return True, successes
        missed += failures
    return not entries, missed


def _hold(conditions: Iterator[_Condition], view: View) -> tuple[list[str], list[str]]:
    """(what does not hold, what does), in words."""
    failures: list[str] = []
    successes: list[str] = []
    for condition in conditions:
        one = any(_matches(condition.attribute, value, view) for value in condition.values)
        held = one is not condition.negated
        values = ", ".join(condition.values)
        said = (
            f"{condition.name} [{values}] {'holds' if held else 'does not hold'} for {_seen(condition, view)}"
        )
        (successes if held else failures).append(said)
    return failures, successes


def _seen(condition: _Condition, view: View) -> str:
    match condition.attribute:
        case "source.ip" | "remote.ip":
            return view.source.ip
        case "destination.ip":
            return view.destination.ip
        case "destination.port":
            return f"port {view.destination.port}"
        case "connection.sni":
            return f"SNI {view.sni}" if view.sni else "a connection without SNI"
        case _:
            return view.peer.principal if view.peer else "a plaintext client, which has no identity"


def _matches(attribute: str, value: str, view: View) -> bool:
    match attribute:
        case "source.ip" | "remote.ip":  # without PROXY protocol the same
            return _in_block(view.source.ip, value)
        case "destination.ip":
            return _in_block(view.destination.ip, value)
        case "destination.port":
            return view.destination.port == int(value)
        case "connection.sni":
            return _like(view.sni, value)
    peer = view.peer
    if peer is None:
        return False
    match attribute:
        case "source.principal":
            return any(_like(peer.principal, item) for item in _principals(value, view.mesh))
        case "source.namespace":
            pattern = ".*".join(re.escape(part) for part in value.split("*"))
            return re.fullmatch(pattern, peer.namespace) is not None
        case "source.serviceAccount":
            namespace, slash, account = value.rpartition("/")
            wanted = namespace if slash else view.policy_namespace
            return (peer.namespace, peer.service_account) == (wanted, account)
        case "source.trustDomain":
            domains = (view.mesh.trust_domain, *view.mesh.aliases)
            return any(_like(peer.trust_domain, item) for item in (domains if value in domains else (value,)))
    raise AssertionError(f"no rule for {attribute}")


def _in_block(address: str, block: str) -> bool:
    network = ipaddress.ip_network(block, strict=False)
    return ipaddress.ip_address(address) in network


def _like(text: str, pattern: str) -> bool:
    """`*` anything but nothing, `*x` by the end, `x*` by the beginning; any other `*` is a literal."""
    if pattern == "*":
        return text != ""
    if pattern.startswith("*"):
        return text.endswith(pattern[1:])
    if pattern.endswith("*"):
        return text.startswith(pattern[:-1])
    return text == pattern


def _principals(value: str, mesh: Mesh) -> list[str]:
    """A principal written for the mesh's trust domain, an alias or `cluster.local` means all of them."""
    domains = (mesh.trust_domain, *mesh.aliases)
    parts = value.split("/")
    names = (*domains, "cluster.local")
    # `*suffix` of one of the names stands for it, as the name itself does.
    suffix = parts[0][1:] if parts[0].startswith("*") else ""
    ours = parts[0] in names or (suffix and any(name.endswith(suffix) for name in names))
    if len(parts) != 5 or not ours:
        return [value]
    written_out = ["/".join([domain, *parts[1:]]) for domain in domains]
    return [value, *written_out] if suffix else written_out
