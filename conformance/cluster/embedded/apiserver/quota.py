"""ResourceQuota: how many objects a namespace may hold (`pods`, `services`, `count/roles`, ...)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from conformance.cluster.embedded.apiserver.attributes import Attributes
from conformance.cluster.embedded.apiserver.status import forbidden, qualified

# The keys that Kubernetes knows without `count/`, all of them of the core group.
_SHORT: Final = frozenset({"configmaps", "pods", "resourcequotas", "secrets", "services"})
_FINISHED: Final = ("Failed", "Succeeded")
_SUFFIXES: Final = {"k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def check(attributes: Attributes, list_objects: Callable[[str], Iterable[dict[str, Any]]]) -> None:
    """Raises ApiError 403 where one more object would exceed a quota."""
    if attributes.operation != "CREATE" or attributes.subresource or not attributes.namespace:
        return
    resource = qualified(attributes.resource, attributes.group)
    for quota in list_objects("resourcequotas"):
        if quota["metadata"].get("namespace") != attributes.namespace:
            continue
        hard: Mapping[str, Any] = quota["spec"].get("hard") or {}
        over = []
        for key in sorted(key for key in hard if _counted(key) == resource):
            used = _count(key, attributes.namespace, list_objects)
            if used + 1 > _number(hard[key]):
                over.append((key, used, hard[key]))
        if over:
            requested = ",".join(f"{key}=1" for key, _, _ in over)
            used_now = ",".join(f"{key}={used}" for key, used, _ in over)
            limited = ",".join(f"{key}={limit}" for key, _, limit in over)
            why = f"exceeded quota: {quota['metadata']['name']}, requested: {requested}"
            why += f", used: {used_now}, limited: {limited}"
            raise forbidden(attributes.resource, attributes.name, why, group=attributes.group)


def quota_status(
    quota: Mapping[str, Any], list_objects: Callable[[str], Iterable[dict[str, Any]]]
) -> dict[str, Any]:
    """The `status` of a quota: its limits, and what its namespace uses of those that are counted here."""
    hard: Mapping[str, Any] = quota["spec"].get("hard") or {}
    namespace = quota["metadata"]["namespace"]
    used = {key: str(_count(key, namespace, list_objects)) for key in hard if _counted(key)}
    return {"hard": dict(hard), "used": used}


def counted_resources(quota: Mapping[str, Any]) -> set[str]:
    """The resources (plural.group) that a quota limits and that are counted here."""
    return {resource for key in quota["spec"].get("hard") or {} if (resource := _counted(key))}


def _counted(key: str) -> str:
    """The resource (plural.group) that a quota's key counts; empty: a key of something not counted here."""
    return key.removeprefix("count/") if key.startswith("count/") or key in _SHORT else ""


def _count(key: str, namespace: str, list_objects: Callable[[str], Iterable[dict[str, Any]]]) -> int:
    mine = (o for o in list_objects(_counted(key)) if o["metadata"].get("namespace") == namespace)
    if key == "pods":
        # `pods` counts what can run, `count/pods` whatever is stored.
        return sum((pod.get("status") or {}).get("phase") not in _FINISHED for pod in mine)
    return sum(1 for _ in mine)


def _number(quantity: object) -> int:
    """A whole quantity; what is none admits nothing."""
    text = str(quantity)
    digits = text.rstrip("kMGi")
    factor = _SUFFIXES.get(text[len(digits) :], 1)
    return int(digits) * factor if digits.isdigit() else 0
