"""The form of a document: types, unknown fields, limits, and what the API makes of blank values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["PEER", "POLICY", "Invalid", "shaped"]


class Invalid(Exception):
    """A document that the API refuses. `path` says where (`spec.rules[0].to[0].operation.ports[1]`)."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}" if path else why)
        self.path = path
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    longest: int | None = None
    one_of: tuple[str, ...] = ()
    filled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Many:
    of: Shape
    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    known: Mapping[str, Shape]
    required: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Any keys, all values of one shape."""

    of: Shape


Shape = Text | Many | Fields | Table

TEXTS = Many(of=Text())
ACCOUNTS = Many(of=Text(longest=320), most=16)
SOURCE = {
    f"{head}{name[0].upper() if head else name[0]}{name[1:]}": shape
    for head in ("", "not")
    for name, shape in {
        "principals": TEXTS,
        "namespaces": TEXTS,
        "serviceAccounts": ACCOUNTS,
        "trustDomains": TEXTS,
        "requestPrincipals": TEXTS,
        "ipBlocks": TEXTS,
        "remoteIpBlocks": TEXTS,
    }.items()
}
OPERATION = dict.fromkeys(
    ("ports", "notPorts", "hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"), TEXTS
)
SELECTOR = Fields(known={"matchLabels": Table(of=Text(longest=63))})
TARGET = Fields(
    known={"group": Text(), "kind": Text(filled=True), "name": Text(filled=True), "namespace": Text()},
    required=("kind", "name"),
)
RULE = Fields(
    known={
        "from": Many(of=Fields(known={"source": Fields(known=SOURCE)}), most=512),
        "to": Many(of=Fields(known={"operation": Fields(known=OPERATION)})),
        "when": Many(
            of=Fields(known={"key": Text(), "values": TEXTS, "notValues": TEXTS}, required=("key",))
        ),
    }
)
POLICY = Fields(
    known={
        "action": Text(one_of=("ALLOW", "DENY", "AUDIT", "CUSTOM")),
        "provider": Fields(known={"name": Text()}),
        "selector": SELECTOR,
        "targetRef": TARGET,
        "targetRefs": Many(of=TARGET, most=16),
        "rules": Many(of=RULE, most=512),
    }
)
MODE = Fields(known={"mode": Text(one_of=("UNSET", "DISABLE", "PERMISSIVE", "STRICT"))})
PEER = Fields(known={"selector": SELECTOR, "mtls": MODE, "portLevelMtls": Table(of=MODE)})


def shaped(value: Any, shape: Shape, path: str, *, strict: bool, warnings: list[str]) -> Any:
    """The value as the API stores it: fields that are null or unknown are gone. Unknown fields are refused
    where `strict`, else told in `warnings`. Raises Invalid."""
    match shape:
        case Text():
            return _text(value, shape, path)
        case Many():
            return _many(value, shape, path, strict=strict, warnings=warnings)
        case Fields():
            return _fields(value, shape, path, strict=strict, warnings=warnings)
        case Table():
            items = _mapping(value, path).items()
            return {
                str(key): shaped(item, shape.of, f"{path}.{key}", strict=strict, warnings=warnings)
                for key, item in items
            }


def _text(value: Any, shape: Text, path: str) -> str:
    if not isinstance(value, str):
        raise Invalid(path, f"must be a string, not {_kind(value)}")
    if shape.one_of and value not in shape.one_of:
        raise Invalid(path, f"{value!r} is none of {', '.join(shape.one_of)}")
    if shape.filled and not value:
        raise Invalid(path, "must not be empty")
    if shape.longest is not None and len(value) > shape.longest:
        raise Invalid(path, f"is longer than {shape.longest} characters")
    return value


def _many(value: Any, shape: Many, path: str, *, strict: bool, warnings: list[str]) -> list[Any]:
    if not isinstance(value, list):
        raise Invalid(path, f"must be a list, not {_kind(value)}")
    if shape.most is not None and len(value) > shape.most:
        raise Invalid(path, f"has {len(value)} items, at most {shape.most} are allowed")
    return [
        shaped(item, shape.of, f"{path}[{index}]", strict=strict, warnings=warnings)
        for index, item in enumerate(value)
    ]


def _fields(value: Any, shape: Fields, path: str, *, strict: bool, warnings: list[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, item in _mapping(value, path).items():
        if key not in shape.known:
            if strict:
                raise Invalid(f"{path}.{key}", "unknown field")
            warnings.append(f'unknown field "{path}.{key}"')
        elif item is not None:
            kept[key] = shaped(item, shape.known[key], f"{path}.{key}", strict=strict, warnings=warnings)
    for key in shape.required:
        if key not in kept:
            raise Invalid(f"{path}.{key}", "is required")
    return kept


def _mapping(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Invalid(path, f"must be a mapping, not {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {value!r}"
