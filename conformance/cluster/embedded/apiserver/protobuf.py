"""Protobuf request bodies, as `kubectl create` sends them: decoded to the JSON form by a table of fields.

The envelope is `k8s\\0` followed by runtime.Unknown {1: TypeMeta {1: apiVersion, 2: kind}, 2: raw object}.
The fields stand in protobuf_fields.py.
"""

from __future__ import annotations

import base64
import datetime
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from conformance.cluster.embedded.apiserver.protobuf_fields import KINDS, MESSAGES
from conformance.cluster.embedded.apiserver.status import bad_request, unsupported_media_type

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"
_JSON_TYPES = ("application/json", "application/yaml", MEDIA_TYPE)


class _Malformed(Exception):
    """The bytes are no protobuf of the expected shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a message: its name in JSON and the shape of its value."""

    name: str
    type: str
    repeated: bool
    map: bool
    pointer: bool  # an explicit zero means something: it is kept
    inline: bool


def _compile(text: str) -> dict[int, Field]:
    """`4 replicas?:int` `2 containers*:Container` `11 labels%:string` `1 =SecretReference` (inlined)."""
    fields = {}
    words = text.split()
    for number, declaration in zip(words[::2], words[1::2], strict=True):
        inline = declaration.startswith("=")
        name, _, kind = ("", "", declaration[1:]) if inline else declaration.partition(":")
        fields[int(number)] = Field(
            name=name.rstrip("?*%"),
            type=kind,
            repeated=name.endswith("*"),
            map=name.endswith("%"),
            pointer=name.endswith("?"),
            inline=inline,
        )
    return fields


@functools.cache
def table(message: str) -> Mapping[int, Field]:
    """The fields of a message, by number."""
    return _compile(MESSAGES[message])


def decode(body: bytes) -> dict[str, Any]:
    """The object in the envelope, with apiVersion and kind.

    Raises ApiError: 400 where it is malformed, 415 where the kind has no table.
    """
    if not body.startswith(MAGIC):
        raise bad_request("provided data does not appear to be a protobuf message, expected prefix k8s")
    try:
        envelope = {number: value for number, _, value in _read(body[len(MAGIC) :])}
        type_meta = {number: value for number, _, value in _read(envelope.get(1, b""))}
        api_version = type_meta.get(1, b"").decode()
        kind = type_meta.get(2, b"").decode()
        message = KINDS.get((api_version, kind))
        if message is None:
            raise unsupported_media_type(_JSON_TYPES)
        obj = _message(message, envelope.get(2, b""))
    except (_Malformed, UnicodeDecodeError, AttributeError, IndexError) as error:
        raise bad_request(
            f"the object provided is unrecognized (must be of type protobuf): {error}"
        ) from error
    return {"apiVersion": api_version, "kind": kind} | obj


def _read(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """(field number, wire type, value): bytes for length-delimited fields, unsigned ints otherwise."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, wire, value
        elif wire == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise _Malformed("unexpected EOF")
            yield number, wire, data[at : at + length]
            at += length
        elif wire in (1, 5):
            width = 8 if wire == 1 else 4
            yield number, wire, int.from_bytes(data[at : at + width], "little")
            at += width
        else:
            raise _Malformed(f"illegal wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise _Malformed("integer overflow")


def _message(name: str, data: bytes) -> dict[str, Any]:
    fields = table(name)
    obj: dict[str, Any] = {}
    for number, wire, raw in _read(data):
        field = fields.get(number)
        if field is None:
            continue  # a newer client's field: unknown fields are dropped, as a real server does
        if wire == 2 and not field.repeated and not field.map and field.type in ("int", "bool"):
            raise _Malformed(f"field {field.name} is no number")
        if field.inline:
            obj |= _message(field.type, raw)
        elif field.map:
            entry = {n: v for n, _, v in _read(raw)}
            key = entry.get(1, b"").decode()
            obj.setdefault(field.name, {})[key] = _value(field.type, entry.get(2, b""))
        elif field.repeated:
            obj.setdefault(field.name, []).append(_value(field.type, raw))
        else:
            value = _value(field.type, raw)
            if field.pointer or value not in ("", 0, False, None, {}):
                obj[field.name] = value
    return obj


def _value(kind: str, raw: Any) -> Any:
    if kind == "string":
        return raw.decode()
    if kind == "int":
        return raw - (1 << 64) if raw >> 63 else raw
    if kind == "bool":
        return bool(raw)
    if kind == "bytes":
        return base64.b64encode(raw).decode()
    if kind == "Quantity":
        return _message("_Quantity", raw).get("string", "0")
    if kind in ("Time", "MicroTime"):
        return _time(_message("_Time", raw), micro=kind == "MicroTime")
    if kind == "IntOrString":
        parts = _message("_IntOrString", raw)
        return parts.get("strVal", "") if parts.get("type") == 1 else parts.get("intVal", 0)
    if kind == "StringList":
        return _message("_StringList", raw).get("items", [])
    return _message(kind, raw)


def _time(parts: dict[str, Any], *, micro: bool) -> str | None:
    seconds = parts.get("seconds", 0)
    if not seconds and not parts.get("nanos", 0):
        return None
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    if micro:
        return moment.replace(microsecond=parts.get("nanos", 0) // 1000).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
