"""Admission webhooks: which of the configured ones a write concerns, and what their answers do to it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import copy
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from conformance.cluster.embedded.apiserver.attributes import Attributes
from conformance.cluster.embedded.apiserver.auth import Find
from conformance.cluster.embedded.apiserver.patch import json_patch
from conformance.cluster.embedded.apiserver.selector_objects import matches_selector
from conformance.cluster.embedded.apiserver.status import ApiError, FieldError, bad_request, internal
from conformance.cluster.embedded.apiserver.webhook_client import CallError, WebhookClient

MUTATING: Final = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING: Final = "validatingwebhookconfigurations.admissionregistration.k8s.io"
CONFIGURATIONS: Final = (MUTATING, VALIDATING)
_CRDS: Final = "customresourcedefinitions.apiextensions.k8s.io"
_ONCE: Final = ("None", "NoneOnDryRun")
ListObjects = Callable[[str], Iterable[dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hook:
    config: Mapping[str, Any]
    version: str  # the API version in which the webhook wants the object

    @property
    def name(self) -> str:
        return str(self.config["name"])


async def mutate(
    attributes: Attributes, *, list_objects: ListObjects, find: Find, client: WebhookClient
) -> tuple[Attributes, list[str]]:
    """Asks the mutating webhooks one after the other, each seeing what those before it made of the object.
    Where nobody changed anything, `obj` is the very object given."""
    warnings: list[str] = []
    asked_with: list[tuple[Mapping[str, Any], dict[str, Any] | None]] = []
    for config in _configured(MUTATING, list_objects):
        # Each is matched anew: an earlier one may have changed the labels.
        hook = _match(config, attributes, find)
        if hook is not None:
            attributes, more = await _mutate_by(hook, attributes, client)
            warnings += more
            asked_with.append((config, attributes.obj))
    for config, seen in asked_with:
        if config.get("reinvocationPolicy") == "IfNeeded" and seen != attributes.obj:
            hook = _match(config, attributes, find)
            if hook is not None:
                attributes, more = await _mutate_by(hook, attributes, client)
                warnings += [warning for warning in more if warning not in warnings]
    return attributes, warnings


async def validate(
    attributes: Attributes, *, list_objects: ListObjects, find: Find, client: WebhookClient
) -> list[str]:
    """Asks all validating webhooks at once. Raises the first refusal, in their order."""
    hooks = [_match(config, attributes, find) for config in _configured(VALIDATING, list_objects)]
    answers = await asyncio.gather(
        *(_ask(hook, attributes, client) for hook in hooks if hook), return_exceptions=True
    )
    warnings: list[str] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        warnings += _warnings(answer)
    return warnings


def check_configuration(obj: Mapping[str, Any]) -> list[FieldError]:
    """What a configuration must say for its webhooks to be callable here, beyond its form (validation.py).

    CEL match conditions are refused: they are not evaluated, and a webhook that is asked too seldom would
    open a hole silently.
    """
    errors: list[FieldError] = []
    for index, hook in enumerate(obj.get("webhooks") or ()):
        path = f"webhooks[{index}]"
        service = (hook.get("clientConfig") or {}).get("service")
        for key in ("name", "namespace"):
            if service is not None and not service.get(key):
                message = f"Required value: service {key} is required"
                where = f"{path}.clientConfig.service.{key}"
                errors.append(FieldError(path=where, type="FieldValueRequired", message=message))
        if hook.get("matchConditions"):
            message = "Forbidden: match conditions are not evaluated by this cluster"
            errors.append(
                FieldError(path=f"{path}.matchConditions", type="FieldValueForbidden", message=message)
            )
    return errors


def _configured(resource: str, list_objects: ListObjects) -> Iterator[Mapping[str, Any]]:
    for configuration in sorted(list_objects(resource), key=lambda c: str(c["metadata"]["name"])):
        yield from configuration.get("webhooks") or ()


def _match(config: Mapping[str, Any], attributes: Attributes, find: Find) -> _Hook | None:
    if f"{attributes.resource}.{attributes.group}" in CONFIGURATIONS:
        return None  # a broken webhook must not be able to keep itself from being removed
    versions = [attributes.version, *_other_versions(config, attributes, find)]
    for version in versions:
        if any(_rule_matches(rule, attributes, version) for rule in config.get("rules") or ()):
            break
    else:
        return None
    if not _namespace_matches(config.get("namespaceSelector"), attributes, find):
        return None
    candidates = [o for o in (attributes.obj, attributes.old) if o is not None] or [{}]
    selector = config.get("objectSelector")
    if not any(matches_selector(selector, _labels(candidate)) for candidate in candidates):
        return None
    return _Hook(config=config, version=version)


def _other_versions(config: Mapping[str, Any], attributes: Attributes, find: Find) -> list[str]:
    """With matchPolicy Equivalent (the default) a webhook sees a custom resource in any version."""
    if config.get("matchPolicy") == "Exact" or not attributes.group:
        return []
    definition = find(_CRDS, "", f"{attributes.resource}.{attributes.group}")
    served = (definition or {}).get("spec", {}).get("versions") or ()
    return [v["name"] for v in served if v.get("served") and v["name"] != attributes.version]


def _rule_matches(rule: Mapping[str, Any], attributes: Attributes, version: str) -> bool:
    def named(key: str, wanted: str) -> bool:
        values = rule.get(key) or ()
        return "*" in values or wanted in values

    if not (
        named("operations", attributes.operation)
        and named("apiGroups", attributes.group)
        and named("apiVersions", version)
    ):
        return False
    in_namespace = bool(attributes.namespace) and attributes.resource != "namespaces"
    if rule.get("scope", "*") not in ("*", "Namespaced" if in_namespace else "Cluster"):
        return False
    for wanted in rule.get("resources") or ():
        resource, _, subresource = wanted.partition("/")
        if resource in ("*", attributes.resource) and (
            subresource == attributes.subresource or subresource == "*" or wanted == "*/*"
        ):
            return True
    return False


def _namespace_matches(selector: Mapping[str, Any] | None, attributes: Attributes, find: Find) -> bool:
    if not selector:
        return True
    if attributes.resource == "namespaces" and not attributes.group:
        return matches_selector(selector, _labels(attributes.obj or attributes.old or {}))
    if not attributes.namespace:
        return True  # cluster-scoped: the selector does not apply
    return matches_selector(selector, _labels(find("namespaces", "", attributes.namespace) or {}))


def _labels(obj: Mapping[str, Any]) -> Mapping[str, str]:
    labels: Mapping[str, str] = (obj.get("metadata") or {}).get("labels") or {}
    return labels


async def _mutate_by(
    hook: _Hook, attributes: Attributes, client: WebhookClient
) -> tuple[Attributes, list[str]]:
    answer = await _ask(hook, attributes, client)
    if not answer.get("patch") or attributes.obj is None:
        return attributes, _warnings(answer)

    def broken(why: str) -> ApiError:
        return internal(f'failed calling webhook "{hook.name}": received invalid webhook response: {why}')

    if answer.get("patchType") != "JSONPatch":
        raise broken("webhook returned response.patch but not response.patchType")
    try:
        steps = json.loads(base64.b64decode(answer["patch"], validate=True))
    except (binascii.Error, ValueError) as error:
        raise broken(f"response.patch is no JSON patch: {error}") from error
    try:
        patched = json_patch(_in_version(attributes.obj, attributes, hook.version), steps)
    except ApiError as error:
        raise internal(error.message) from error
    return attributes.with_object(_in_version(patched, attributes, attributes.version)), _warnings(answer)


async def _ask(hook: _Hook, attributes: Attributes, client: WebhookClient) -> dict[str, Any]:
    """The response of a webhook that allows. Raises ApiError where it denies, or cannot be asked and is not
    to be ignored; an ignored one answers {}."""
    if attributes.dry_run and hook.config.get("sideEffects") not in _ONCE:
        raise bad_request(f'admission webhook "{hook.name}" does not support dry run')
    try:
        answer = await client.call(hook.config, _request(hook, attributes))
    except CallError as error:
        if hook.config.get("failurePolicy") == "Ignore":
            return {}
        raise internal(f'failed calling webhook "{hook.name}": {error}') from error
    if answer.get("allowed") is True:
        return answer
    raise _denied(hook.name, answer.get("status") or {})


def _denied(name: str, status: Mapping[str, Any]) -> ApiError:
    words = status.get("message") or status.get("reason")
    message = f'admission webhook "{name}" denied the request' + (
        f": {words}" if words else " without explanation"
    )
    code = status.get("code") or 0
    return ApiError(max(int(code), 400), status.get("reason") or "", message, status.get("details"))


def _warnings(answer: Mapping[str, Any]) -> list[str]:
    return [str(warning) for warning in answer.get("warnings") or ()]


def _request(hook: _Hook, attributes: Attributes) -> dict[str, Any]:
    def kind(version: str) -> dict[str, str]:
        return {"group": attributes.group, "version": version, "kind": attributes.kind}

    def resource(version: str) -> dict[str, str]:
        return {"group": attributes.group, "version": version, "resource": attributes.resource}

    request: dict[str, Any] = {
        "uid": str(uuid.uuid4()),
        "kind": kind(hook.version),
        "resource": resource(hook.version),
        "requestKind": kind(attributes.version),
        "requestResource": resource(attributes.version),
        "name": attributes.name,
        "namespace": attributes.namespace,
        "operation": attributes.operation,
        "userInfo": attributes.user.to_info(),
        "object": _in_version(attributes.obj, attributes, hook.version),
        "oldObject": _in_version(attributes.old, attributes, hook.version),
        "dryRun": attributes.dry_run,
        "options": attributes.options or None,
    }
    if attributes.subresource:
        request["subResource"] = request["requestSubResource"] = attributes.subresource
    return request


def _in_version(obj: dict[str, Any] | None, attributes: Attributes, version: str) -> Any:
    """The object in another version of its group: custom resources here are converted by name only."""
    if obj is None or not attributes.group or obj.get("apiVersion") == f"{attributes.group}/{version}":
        return obj
    if not str(obj.get("apiVersion", "")).startswith(f"{attributes.group}/"):
        return obj  # a subresource with a kind of its own (Scale, Eviction)
    return copy.copy(obj) | {"apiVersion": f"{attributes.group}/{version}"}
