"""What a request asks: which resource, which verb, with which options and which body."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from conformance.cluster.embedded.apiserver.auth import User
from conformance.cluster.embedded.apiserver.protobuf import MEDIA_TYPE, decode
from conformance.cluster.embedded.apiserver.registry import Registry, Resource
from conformance.cluster.embedded.apiserver.status import bad_request, unsupported_media_type
from conformance.cluster.embedded.apiserver.typed import check_metadata

JSON_TYPE = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCHES = ("application/apply-patch+yaml", "application/apply-patch+json")
_TRUE = ("true", "1", "True", "t", "T", "TRUE")
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a path names. `namespace` and `name` are "" where the path has none."""

    resource: Resource
    namespace: str
    name: str
    subresource: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One authenticated request for a resource. `warnings` become Warning headers of the answer."""

    request: web.Request
    user: User
    verb: str
    target: Target
    warnings: list[str] = field(default_factory=list)

    @property
    def resource(self) -> Resource:
        return self.target.resource

    def option(self, name: str) -> str:
        return self.request.query.get(name, "")

    def flag(self, name: str) -> bool:
        return self.option(name) in _TRUE

    def number(self, name: str) -> int | None:
        text = self.option(name)
        if not text:
            return None
        try:
            return int(text)
        except ValueError:
            raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None

    @property
    def dry_run(self) -> bool:
        asked = self.request.query.getall("dryRun", [])
        return is_dry_run([value for value in asked if value])

    @property
    def field_validation(self) -> str:
        """Strict, Warn or Ignore."""
        asked = self.option("fieldValidation") or "Warn"
        if asked not in ("Strict", "Warn", "Ignore"):
            raise bad_request(
                f'fieldValidation: Unsupported value: "{asked}": supported values: "Ignore", "Strict", "Warn"'
            )
        return asked


def is_dry_run(values: Any) -> bool:
    if not values:
        return False
    if list(values) != ["All"]:
        raise bad_request(f'dryRun: Unsupported value: {values}: supported values: "All"')
    return True


def parse_path(registry: Registry, path: str) -> Target | None:
    """None where the path names no served resource."""
    parts = [urllib.parse.unquote(part) for part in path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    # /namespaces/<name>/<resource>... is a scope; /namespaces/<name>[/status|/finalize] the namespace itself.
    if (
        rest[0] == "namespaces"
        and len(rest) > 2
        and not (rest[2] in ("status", "finalize") and len(rest) == 3)
    ):
        namespace, rest = rest[1], rest[2:]
    resource = registry.find(group, version, rest[0])
    if resource is None or len(rest) > 3 or not all(rest):
        return None
    if namespace and not resource.namespaced:
        return None
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    if name and resource.namespaced and not namespace:
        return None
    if subresource and subresource not in resource.subresources:
        return None
    return Target(resource=resource, namespace=namespace, name=name, subresource=subresource)


def verb_of(request: web.Request, target: Target) -> str:
    method = request.method
    if method == "GET":
        if target.name:
            return "get"
        return "watch" if request.query.get("watch", "") in _TRUE else "list"
    if method == "DELETE":
        return "delete" if target.name else "deletecollection"
    return _VERBS.get(method, method.lower())


def media_type(request: web.Request) -> str:
    return request.headers.get("Content-Type", JSON_TYPE).partition(";")[0].strip().lower() or JSON_TYPE


def parse_json(body: bytes, *, duplicates: list[str] | None = None) -> Any:
    """Fields that stand twice are reported into `duplicates`. Raises ApiError 400."""

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        obj = dict(pairs)
        if duplicates is not None and len(obj) != len(pairs):
            seen: set[str] = set()
            duplicates.extend(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        return obj

    try:
        return json.loads(body, object_pairs_hook=None if duplicates is None else collect)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"the object provided is unrecognized: couldn't parse JSON: {error}") from None


async def read_object(call: Call, *, kind: str = "", api_version: str = "") -> dict[str, Any]:
    """The body as an object of the target's kind (or of `kind`, of the subresource). Raises ApiError."""
    body = await call.request.read()
    content_type = media_type(call.request)
    strictness = call.field_validation
    duplicates: list[str] = []
    if content_type == MEDIA_TYPE:
        obj: Any = decode(body)
    elif content_type in (JSON_TYPE, "*/*"):
        obj = parse_json(body, duplicates=None if strictness == "Ignore" else duplicates)
    elif content_type == "application/yaml":
        obj = parse_yaml(body)
    else:
        raise unsupported_media_type((JSON_TYPE, "application/yaml", MEDIA_TYPE))
    report_fields(call, [f'duplicate field "{name}"' for name in duplicates], strictness)
    check_object(call, obj, kind=kind, api_version=api_version)
    result: dict[str, Any] = obj
    return result


def parse_yaml(body: bytes) -> Any:
    import yaml  # only server-side apply and YAML bodies need it

    if body.lstrip()[:1] == b"{":
        return parse_json(body)
    try:
        return yaml.load(body, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - is a safe loader
    except yaml.YAMLError as error:
        raise bad_request(f"error decoding YAML: {error}") from None


def check_object(call: Call, obj: Any, *, kind: str = "", api_version: str = "") -> None:
    """That `obj` is an object of the expected kind with usable metadata; fills what may be left out."""
    resource = call.resource
    if not isinstance(obj, dict):
        raise bad_request("the object provided is unrecognized: the body is not an object")
    metadata = obj.get("metadata")
    if metadata is None:
        obj["metadata"] = metadata = {}
    check_metadata(obj)
    expected_version = api_version or resource.api_version
    expected_kind = kind or resource.kind
    if (found := obj.setdefault("apiVersion", expected_version)) != expected_version:
        raise bad_request(
            f"the API version in the data ({found}) does not match the expected API version "
            f"({expected_version})"
        )
    if (found := obj.setdefault("kind", expected_kind)) != expected_kind:
        raise bad_request(
            f"the kind in the data ({found}) does not match the expected kind ({expected_kind})"
        )


def report_fields(call: Call, complaints: list[str], strictness: str) -> None:
    """Unknown and duplicate fields: an error, warnings, or nothing."""
    if not complaints or strictness == "Ignore":
        return
    if strictness == "Strict":
        resource = call.resource
        raise bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            f"strict decoding error: {', '.join(complaints)}"
        )
    call.warnings.extend(complaint for complaint in complaints if complaint not in call.warnings)


def check_names(call: Call, obj: Mapping[str, Any]) -> None:
    """That the body's name and namespace are those of the path."""
    metadata = obj["metadata"]
    target = call.target
    if metadata.get("namespace", "") != target.namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if target.name and metadata.get("name", "") != target.name:
        raise bad_request(
            f"the name of the object ({metadata.get('name', '')}) does not match the name on the URL "
            f"({target.name})"
        )
