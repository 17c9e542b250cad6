"""The built-in admission plug-ins: service accounts of pods, and the shape of what admission itself reads."""

from __future__ import annotations

import asyncio
import copy
import secrets
import time
from collections.abc import Iterator
from typing import Any, Final

from conformance.cluster.embedded.apiserver.attributes import Attributes
from conformance.cluster.embedded.apiserver.auth import Find
from conformance.cluster.embedded.apiserver.pod_security import check_labels
from conformance.cluster.embedded.apiserver.status import forbidden, invalid
from conformance.cluster.embedded.apiserver.webhooks import CONFIGURATIONS, check_configuration

TOKEN_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path, not a password
_VOLUME_PREFIX: Final = "kube-api-access-"
_TOKEN_SECONDS: Final = 3607  # the odd 7 is how a real cluster marks its own tokens
_MODE: Final = 0o644
_ACCOUNT_DEADLINE: Final = 1.0  # seconds that a pod waits for its service account, as on a real server
_ACCOUNT_POLL: Final = 0.02
_SUFFIX_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"


async def mutate(attributes: Attributes, find: Find) -> Attributes:
    if attributes.resource != "pods" or attributes.group or attributes.subresource:
        return attributes
    if attributes.operation != "CREATE" or attributes.obj is None:
        return attributes
    pod = copy.deepcopy(attributes.obj)
    spec = pod.setdefault("spec", {})
    name = spec.get("serviceAccountName") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    account = await _account(attributes, name, find)
    if _automounts(spec, account):
        _mount_token(spec)
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = copy.deepcopy(account["imagePullSecrets"])
    return attributes.with_object(pod)


def validate(attributes: Attributes) -> None:
    """Refuses what admission could not work with later. Raises ApiError."""
    obj = attributes.obj
    if obj is None or attributes.subresource:
        return
    errors = []
    if attributes.resource == "namespaces" and not attributes.group:
        errors = check_labels(obj["metadata"].get("labels") or {})
    elif f"{attributes.resource}.{attributes.group}" in CONFIGURATIONS:
        errors = check_configuration(obj)
    if errors:
        raise invalid(attributes.kind, attributes.name, errors, group=attributes.group)


async def _account(attributes: Attributes, name: str, find: Find) -> dict[str, Any]:
    """The service account. A namespace's default one is made by a controller a moment after the namespace."""
    deadline = time.monotonic() + _ACCOUNT_DEADLINE
    while (account := find("serviceaccounts", attributes.namespace, name)) is None:
        if time.monotonic() >= deadline:
            missing = f'serviceaccount "{name}" not found'
            why = f"error looking up service account {attributes.namespace}/{name}: {missing}"
            raise forbidden("pods", attributes.name, why)
        await asyncio.sleep(_ACCOUNT_POLL)
    return account


def _automounts(spec: dict[str, Any], account: dict[str, Any]) -> bool:
    asked = spec.get("automountServiceAccountToken")
    if asked is None:
        asked = account.get("automountServiceAccountToken")
    return asked is not False


def _mount_token(spec: dict[str, Any]) -> None:
    """Adds the volume to the pod, and a mount to every container that has none at that path."""
    volumes: list[dict[str, Any]] = spec.get("volumes") or []
    bare = [
        container
        for container in _containers(spec)
        if all(mount.get("mountPath") != TOKEN_PATH for mount in container.get("volumeMounts") or ())
    ]
    if not bare:
        return
    name = next((v["name"] for v in volumes if v.get("name", "").startswith(_VOLUME_PREFIX)), "")
    if not name:
        name = _VOLUME_PREFIX + "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(5))
        spec["volumes"] = [*volumes, {"name": name, "projected": _token_volume()}]
    for container in bare:
        mount = {"name": name, "readOnly": True, "mountPath": TOKEN_PATH}
        container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]


def _containers(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key in ("initContainers", "containers"):
        yield from spec.get(key) or ()


def _token_volume() -> dict[str, Any]:
    authority = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    namespace = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    return {
        "defaultMode": _MODE,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
            {"configMap": authority},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
        ],
    }
