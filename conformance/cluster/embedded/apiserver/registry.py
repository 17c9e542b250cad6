"""The kinds that are served: the built-in ones as a table, the custom ones from their definitions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from conformance.cluster.embedded.apiserver.status import FieldError, qualified

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
CRDS = "customresourcedefinitions.apiextensions.k8s.io"


class Schema(Protocol):
    """What a custom resource's version demands of its objects (see schema.py)."""

    def prune(self, obj: dict[str, Any]) -> tuple[dict[str, Any], list[str]]: ...
    def default(self, obj: dict[str, Any]) -> dict[str, Any]: ...
    def validate(self, obj: dict[str, Any], old: dict[str, Any] | None = None) -> list[FieldError]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of `kubectl get`: `path` is a JSONPath (`.spec.action`); priority 1 = -o wide only."""

    name: str
    type: str
    path: str
    format: str = ""
    description: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalePaths:
    """Where a custom resource keeps its replicas: dotted paths as in the definition."""

    spec: str
    status: str
    selector: str | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resource:
    """One resource in one served version."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    singular: str = ""
    list_kind: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: Mapping[str, str] = field(default_factory=dict)  # name -> kind of its objects
    verbs: tuple[str, ...] = ALL_VERBS
    storage_version: str = ""
    custom: bool = False
    schema: Schema | None = None
    raw_schema: Mapping[str, Any] | None = None
    columns: tuple[Column, ...] = ()
    scale: ScalePaths | None = None
    deprecation: str = ""  # the warning that goes with every use of this version

    @property
    def key(self) -> str:
        """`deployments.apps`: the storage's name of it."""
        return qualified(self.plural, self.group)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def stored_api_version(self) -> str:
        version = self.storage_version or self.version
        return f"{self.group}/{version}" if self.group else version


def _builtin(group: str, version: str, plural: str, kind: str, short: str = "", /, **more: Any) -> Resource:
    return Resource(
        group=group,
        version=version,
        plural=plural,
        kind=kind,
        singular=kind.lower(),
        list_kind=f"{kind}List",
        short_names=tuple(short.split()),
        **more,
    )


_CREATE_ONLY = ("create",)
_RBAC = "rbac.authorization.k8s.io"
_HOOKS = "admissionregistration.k8s.io"
_AUTHORIZATION = "authorization.k8s.io"

