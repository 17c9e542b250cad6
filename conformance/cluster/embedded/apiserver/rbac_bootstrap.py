"""The cluster roles and bindings that every cluster starts with, as far as this one has kinds for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

RBAC: Final = "rbac.authorization.k8s.io"
_READ: Final = ("get", "list", "watch")
_WRITE: Final = ("create", "delete", "deletecollection", "patch", "update")


def _rule(groups: Sequence[str], resources: Sequence[str], verbs: Sequence[str]) -> dict[str, Any]:
    return {"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)}


def _paths(*paths: str) -> dict[str, Any]:
    return {"nonResourceURLs": list(paths), "verbs": ["get"]}


def _role(name: str, *rules: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        "rules": list(rules),
    }


def _binding(name: str, role: str, *groups: str) -> dict[str, Any]:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": group} for group in groups],
    }


_CORE: Final = ("configmaps", "endpoints", "pods", "serviceaccounts", "services")
_CORE_STATUS: Final = (
    "pods/log",
    "pods/status",
    "services/status",
    "resourcequotas",
    "resourcequotas/status",
)
_APPS: Final = ("deployments", "deployments/scale")
_VIEW: Final = (
    _rule([""], [*_CORE, *_CORE_STATUS, "events", "namespaces", "namespaces/status"], _READ),
    _rule(["apps"], [*_APPS, "deployments/status"], _READ),
    _rule(["discovery.k8s.io"], ["endpointslices"], _READ),
    _rule(["networking.k8s.io"], ["networkpolicies"], _READ),
)
_EDIT: Final = (
    *_VIEW,
    _rule([""], ["secrets", "pods/exec"], _READ),
    _rule([""], ["pods/exec", "pods/eviction", "serviceaccounts/token"], ["create"]),
    _rule([""], [*_CORE, "secrets", "events"], _WRITE),
    _rule([""], ["serviceaccounts"], ["impersonate"]),
    _rule(["apps"], _APPS, _WRITE),
    _rule(["networking.k8s.io"], ["networkpolicies"], _WRITE),
    _rule(["coordination.k8s.io"], ["leases"], [*_READ, *_WRITE]),
)
_ADMIN: Final = (*_EDIT, _rule([RBAC], ["rolebindings", "roles"], [*_READ, *_WRITE]))

CLUSTER_ROLES: Final[tuple[dict[str, Any], ...]] = (
    _role("cluster-admin", _rule(["*"], ["*"], ["*"]), {"nonResourceURLs": ["*"], "verbs": ["*"]}),
    _role("admin", *_ADMIN),
    _role("edit", *_EDIT),
    _role("view", *_VIEW),
    _role(
        "system:auth-delegator",
        _rule(["authentication.k8s.io"], ["tokenreviews"], ["create"]),
        _rule(["authorization.k8s.io"], ["subjectaccessreviews"], ["create"]),
    ),
    _role(
        "system:basic-user",
        _rule(["authorization.k8s.io"], ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], ["create"]),
        _rule(["authentication.k8s.io"], ["selfsubjectreviews"], ["create"]),
    ),
    _role(
        "system:discovery",
        _paths("/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/readyz"),
        _paths("/openapi", "/openapi/*", "/version", "/version/"),
    ),
)
CLUSTER_ROLE_BINDINGS: Final[tuple[dict[str, Any], ...]] = (
    _binding("cluster-admin", "cluster-admin", "system:masters"),
    _binding("system:basic-user", "system:basic-user", "system:authenticated"),
    _binding("system:discovery", "system:discovery", "system:authenticated"),
)
