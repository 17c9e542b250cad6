"""What a pod tells its containers about itself: environment variables, $(VAR) expansion, the downward API."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

Object = dict[str, Any]
# (kind, name) -> the ConfigMap or Secret of the pod's namespace as {key: bytes}; None where there is none.
Lookup = Callable[[str, str], Awaitable[Mapping[str, bytes] | None]]

NODE_NAME = "embedded"
NODE_IP = "169.254.1.1"
NODE_IP6 = "fd00:10:244::1"
SERVICE_ENVIRONMENT = {
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "KUBERNETES_SERVICE_PORT": "443",
    "KUBERNETES_SERVICE_PORT_HTTPS": "443",
}

REFERENCE = re.compile(r"\$\$|\$\(([^()$]*)\)")
SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
QUANTITY = re.compile(r"([+-]?[0-9.]+)([eE][+-]?[0-9]+|[KMGTPE]i|[numkKMGTPE]|)")
SUFFIXES = {"": 0, "n": -9, "u": -6, "m": -3, "k": 3, "K": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


class ConfigError(Exception):
    """A container cannot be made from its pod's spec as things stand; the message says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """What is known of a pod beside its object."""

    pod: Object
    ip: str
    ip6: str = ""
    """Empty where the node has no IPv6."""


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace $(NAME) by its value; an unknown one stays as it is, $$ is a dollar sign."""

    def value(match: re.Match[str]) -> str:
        if match.group(0) == "$$":
            return "$"
        return variables.get(match.group(1), match.group(0))

    return REFERENCE.sub(value, text)


def command_of(container: Object, variables: Mapping[str, str]) -> tuple[str, ...]:
    """The container's argv; the one image has no entrypoint of its own."""
    parts: Sequence[str] = [*(container.get("command") or ()), *(container.get("args") or ())]
    return tuple(expand(part, variables) for part in parts)


async def environment_of(
    container: Object, facts: PodFacts, *, image: Mapping[str, str], lookup: Lookup
) -> dict[str, str]:
    """The container's environment: the image's, the API's address, envFrom, env. Raises ConfigError."""
    variables = dict(image)
    variables["HOSTNAME"] = facts.pod["spec"].get("hostname") or facts.pod["metadata"]["name"]
    variables |= SERVICE_ENVIRONMENT
    for source in container.get("envFrom") or ():
        variables |= await bulk_values(source, lookup)
    for entry in container.get("env") or ():
        if entry.get("valueFrom"):
            value = await referred_value(entry["valueFrom"], container, facts, lookup)
            if value is not None:
                variables[entry["name"]] = value
        else:
            variables[entry["name"]] = expand(entry.get("value") or "", variables)
    return variables


async def bulk_values(source: Object, lookup: Lookup) -> dict[str, str]:
    """The variables of one envFrom entry."""
    prefix = source.get("prefix") or ""
    for field, kind in (("configMapRef", "configmap"), ("secretRef", "secret")):
        reference = source.get(field)
        if reference:
            data = await looked_up(kind, reference, lookup)
            return {prefix + key: text.decode(errors="replace") for key, text in (data or {}).items()}
    return {}


async def referred_value(source: Object, container: Object, facts: PodFacts, lookup: Lookup) -> str | None:
    """The value behind a valueFrom; None where an optional one is not there."""
    if "fieldRef" in source:
        return field_value(source["fieldRef"]["fieldPath"], facts)
    if "resourceFieldRef" in source:
        return resource_value(source["resourceFieldRef"], container, facts.pod)
    for field, kind in (("configMapKeyRef", "configmap"), ("secretKeyRef", "secret")):
        reference = source.get(field)
        if not reference:
            continue
        data = await looked_up(kind, reference, lookup)
        if data is not None and reference["key"] in data:
            return data[reference["key"]].decode(errors="replace")
        if reference.get("optional"):
            return None
        title = {"configmap": "ConfigMap", "secret": "Secret"}[kind]
        namespace = facts.pod["metadata"]["namespace"]
        raise ConfigError(f"couldn't find key {reference['key']} in {title} {namespace}/{reference['name']}")
    raise ConfigError(f"unknown source of a variable: {', '.join(source)}")


async def looked_up(kind: str, reference: Object, lookup: Lookup) -> Mapping[str, bytes] | None:
    """The data that a reference names; None where it may be absent and is. Raises ConfigError."""
    data = await lookup(kind, reference["name"])
    if data is None and not reference.get("optional"):
        raise ConfigError(f'{kind} "{reference["name"]}" not found')
    return data


def field_value(path: str, facts: PodFacts) -> str:
    """A field of the pod by the downward API. Raises ConfigError for a path it does not offer."""
    metadata, spec = facts.pod["metadata"], facts.pod["spec"]
    if subscript := SUBSCRIPT.fullmatch(path):
        field, key = subscript.groups()
        return str((metadata.get(field) or {}).get(key, ""))
    if path in ("metadata.labels", "metadata.annotations"):
        entries = metadata.get(path.removeprefix("metadata.")) or {}
        return "\n".join(f'{key}="{escape(value)}"' for key, value in sorted(entries.items()))
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName") or NODE_NAME,
        "spec.serviceAccountName": spec.get("serviceAccountName") or "default",
        "status.podIP": facts.ip,
        "status.podIPs": f"{facts.ip},{facts.ip6}" if facts.ip6 else facts.ip,
        "status.hostIP": NODE_IP,
        "status.hostIPs": f"{NODE_IP},{NODE_IP6}" if facts.ip6 else NODE_IP,
    }
    if path not in known:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return str(known[path])


def escape(value: str) -> str:
    """A label or annotation value between quotes, as Go's %q writes it."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")


def resource_value(reference: Object, container: Object, pod: Object) -> str:
    """limits.cpu and its like in units of the divisor, rounded up; 0 where the container states none."""
    name = reference.get("containerName")
    if name:
        everyone = [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]
        found = [other for other in everyone if other["name"] == name]
        if not found:
            raise ConfigError(f"container {name} not found")
        container = found[0]
    section, _, resource = reference["resource"].partition(".")
    amount = ((container.get("resources") or {}).get(section) or {}).get(resource, "0")
    divisor = quantity(str(reference.get("divisor") or "1")) or Decimal(1)
    return str((quantity(str(amount)) / divisor).to_integral_value(ROUND_CEILING))


def quantity(text: str) -> Decimal:
    """A Kubernetes quantity as a number. Raises ConfigError."""
    match = QUANTITY.fullmatch(text)
    if match is None:
        raise ConfigError(f"not a quantity: {text}")
    number, suffix = Decimal(match.group(1)), match.group(2)
    if suffix.endswith("i"):
        return number * Decimal(1024) ** (1 + "KMGTPE".index(suffix[0].upper()))
    if suffix[:1] in ("e", "E") and len(suffix) > 1:
        return number * Decimal(10) ** int(suffix[1:])
    return number * Decimal(10) ** SUFFIXES[suffix]
