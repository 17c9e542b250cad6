"""What the API refuses beyond the form, and what it warns of while it accepts."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.oracle.shape import PEER, POLICY, Invalid, shaped

__all__ = ["DRY_RUN", "Valid", "is_http_only", "validate"]

DRY_RUN = "istio.io/dry-run"
BOOLEANS = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True)
BOOLEANS |= dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False)
SHAPES = {"AuthorizationPolicy": POLICY, "PeerAuthentication": PEER}
IDENTITY = ("principals", "namespaces", "serviceAccounts", "trustDomains")
END_USER = ("requestPrincipals", "notRequestPrincipals")
HTTP_FIELDS = frozenset(
    name
    for plain in ("hosts", "methods", "paths", "requestPrincipals")
    for name in (plain, f"not{plain[0].upper()}{plain[1:]}")
)
HTTP_KEYS = ("request.auth.principal", "request.auth.audiences", "request.auth.presenter")
BRACKETED = re.compile(r"request\.(headers\[[^\[\]]+\]|auth\.claims(\[[^\[\]]+\])+)")
IDENTITY_KEYS = (
    "source.principal",
    "source.namespace",
    "source.serviceAccount",
    "source.trustDomain",
)
ADDRESS_KEYS = ("source.ip", "remote.ip", "destination.ip")
KEYS = frozenset((*IDENTITY_KEYS, *ADDRESS_KEYS, "destination.port", "connection.sni", *HTTP_KEYS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Valid:
    """A document as the API stores it: its spec without blank and unknown fields."""

    spec: Mapping[str, Any]
    dry_run: bool
    warnings: tuple[str, ...]


def is_http_only(name: str) -> bool:
    """Whether a field of a source or operation, or a key of `when`, exists in HTTP alone."""
    return name in HTTP_FIELDS or name.startswith("request.")


def validate(document: Mapping[str, Any], *, strict: bool = False) -> Valid:
    """Raises Invalid where the API refuses the document. `strict` is the API's strict field validation,
    which kubectl asks for; without it unknown fields are dropped with a warning."""
    kind = document.get("kind")
    shape = SHAPES.get(str(kind))
    if shape is None:
        raise Invalid("kind", f"{kind} is not known here, only {', '.join(SHAPES)}")
    warnings: list[str] = []
    # A blank spec is stored and means an empty one.
    written = document.get("spec")
    spec = shaped({} if written is None else written, shape, "spec", strict=strict, warnings=warnings)
    _selector(spec, warnings)
    dry_run = _dry_run(document, str(kind), spec.get("action", "ALLOW"))
    if kind == "PeerAuthentication":
        _port_levels(spec)
    else:
        _policy(spec, warnings)
    return Valid(spec=spec, dry_run=dry_run, warnings=tuple(warnings))


def _selector(spec: Mapping[str, Any], warnings: list[str]) -> None:
    selector = spec.get("selector")
    if selector is None:
        return
    if "targetRef" in spec or "targetRefs" in spec:
        raise Invalid("spec.selector", "stands beside targetRefs; only one of them can select")
    labels = selector.get("matchLabels") or {}
    for key, value in labels.items():
        if not key:
            raise Invalid("spec.selector.matchLabels", "has an empty key")
        if "*" in key or "*" in value:
            raise Invalid("spec.selector.matchLabels", f"{key}: {value}: wildcards are not supported")
    if not labels:
        warnings.append("the selector is empty, so it selects the whole namespace")


def _dry_run(document: Mapping[str, Any], kind: str, action: str) -> bool:
    annotations = (document.get("metadata") or {}).get("annotations") or {}
    if DRY_RUN not in annotations:
        return False
    path, value = f"metadata.annotations[{DRY_RUN}]", annotations[DRY_RUN]
    if not isinstance(value, str) or value not in BOOLEANS:
        raise Invalid(path, f"{value!r} is no boolean")
    if kind != "AuthorizationPolicy":
        raise Invalid(path, f"{kind} has no dry-run")
    if action not in ("ALLOW", "DENY"):
        raise Invalid(path, f"only ALLOW and DENY have a dry-run, {action} has none")
    return BOOLEANS[value]


def _port_levels(spec: Mapping[str, Any]) -> None:
    levels = spec.get("portLevelMtls")
    if levels is None:
        return
    if not (spec.get("selector") or {}).get("matchLabels"):
        raise Invalid("spec.portLevelMtls", "needs a selector")
    if not levels:
        raise Invalid("spec.portLevelMtls", "must not be empty")
    for port in levels:
        if not _is_port(str(port)) or int(port) == 0:
            raise Invalid(f"spec.portLevelMtls.{port}", "is no port")


def _policy(spec: Mapping[str, Any], warnings: list[str]) -> None:
    if "targetRef" in spec and "targetRefs" in spec:
        raise Invalid("spec.targetRef", "stands beside targetRefs")
    action, rules = spec.get("action", "ALLOW"), spec.get("rules") or []
    if action in ("DENY", "CUSTOM") and not rules:
        raise Invalid("spec.rules", f"{action} without rules can never match")
    provider = spec.get("provider")
    if action == "CUSTOM" and not (provider or {}).get("name"):
        raise Invalid("spec.provider", "CUSTOM needs the name of a provider")
    if action != "CUSTOM" and provider is not None:
        raise Invalid("spec.provider", f"{action} has no provider")
    for index, rule in enumerate(rules):
        _rule(rule, f"spec.rules[{index}]", action)
        if action == "DENY" and _denies_all_tcp(rule):
            warnings.append(f"spec.rules[{index}] denies all TCP traffic in its scope")


def _rule(rule: Mapping[str, Any], path: str, action: str) -> None:
    for index, entry in enumerate(rule.get("from") or []):
        _source(entry.get("source") or {}, f"{path}.from[{index}].source", action)
    for index, entry in enumerate(rule.get("to") or []):
        operation, where = entry.get("operation") or {}, f"{path}.to[{index}].operation"
        _filled(operation, where)
        for name in ("ports", "notPorts"):
            _ports(operation.get(name) or [], f"{where}.{name}")
    for index, condition in enumerate(rule.get("when") or []):
        _condition(condition, f"{path}.when[{index}]", action)


def _filled(fields: Mapping[str, Sequence[str]], path: str) -> None:
    if not any(fields.values()):
        raise Invalid(path, "must not be empty")
    for name, values in fields.items():
        for index, value in enumerate(values):
            if not value:
                raise Invalid(f"{path}.{name}[{index}]", "must not be an empty string")


def _source(source: Mapping[str, Sequence[str]], path: str, action: str) -> None:
    _filled(source, path)
    signed = {name: [name, f"not{name[0].upper()}{name[1:]}"] for name in (*IDENTITY, "ipBlocks")}
    if action == "CUSTOM":
        for name in (*(field for key in IDENTITY for field in signed[key]), *END_USER):
            if name in source:
                raise Invalid(f"{path}.{name}", "CUSTOM cannot be bound to identities")
    others = [*signed["principals"], *signed["namespaces"]]
    for name in signed["serviceAccounts"]:
        if name in source and any(other in source for other in others):
            raise Invalid(f"{path}.{name}", "stands beside principals or namespaces")
        for index, value in enumerate(source.get(name) or []):
            _account(value, f"{path}.{name}[{index}]")
    for name in signed["trustDomains"]:
        for index, value in enumerate(source.get(name) or []):
            _trust_domain(value, f"{path}.{name}[{index}]", slash=False)
    for name in (*signed["ipBlocks"], "remoteIpBlocks", "notRemoteIpBlocks"):
        _addresses(source.get(name) or [], f"{path}.{name}")


def _account(value: str, path: str) -> None:
    parts = value.split("/")
    if "*" in value:
        raise Invalid(path, f"{value!r}: wildcards are not supported")
    if len(parts) > 2 or not all(parts):
        raise Invalid(path, f"{value!r} is neither `account` nor `namespace/account`")


def _trust_domain(value: str, path: str, *, slash: bool) -> None:
    if value.count("*") > 1 or "*" in value[1:-1]:
        raise Invalid(path, f"{value!r}: one wildcard is allowed, at the beginning or at the end")
    if "/" in value and not slash:
        raise Invalid(path, f"{value!r}: a trust domain has no slash")


def _condition(condition: Mapping[str, Any], path: str, action: str) -> None:
    key = condition["key"]
    if key not in KEYS and not BRACKETED.fullmatch(key):
        raise Invalid(f"{path}.key", f"{key!r} is not known" if key else "must not be empty")
    if action == "CUSTOM" and (key in IDENTITY_KEYS or key.startswith("request.auth.")):
        raise Invalid(f"{path}.key", "CUSTOM cannot be bound to identities")
    lists = {name: condition.get(name) or [] for name in ("values", "notValues")}
    if not any(lists.values()):
        raise Invalid(path, "has neither values nor notValues")
    for name, values in lists.items():
        where = f"{path}.{name}"
        if values:
            _filled({name: values}, path)
        if key in ADDRESS_KEYS:
            _addresses(values, where)
        elif key == "destination.port":
            _ports(values, where)
        elif key == "source.trustDomain":
            for index, value in enumerate(values):
                _trust_domain(value, f"{where}[{index}]", slash=True)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text[-9:]) <= 65535 and not text[:-9].strip("0")


def _ports(values: Sequence[str], path: str) -> None:
    for index, value in enumerate(values):
        if not _is_port(value):
            raise Invalid(f"{path}[{index}]", f"{value!r} is no port (0..65535 in digits)")


def _addresses(values: Sequence[str], path: str) -> None:
    for index, value in enumerate(values):
        if not _is_block(value):
            raise Invalid(f"{path}[{index}]", f"{value!r} is no address and no CIDR")


def _is_block(text: str) -> bool:
    _, slash, length = text.partition("/")
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    # Python also reads netmasks and zones, which no CIDR has.
    return "%" not in text and (not slash or length.isdigit())


def _denies_all_tcp(rule: Mapping[str, Any]) -> bool:
    operations = [entry["operation"] for entry in rule.get("to") or []]
    if operations:
        return any(not item.get("ports") and not item.get("notPorts") for item in operations)
    sources = [entry["source"] for entry in rule.get("from") or []]
    return any(all(is_http_only(name) for name, values in item.items() if values) for item in sources)