BUILTINS: tuple[Resource, ...] = (
    _builtin(
        *("", "v1", "namespaces", "Namespace", "ns"),
        namespaced=False,
        subresources={"status": "Namespace", "finalize": "Namespace"},
    ),
    _builtin("", "v1", "nodes", "Node", "no", namespaced=False, subresources={"status": "Node"}),
    _builtin(
        *("", "v1", "pods", "Pod", "po"),
        categories=("all",),
        subresources={"status": "Pod", "log": "Pod", "exec": "PodExecOptions", "eviction": "Eviction"},
    ),
    _builtin("", "v1", "services", "Service", "svc", categories=("all",), subresources={"status": "Service"}),
    _builtin("", "v1", "endpoints", "Endpoints", "ep"),
    _builtin("", "v1", "configmaps", "ConfigMap", "cm"),
    _builtin("", "v1", "secrets", "Secret"),
    _builtin("", "v1", "serviceaccounts", "ServiceAccount", "sa", subresources={"token": "TokenRequest"}),
    _builtin("", "v1", "events", "Event", "ev"),
    _builtin("", "v1", "resourcequotas", "ResourceQuota", "quota", subresources={"status": "ResourceQuota"}),
    _builtin(
        *("apps", "v1", "deployments", "Deployment", "deploy"),
        categories=("all",),
        subresources={"status": "Deployment", "scale": "Scale"},
    ),
    _builtin("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    _builtin("coordination.k8s.io", "v1", "leases", "Lease"),
    _builtin("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", "netpol"),
    _builtin(_RBAC, "v1", "roles", "Role"),
    _builtin(_RBAC, "v1", "rolebindings", "RoleBinding"),
    _builtin(_RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False),
    _builtin(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    _builtin(
        *("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", "crd crds"),
        namespaced=False,
        categories=("api-extensions",),
        subresources={"status": "CustomResourceDefinition"},
    ),
    _builtin(
        *(_HOOKS, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration"),
        namespaced=False,
        categories=("api-extensions",),
    ),
    _builtin(
        *(_HOOKS, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
        namespaced=False,
        categories=("api-extensions",),
    ),
    _builtin(
        *("authentication.k8s.io", "v1", "tokenreviews", "TokenReview"),
        namespaced=False,
        verbs=_CREATE_ONLY,
    ),
    _builtin(
        *("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview"),
        namespaced=False,
        verbs=_CREATE_ONLY,
    ),
    _builtin(
        *(_AUTHORIZATION, "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
        namespaced=False,
        verbs=_CREATE_ONLY,
    ),
    _builtin(
        *(_AUTHORIZATION, "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
        namespaced=False,
        verbs=_CREATE_ONLY,
    ),
    _builtin(
        *(_AUTHORIZATION, "v1", "subjectaccessreviews", "SubjectAccessReview"),
        namespaced=False,
        verbs=_CREATE_ONLY,
    ),
)


class Registry:
    """All served resources, by (group, version, plural). Custom ones come and go."""

    def __init__(self, builtins: Iterable[Resource] = BUILTINS) -> None:
        self._resources = {(r.group, r.version, r.plural): r for r in builtins}
        self._builtin_groups = {r.group for r in self._resources.values()}
        self.generation = 0  # grows with every change: discovery documents are cached by it

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._resources.get((group, version, plural))

    def any_version(self, group: str, plural: str) -> Resource | None:
        """The resource in its storage version."""
        found = [r for r in self._resources.values() if r.group == group and r.plural == plural]
        return next((r for r in found if r.version == (r.storage_version or r.version)), None) or next(
            iter(found), None
        )

    def by_kind(self, group: str, kind: str) -> Resource | None:
        return next((r for r in self._resources.values() if r.group == group and r.kind == kind), None)

    def names_taken(self, group: str, plural: str) -> bool:
        """Whether a built-in kind stands where a custom one would."""
        return any(r.group == group and r.plural == plural and not r.custom for r in self)

    def replace_custom(self, group: str, plural: str, versions: Iterable[Resource]) -> None:
        """Serve exactly these versions of a custom resource; none = no longer served."""
        kept = {
            key: r
            for key, r in self._resources.items()
            if not (r.custom and r.group == group and r.plural == plural)
        }
        kept.update({(r.group, r.version, r.plural): r for r in versions})
        self._resources = kept
        self.generation += 1

    def groups(self) -> list[str]:
        """Core first, then as they came."""
        return sorted(dict.fromkeys(r.group for r in self), key=bool)

    def versions(self, group: str) -> list[str]:
        """The served versions of a group, the preferred one first."""
        found = dict.fromkeys(r.version for r in self if r.group == group)
        return sorted(found, key=version_priority, reverse=True)

    def in_version(self, group: str, version: str) -> list[Resource]:
        return [r for r in self if r.group == group and r.version == version]

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._resources.values())


def version_priority(version: str) -> tuple[int, int, int]:
    """Kubernetes' order: v2 > v1 > v1beta2 > v1beta1 > v1alpha1 > anything else."""
    number, stage, step = 0, 0, 0
    rest = version.removeprefix("v")
    if rest == version:
        return (0, 0, 0)
    for weight, word in ((2, "beta"), (1, "alpha")):
        if word in rest:
            major, _, minor = rest.partition(word)
            if major.isdigit() and minor.isdigit():
                number, stage, step = int(major), weight, int(minor)
            return (stage, number, step)
    return (3, int(rest), 0) if rest.isdigit() else (0, 0, 0)
