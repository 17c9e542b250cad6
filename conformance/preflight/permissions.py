"""What the credentials may do, asked verb by verb (SelfSubjectAccessReview)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from conformance.cluster.kube import Kube
from conformance.preflight.checks import Check, Ground
from conformance.topology import NAMESPACES

__all__ = ["Need", "check_permissions", "needs"]

WORKLOAD = ("get", "list", "create", "update", "delete")
POLICY = ("get", "list", "create", "update", "patch", "delete")
ISTIO = "security.istio.io"
# What acts on our workloads, where the API has such kinds: (group/version, kind, plural).
TOLD = (
    ("networking.istio.io/v1alpha3", "EnvoyFilter", "envoyfilters"),
    ("networking.istio.io/v1", "Sidecar", "sidecars"),
    ("telemetry.istio.io/v1", "Telemetry", "telemetries"),
)
ASKED_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One verb on one resource (`pods`, `pods/exec`); `namespace` empty = in all."""

    verb: str
    group: str
    resource: str
    namespace: str = ""

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        group = f".{self.group}" if self.group else ""
        return f"{self.verb} {self.resource}{group}{where}"


def needs(ground: Ground) -> list[Need]:
    """Everything that a run does on this cluster."""
    found: list[Need] = []

    def add(verbs: Sequence[str], group: str, resource: str, namespaces: Sequence[str]) -> None:
        found.extend(
            Need(verb=verb, group=group, resource=resource, namespace=namespace)
            for namespace in namespaces
            for verb in verbs
        )

    ours = [ground.names.real(name) for name in NAMESPACES] if ground.lent else [""]
    root = [ground.names.root]
    add(("get",) if ground.lent else ("get", "list", "create", "delete"), "", "namespaces", ours)
    add((*WORKLOAD, "patch", "watch"), "", "pods", ours)
    add(("get", "create"), "", "pods/exec", ours)
    add(("get",), "", "pods/log", ours)
    add(WORKLOAD, "", "services", ours)
    add(WORKLOAD, "", "serviceaccounts", ours)
    add(WORKLOAD, "apps", "deployments", ours)
    add(("list",), "networking.k8s.io", "networkpolicies", ours)
    for resource in ("authorizationpolicies", "peerauthentications"):
        add(POLICY, ISTIO, resource, ours)
        add(("list",), ISTIO, resource, root)
    if "routing" in ground.profile.features:
        for resource in ("virtualservices", "destinationrules"):
            add(POLICY, "networking.istio.io", resource, ours)
    for api_version, kind, resource in TOLD:
        if ground.kube.serves(api_version, kind):
            add(("list",), api_version.partition("/")[0], resource, [*root, *ours])
    if ground.profile.barrier == "enforcer-status":
        add(("get", "list", "watch"), "", "pods", root)
        add(("get", "create"), "", "pods/exec", root)
    if "mesh-wide" in ground.profile.features:
        add(POLICY, ISTIO, "authorizationpolicies", root)
        add(POLICY, ISTIO, "peerauthentications", root)
        if ground.profile.install_enforcer:  # stopped and started again; beside it the authorizer
            add((*WORKLOAD, "patch"), "apps", "deployments", root)
            add(WORKLOAD, "", "services", root)
            add(WORKLOAD, "", "serviceaccounts", root)
    return list(dict.fromkeys(found))


def check_permissions(ground: Ground) -> Iterator[Check]:
    """A line with everything that is missing."""
    asked = needs(ground)
    with ThreadPoolExecutor(max_workers=ASKED_AT_ONCE) as pool:
        allowed = list(pool.map(partial(_allowed, ground.kube), asked))
    missing = [need for need, ok in zip(asked, allowed, strict=True) if not ok]
    files = ["namespaced" if ground.lent else "cluster"]
    mesh_wide = "mesh-wide" in ground.profile.features
    files += ["mesh-wide.yaml"] if mesh_wide else []
    if ground.profile.barrier == "enforcer-status":
        files += ["bundled.yaml", "bundled-mesh-wide.yaml"] if mesh_wide else ["bundled.yaml"]
    yield Check(
        name="permissions",
        ok=not missing,
        said=f"missing: {_table(missing)}" if missing else f"all {len(asked)} that a run needs",
        remedy=f"an administrator grants them: {', '.join(f'manifests/rbac/{file}' for file in files)}",
    )


def _table(missing: Sequence[Need]) -> str:
    """By resource and namespace, the verbs together."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for need in missing:
        rows.setdefault((need.resource, need.group, need.namespace), []).append(need.verb)
    return "; ".join(
        str(Need(verb=",".join(verbs), resource=row[0], group=row[1], namespace=row[2]))
        for row, verbs in rows.items()
    )


def _allowed(kube: Kube, need: Need) -> bool:
    """Asked of the API that serves the resource."""
    resource, _, subresource = need.resource.partition("/")
    attributes = {"verb": need.verb, "group": need.group, "resource": resource, "namespace": need.namespace}
    if subresource:
        attributes["subresource"] = subresource
    if resource == "namespaces" and need.namespace:
        attributes["name"] = need.namespace
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    api = kube.mesh if need.group.endswith(".istio.io") else kube
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = api.request("POST", path, body=body).or_raise("ask what the credentials may do")
    return bool((answer.body.get("status") or {}).get("allowed"))
