"""What a rule can ask of a connection: one row per attribute, and the fields that spell it.

A field of `source` or `operation` and the `when` key of the same attribute mean the same, so the model knows
only attributes. Source: the AuthorizationPolicy reference, security.istio.io/v1.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from enforcer.documents import Check

SERVICE_ACCOUNT_LIMIT = 320
"""Characters in one entry of serviceAccounts."""


class Layer(Enum):
    """What a connection must be for the attribute to have a value."""

    TCP = "tcp"
    """Any connection has it: addresses and ports."""
    TLS = "tls"
    """Only TLS carries it: the peer's identity (mutual TLS between sidecars), the server name."""
    HTTP = "http"
    """Only an HTTP request has it; plain TCP never does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    key: str
    layer: Layer
    problem: Check = lambda _: None
    condition: bool = True
    """May stand as a key under `when`; False: has a field only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A list field of `source` or `operation`."""

    attribute: Attribute
    negated: bool
    problem: Check


_ADDRESS = re.compile(r"[0-9A-Fa-f:.]+(/(0|[1-9][0-9]*))?")
_PORT = re.compile(r"0*([0-9]{1,5})", re.ASCII)


def port_problem(value: str) -> str | None:
    """Digits only; the number counts, so leading zeros are harmless."""
    digits = _PORT.fullmatch(value)
    return None if digits and int(digits[1]) <= 65535 else "is not a port (0..65535)"


def address_problem(value: str) -> str | None:
    """An address or CIDR range, IPv4 or IPv6; host bits may be set; no netmasks, no zones."""
    what = "a CIDR range" if "/" in value else "an IP address"
    if not _ADDRESS.fullmatch(value):
        return f"is not {what}"
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return f"is not {what}"
    return None


def service_account_problem(value: str) -> str | None:
    if len(value) > SERVICE_ACCOUNT_LIMIT:
        return f"has more than {SERVICE_ACCOUNT_LIMIT} characters"
    if "*" in value:
        return "has a wildcard; service accounts are matched exactly"
    parts = value.split("/")
    if len(parts) > 2 or not all(parts):
        return "is neither `serviceaccount` nor `namespace/serviceaccount`"
    return None


def trust_domain_problem(value: str) -> str | None:
    if value.count("*") > 1:
        return "has more than one wildcard"
    if "*" in value[1:-1]:
        return "has a wildcard in the middle; only `*`, `prefix*` and `*suffix` are known"
    return None


def _trust_domain_field_problem(value: str) -> str | None:
    return "has a `/`; a trust domain is a name" if "/" in value else trust_domain_problem(value)


ATTRIBUTES: Mapping[str, Attribute] = {
    attribute.key: attribute
    for attribute in (
        Attribute(key="destination.port", layer=Layer.TCP, problem=port_problem),
        Attribute(key="destination.ip", layer=Layer.TCP, problem=address_problem),
        Attribute(key="source.ip", layer=Layer.TCP, problem=address_problem),
        Attribute(key="remote.ip", layer=Layer.TCP, problem=address_problem),
        Attribute(key="source.principal", layer=Layer.TLS),
        Attribute(key="source.namespace", layer=Layer.TLS),
        Attribute(key="source.serviceAccount", layer=Layer.TLS, problem=service_account_problem),
        Attribute(key="source.trustDomain", layer=Layer.TLS, problem=trust_domain_problem),
        Attribute(key="connection.sni", layer=Layer.TLS),
        Attribute(key="request.auth.principal", layer=Layer.HTTP),
        Attribute(key="request.auth.audiences", layer=Layer.HTTP),
        Attribute(key="request.auth.presenter", layer=Layer.HTTP),
        Attribute(key="request.host", layer=Layer.HTTP, condition=False),
        Attribute(key="request.method", layer=Layer.HTTP, condition=False),
        Attribute(key="request.path", layer=Layer.HTTP, condition=False),
    )
}

_HTTP_FAMILIES = ("request.headers", "request.auth.claims")

_KEY_HINTS = {
    "destination.labels": "use the policy's selector",
    "destination.namespace": "use the policy's own namespace",
    "destination.name": "use the policy's selector",
    "destination.user": "use the policy's selector",
    "experimental.envoy.filters": "this enforcer does not match on filter metadata",
}


def condition_attribute(key: str) -> Attribute | str:
    """The attribute that a `when` key names, or what is wrong with the key."""
    attribute = ATTRIBUTES.get(key)
    if attribute and attribute.condition:
        return attribute
    for family in _HTTP_FAMILIES:
        if key.startswith(family):
            if re.fullmatch(re.escape(family) + r"(\[[^\[\]]+\])+", key):
                return Attribute(key=key, layer=Layer.HTTP)
            return f"must be written {family}[name]"
    for prefix, hint in _KEY_HINTS.items():
        if key.startswith(prefix):
            return f"is not a known attribute; {hint}"
    return "is not a known attribute"


def _fields(names: Mapping[str, str], checks: Mapping[str, Check]) -> dict[str, Field]:
    fields = {}
    for name, key in names.items():
        attribute = ATTRIBUTES[key]
        problem = checks.get(name, attribute.problem)
        fields[name] = Field(attribute=attribute, negated=False, problem=problem)
        fields[f"not{name[0].upper()}{name[1:]}"] = Field(attribute=attribute, negated=True, problem=problem)
    return fields


SOURCE_FIELDS: Mapping[str, Field] = _fields(
    {
        "principals": "source.principal",
        "namespaces": "source.namespace",
        "serviceAccounts": "source.serviceAccount",
        "trustDomains": "source.trustDomain",
        "requestPrincipals": "request.auth.principal",
        "ipBlocks": "source.ip",
        "remoteIpBlocks": "remote.ip",
    },
    {"trustDomains": _trust_domain_field_problem},
)

OPERATION_FIELDS: Mapping[str, Field] = _fields(
    {
        "hosts": "request.host",
        "ports": "destination.port",
        "methods": "request.method",
        "paths": "request.path",
    },
    {},
)
