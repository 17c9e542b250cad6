"""Label and field selectors as they stand in a query string."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from conformance.cluster.embedded.apiserver.status import bad_request

Matcher = Callable[[Mapping[str, Any]], bool]

_REQUIREMENT = re.compile(
    r"""\s*(?:
    (?P<absent>!)\s*(?P<absent_key>[\w./-]+)
    | (?P<set_key>[\w./-]+)\s+(?P<set_op>in|notin)\s*\((?P<values>[^)]*)\)
    | (?P<key>[\w./-]+)\s*(?P<op>==|!=|=)\s*(?P<value>[\w./-]*)
    | (?P<present_key>[\w./-]+)
    )\s*(?:,|$)""",
    re.VERBOSE,
)
_FIELD = re.compile(r"^\s*(?P<path>[\w.\[\]-]+?)\s*(?P<op>==|!=|=)\s*(?P<value>.*?)\s*$")

_EVERYWHERE = ("metadata.name", "metadata.namespace")
# The field labels each kind knows, beyond the two of all kinds.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "pods": (
        *("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName"),
        *("status.phase", "status.podIP", "spec.hostNetwork"),
    ),
    "events": (
        *("involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid"),
        *("involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath"),
        *("reason", "reportingComponent", "source", "type"),
    ),
    "namespaces": ("status.phase",),
    "nodes": ("spec.unschedulable",),
    "secrets": ("type",),
    "services": ("spec.clusterIP", "spec.type"),
}


def label_matcher(text: str) -> Matcher | None:
    """None for an empty selector. Raises ApiError 400 for a malformed one."""
    tests: list[Matcher] = []
    position = 0
    while position < len(text):
        found = _REQUIREMENT.match(text, position)
        if found is None:
            raise bad_request(f"unable to parse requirement: {text!r}")
        tests.append(_label_test(found))
        position = found.end()
    if not tests:
        return None

    def matches(obj: Mapping[str, Any]) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return all(test(labels) for test in tests)

    return matches


def _label_test(found: re.Match[str]) -> Matcher:
    if key := found["absent_key"]:
        return lambda labels: key not in labels
    if key := found["present_key"]:
        return lambda labels: key in labels
    if key := found["set_key"]:
        values = {value.strip() for value in found["values"].split(",")}
        if found["set_op"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    key, value = found["key"], found["value"]
    if found["op"] == "!=":
        return lambda labels: labels.get(key) != value
    return lambda labels: labels.get(key) == value


def field_matcher(text: str, plural: str) -> Matcher | None:
    """None for an empty selector. Raises ApiError 400 for a field label that the kind does not know."""
    tests: list[tuple[tuple[str, ...], bool, str]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _FIELD.match(part)
        if found is None:
            raise bad_request(f"invalid selector: {text!r}; can't understand {part!r}")
        path = found["path"]
        if path not in _EVERYWHERE and path not in _FIELDS.get(plural, ()):
            raise bad_request(f'Unable to find "{plural}" that match field selector: {path}')
        tests.append((tuple(path.split(".")), found["op"] != "!=", found["value"]))
    if not tests:
        return None

    def matches(obj: Mapping[str, Any]) -> bool:
        return all((_field(obj, path) == value) is equal for path, equal, value in tests)

    return matches


def _field(obj: Mapping[str, Any], path: tuple[str, ...]) -> str:
    node: Any = obj
    for name in path:
        node = node.get(name) if isinstance(node, Mapping) else None
    if path == ("source",) and isinstance(node, Mapping):
        node = node.get("component")
    if isinstance(node, bool):
        return "true" if node else "false"
    return "" if node is None else str(node)


def name_in(text: str) -> str | None:
    """The one name a field selector asks for, if it does: `metadata.name=x`."""
    for part in text.split(","):
        found = _FIELD.match(part)
        if found is not None and found["path"] == "metadata.name" and found["op"] != "!=":
            return found["value"]
    return None
