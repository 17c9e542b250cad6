"""The values that are drawn: for each attribute what matches somebody, what nearly does, and what never can.

All in logical names. Addresses are whole ones or everything, because which pods share a network is the
cluster's own affair, and a set must mean the same on each.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ADDRESSES", "HTTP_KEYS", "HTTP_OPERATION", "HTTP_SOURCE", "VALUES", "values_of"]

IDENTITIES = (
    ("cluster.local", "${foo}", "sleep"),
    ("cluster.local", "${foo}", "sleep-b"),
    ("cluster.local", "${bar}", "sleep"),
)
PRINCIPALS = (
    *(f"{domain}/ns/{namespace}/sa/{account}" for domain, namespace, account in IDENTITIES),
    *(f"*/ns/{namespace}/sa/{account}" for _, namespace, account in IDENTITIES),
    *(f"{domain}/ns/{namespace}/*" for domain, namespace, _ in IDENTITIES),
    "*",
    "*/sa/sleep",
    "*sleep",
    "*-b",
    "*/sa/sleep.b",
    "*${foo:tail}/sa/sleep",
    "cluster.local/ns/${foo:head}*",
    "cluster.local/ns/${foo}/sa/slee*",
    "cluster.local/ns/${foo}/sa/sleep-*",
    "cluster.local/*",
    "*.local/ns/${foo}/sa/sleep",
    # Never: a star in the middle is itself, the scheme is not written, case counts, a dot is a dot.
    "cluster.local/ns/*/sa/sleep",
    "*sleep*",
    "spiffe://cluster.local/ns/${foo}/sa/sleep",
    "cluster.local/ns/${foo}/sa/Sleep",
    "cluster.local/ns/${foo}/sa/sleep.b",
    "cluster.local/ns/${foo:head}/sa/sleep",
    "other.example/ns/${foo}/sa/sleep",
)
ALIASED = ("alias.example/ns/${foo}/sa/sleep", "alias.example/ns/${bar}/sa/sleep", "alias.example/*")
NAMESPACES = (
    "${foo}",
    "${bar}",
    "${legacy}",
    "*",
    "${foo:head}*",
    "*${bar:tail}",
    "${foo:head}*${foo:tail}",
    "${bar:head}*${bar:tail}",
    "*-*",
    "${foo:head}",
    "${root}",
    "no.such",
)
ACCOUNTS = (
    "sleep",
    "sleep-b",
    "sleep.b",
    "${foo}/sleep",
    "${foo}/sleep-b",
    "${foo}/sleep.b",
    "${bar}/sleep",
    "${legacy}/sleep",
)
DOMAINS = ("cluster.local", "*", "cluster*", "*.local", "Cluster.local", "other.example")
ADDRESSES = (
    "${ip:sleep.foo}",
    "${ip:sleep-b.foo}/32",
    "${ip:sleep.bar}",
    "${ip:sleep.legacy}/32",
    "0.0.0.0/0",
    "${ip:sleep.foo}/0",
    "192.0.2.0/24",
    "::/0",
)
DESTINATIONS = (
    "${ip:tcp-echo.foo}",
    "${clusterip:tcp-echo.foo}",
    "0.0.0.0/0",
    "192.0.2.1",
    "${ip:sleep.foo}",
)
PORTS = ("9000", "9001", "9002", "9003", "80", "09000", "0", "65535")
SNI = (
    "outbound_.9000_._.tcp-echo.${foo}.svc.cluster.local",
    "outbound_.9001_*",
    "*.svc.cluster.local",
    "*",
    "tcp-echo",
)

# By the key of `when`; the fields of a source and an operation take the same values.
VALUES: Mapping[str, tuple[str, ...]] = {
    "source.principal": PRINCIPALS,
    "source.namespace": NAMESPACES,
    "source.serviceAccount": ACCOUNTS,
    "source.trustDomain": DOMAINS,
    "source.ip": ADDRESSES,
    "remote.ip": ADDRESSES,
    "destination.ip": DESTINATIONS,
    "destination.port": PORTS,
    "connection.sni": SNI,
}
HTTP_KEYS: Mapping[str, tuple[str, ...]] = {
    "request.headers[x-user]": ("admin", "*"),
    "request.auth.principal": ("issuer/subject",),
    "request.auth.audiences": ("tcp",),
    "request.auth.presenter": ("tcp",),
    "request.auth.claims[iss]": ("*",),
}
HTTP_OPERATION = (
    ("methods", ("GET", "*")),
    ("paths", ("/admin*", "*")),
    ("hosts", ("*.example", "tcp-echo")),
)
HTTP_SOURCE = (("requestPrincipals", ("*", "issuer/subject")),)


def values_of(key: str, features: frozenset[str]) -> tuple[str, ...]:
    """What can be drawn for a key on a mesh with these features."""
    if "trust-domain-alias" in features and key == "source.principal":
        return (*PRINCIPALS, *ALIASED)
    if "trust-domain-alias" in features and key == "source.trustDomain":
        return (*DOMAINS, "alias.example", "*.example")
    return VALUES[key]
