"""The place: namespaces that were lent, the control plane, quotas, and what already acts on our workloads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from conformance.cluster.existing import read_environment
from conformance.cluster.ready import is_ready
from conformance.preflight.checks import Check, Ground
from conformance.topology import NAMESPACES, WORKLOADS

__all__ = ["check_control_plane", "check_in_place", "check_namespaces", "check_quota", "hindrance"]

# EnvoyFilters that patch these change what becomes of a TCP connection.
ON_TCP = ("LISTENER", "LISTENER_FILTER", "FILTER_CHAIN", "NETWORK_FILTER", "CLUSTER", "BOOTSTRAP")
SIDECAR_CONTEXTS = ("ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND")
# Istio's own metrics, in the filters of older control planes.
METRICS = ("istio.stats", "envoy.wasm.stats", "stats")


def check_namespaces(ground: Ground) -> Iterator[Check]:
    """Lent ones are there and stay; the root namespace is there."""
    for logical in NAMESPACES:
        real = ground.names.real(logical)
        if real not in ground.lent:
            continue
        answer = ground.kube.request("GET", f"/api/v1/namespaces/{real}")
        name = f"namespace {real}"
        if not answer.ok:
            said, remedy = f"{answer.code} {answer.reason}", "create it, or name another: --namespaces"
            yield Check(name=name, ok=False, said=said, remedy=remedy)
        elif answer.body["metadata"].get("deletionTimestamp"):
            said = "it is being deleted"
            yield Check(name=name, ok=False, said=said, remedy="wait until it is gone, and create it anew")
        else:
            yield Check(name=name, ok=True, said="there, and stays")


def check_control_plane(ground: Ground) -> Iterator[Check]:
    """The bundled enforcer is not installed on a cluster that is not ours."""
    if ground.profile.barrier != "enforcer-status":
        return
    root = ground.names.root
    pods, _ = ground.kube.list("v1", "Pod", namespace=root, selector="app=enforcer")
    ready = [pod["metadata"]["name"] for pod in pods if is_ready(pod)]
    said = f"{ready[0]} in {root}" if ready else f"no ready pod with app=enforcer in {root}"
    remedy = "kubectl apply -f manifests/crds -f manifests/enforcer, or name your mesh: --profile"
    yield Check(name="control plane", ok=bool(ready), said=said, remedy=remedy)


def check_quota(ground: Ground) -> Iterator[Check]:
    """In lent namespaces; a new one has none but what an administrator's controller puts there."""
    for logical in NAMESPACES:
        real = ground.names.real(logical)
        if real not in ground.lent or not ground.kube.serves("v1", "ResourceQuota"):
            continue
        answer = ground.kube.request("GET", f"/api/v1/namespaces/{real}/resourcequotas")
        if not answer.ok:
            yield Check(name=f"quota {real}", ok=True, said="not readable; the canary tells")
            continue
        wanted = sum(item.namespace == logical for item in WORKLOADS.values())
        short = [
            f"{quota['metadata']['name']} leaves {left} of {wanted} pods"
            for quota in answer.body.get("items") or []
            if (left := _pods_left(quota)) is not None and left < wanted
        ]
        remedy = f"raise the quota of {real} to {wanted} pods more"
        yield Check(name=f"quota {real}", ok=not short, said="; ".join(short) or "enough", remedy=remedy)


def _pods_left(quota: Mapping[str, Any]) -> int | None:
    hard = (quota.get("spec") or {}).get("hard") or {}
    used = (quota.get("status") or {}).get("used") or {}
    name = next((name for name in ("pods", "count/pods") if name in hard), None)
    if name is None or not str(hard[name]).isdigit() or not str(used.get(name, "0")).isdigit():
        return None
    return int(hard[name]) - int(used.get(name, "0"))


def check_in_place(ground: Ground) -> Iterator[Check]:
    """Recorded, never a reason not to start: the oracle or the cases themselves take it into account."""
    ours = [real for name in NAMESPACES if (real := ground.names.real(name)) in ground.lent]
    found = read_environment(ground.kube, [ground.names.root, *ours])
    named = ", ".join(f"{item['kind']} {item['namespace']}/{item['name']}" for item in found)
    said = f"{len(found)} objects act on the mesh or our namespaces: {named}" if found else "nothing"
    yield Check(name="in place", ok=True, said=said)
    if why := hindrance(found, root=ground.names.root):
        yield Check(name="in place, not understood", ok=True, said=f"cases will be inconclusive: {why}")


def hindrance(environment: Sequence[Mapping[str, Any]], *, root: str) -> str:
    """What others have put there that changes what becomes of our connections and that the oracle does not
    know, by name; empty = nothing. `environment`: as `read_environment` has it."""
    found = []
    for item in environment:
        spec = item["spec"]
        why = ""
        if item["kind"] == "EnvoyFilter":
            why = _on_tcp(spec)
        elif item["kind"] == "Sidecar":
            why = "changes what sidecars know" if spec.get("egress") or spec.get("ingress") else ""
        elif item["kind"] == "NetworkPolicy" and item["namespace"] != root:
            why = "drops packets before the mesh sees them"
        # One with a selector in the root namespace may select ours; labels of ours are few, and well known.
        if why and not _selects_others(item):
            found.append(f"{item['kind']} {item['namespace']}/{item['name']} {why}")
    return "; ".join(found)


def _on_tcp(spec: Mapping[str, Any]) -> str:
    for patch in spec.get("configPatches") or []:
        match = patch.get("match") or {}
        if match.get("context", "ANY") not in SIDECAR_CONTEXTS or patch.get("applyTo") not in ON_TCP:
            continue
        value = (patch.get("patch") or {}).get("value") or {}
        if patch["applyTo"] == "NETWORK_FILTER" and value.get("name") in METRICS:
            continue
        return f"patches {patch['applyTo']}"
    return ""


def _selects_others(item: Mapping[str, Any]) -> bool:
    """Whether its selector asks for a label `app` that none of our workloads has."""
    spec = item["spec"]
    selector = spec.get("workloadSelector") or spec.get("podSelector") or {}
    wanted = (selector.get("labels") or selector.get("matchLabels") or {}).get("app")
    return wanted is not None and wanted not in {ref.name for ref in WORKLOADS}
