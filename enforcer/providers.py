"""Extension providers of the mesh configuration: the external authorizers that CUSTOM policies may name.

The shape is that of Istio's meshConfig.extensionProviders, as far as it is about authorization.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from enforcer.errors import MeshError

GRPC, HTTP = "envoyExtAuthzGrpc", "envoyExtAuthzHttp"
_OPTION = "extensionProviders"
_SHARED = (
    "service",
    "port",
    "timeout",
    "failOpen",
    "statusOnError",
    "clearRouteCache",
    "includeRequestBodyInCheck",
)
# What says something about HTTP requests alone is known, and means nothing here.
_KNOWN = {
    GRPC: _SHARED,
    HTTP: (
        *_SHARED,
        "pathPrefix",
        "includeRequestHeadersInCheck",
        "includeAdditionalHeadersInCheck",
        "headersToUpstreamOnAllow",
        "headersToDownstreamOnDeny",
        "headersToDownstreamOnAllow",
    ),
}
_LABEL = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_SERVICE = re.compile(
    rf"((?P<within>{_LABEL})/)?(?P<name>{_LABEL})\.(?P<namespace>{_LABEL})\.svc\.cluster\.local"
)
_DURATION = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)(?P<unit>ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
DEFAULT_TIMEOUT_SECONDS = 600.0
"""Istio's, long on purpose: who wants an answer sooner says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """An external authorizer: where it is, and what is to be done where it gives no answer."""

    name: str
    grpc: bool
    """Only such a one can be asked about a TCP connection."""
    service: str
    namespace: str
    port: int
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    fail_open: bool = False

    @property
    def host(self) -> str:
        return f"{self.service}.{self.namespace}.svc.cluster.local"


def read_providers(value: object) -> tuple[Provider, ...]:
    """The providers of a parsed list. Raises MeshError, naming the entry, for what could not be meant."""
    if not isinstance(value, list):
        raise MeshError(f"mesh option {_OPTION} must be a list, not {value!r}")
    found: dict[str, Provider] = {}
    for index, item in enumerate(value):
        provider = _provider(item, f"mesh option {_OPTION}[{index}]")
        if provider.name in found:
            raise MeshError(f"mesh option {_OPTION}[{index}]: a second provider is named {provider.name!r}")
        found[provider.name] = provider
    return tuple(found.values())


def _provider(item: object, where: str) -> Provider:
    if not isinstance(item, Mapping):
        raise MeshError(f"{where} must be a mapping, not {item!r}")
    name, kinds = item.get("name"), [kind for kind in (GRPC, HTTP) if kind in item]
    if not isinstance(name, str) or not name:
        raise MeshError(f"{where} needs a name")
    if len(kinds) != 1 or set(item) != {"name", *kinds}:
        raise MeshError(f"{where} ({name}) must have a name and one of {GRPC} and {HTTP}, and nothing else")
    [kind] = kinds
    where, body = f"{where}.{kind}", item[kind]
    if not isinstance(body, Mapping):
        raise MeshError(f"{where} must be a mapping, not {body!r}")
    for key in body:
        if key not in _KNOWN[kind]:
            raise MeshError(f"{where} has no option {key!r}; known are {', '.join(_KNOWN[kind])}")
    service, port, fail_open = body.get("service"), body.get("port"), body.get("failOpen", False)
    address = _SERVICE.fullmatch(service) if isinstance(service, str) else None
    if address is None or address["within"] not in (None, address["namespace"]):
        rule = "NAME.NAMESPACE.svc.cluster.local, or NAMESPACE/ and that"
        raise MeshError(f"{where}.service: {service!r} is no Service of the cluster ({rule})")
    if type(port) is not int or not 1 <= port <= 65535:
        raise MeshError(f"{where}.port: {port!r} is not a port (1..65535)")
    if not isinstance(fail_open, bool):
        raise MeshError(f"{where}.failOpen: {fail_open!r} is not a boolean")
    return Provider(
        name=name,
        grpc=kind == GRPC,
        service=address["name"],
        namespace=address["namespace"],
        port=port,
        timeout_seconds=_seconds(body.get("timeout"), where),
        fail_open=fail_open,
    )


def _seconds(value: object, where: str) -> float:
    if value is None:
        return DEFAULT_TIMEOUT_SECONDS
    duration = _DURATION.fullmatch(value) if isinstance(value, str) else None
    seconds = float(duration["number"]) * _UNITS[duration["unit"]] if duration else 0.0
    if seconds < 0.001:
        raise MeshError(f"{where}.timeout: {value!r} is not a duration of 1ms or more (0.5s, 2s, 1m)")
    return seconds
