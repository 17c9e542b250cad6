"""What the suite puts on a cluster, from manifests/ as they are: the enforcer, then a worker's workloads."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from conformance.cluster.kube import Kube, ObjectKey
from conformance.cluster.ready import Pods, wait_for_deployments
from conformance.errors import InputError, SetupError
from conformance.profile import Profile
from conformance.reading import Node, Problems, read_documents
from conformance.topology import NAMESPACES, WORKLOADS, Names

__all__ = [
    "MANIFESTS",
    "check_manifests",
    "install_authorizer",
    "install_enforcer",
    "install_namespace",
    "install_workloads",
    "remove_namespaces",
]

MANIFESTS = Path(__file__).resolve().parent.parent.parent / "manifests"
AUTHORIZER = "ext-authz.yaml"
# What others need is created first; everything else in the order of the files.
FIRST = ("CustomResourceDefinition", "Namespace", "ServiceAccount")


def read_manifests(files: Iterable[Path]) -> list[dict[str, Any]]:
    """All documents, those that others need first. Raises InputError, with file:line, for what is not there,
    not YAML, or no object with apiVersion, kind and a name."""
    problems = Problems()
    nodes = [node for file in files for node in read_documents(file, problems)]
    for node in nodes:
        _check_object(node)
    problems.raise_any()
    rank = {kind: number for number, kind in enumerate(FIRST)}
    documents: list[dict[str, Any]] = [node.value for node in nodes]
    return sorted(documents, key=lambda document: rank.get(document["kind"], len(FIRST)))


def _check_object(node: Node) -> None:
    if not isinstance(node.value, dict):
        node.problem("a manifest must be a mapping with apiVersion, kind and metadata")
        return
    node.text("apiVersion")
    node.text("kind")
    metadata = node.child("metadata")
    if metadata is None or not isinstance(metadata.value, dict):
        node.problem("'metadata' with a 'name' is missing")
    else:
        metadata.text("name")


def check_manifests(profile: Profile, manifests: Path) -> None:
    """Reads everything that will be installed, before anything is started. Raises InputError."""
    for room in ("crds", "enforcer") if profile.install_enforcer else ():
        if not read_manifests(sorted((manifests / room).glob("*.yaml"))):
            raise InputError(f"there is no manifest in {manifests / room}", hint="--manifests DIR")
    files = {f"{item.name}.yaml" for item in WORKLOADS.values()}
    if profile.install_enforcer:
        files.add(AUTHORIZER)
    read_manifests(manifests / "workloads" / file for file in sorted(files))


def _apply_all(kube: Kube, documents: Iterable[dict[str, Any]], *, namespace: str = "") -> None:
    for document in documents:
        key, answer = kube.apply(document, namespace=namespace)
        answer.or_raise(f"apply {key}")


def install_enforcer(kube: Kube, profile: Profile, *, manifests: Path = MANIFESTS) -> None:
    """CRDs, then the enforcer; returns when its Deployment is ready."""
    crds = read_manifests(sorted((manifests / "crds").glob("*.yaml")))
    _apply_all(kube, crds)
    deadline = time.monotonic() + profile.deadlines.ready
    _await_established(kube, crds, deadline)
    kube.forget_kinds()
    documents = read_manifests(sorted((manifests / "enforcer").glob("*.yaml")))
    if _has_single_user(kube):
        documents = [_exempt_by_mark(document) for document in documents]
    _apply_all(kube, documents, namespace=profile.root_namespace)
    names = {item["metadata"]["name"] for item in documents if item["kind"] == "Deployment"}
    wait_for_deployments(kube, profile.root_namespace, names, deadline=deadline)
    for name in names:
        _await_rollout(kube, profile.root_namespace, name, deadline)


def _await_rollout(kube: Kube, namespace: str, name: str, deadline: float) -> None:
    """Until no pod of an earlier version is left: on a cluster that is used again, one is ready at once."""
    metadata = {"name": name, "namespace": namespace}
    key = kube.key({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata})
    pause = 0.01
    while True:
        body = kube.get(key).or_raise(f"read {key}").body
        status, wanted = body.get("status") or {}, body["spec"].get("replicas", 1)
        counts = {status.get(count, 0) for count in ("replicas", "updatedReplicas", "readyReplicas")}
        if counts == {wanted} and status.get("observedGeneration", 0) >= body["metadata"]["generation"]:
            return
        if time.monotonic() >= deadline:
            raise SetupError(f"{name} in {namespace} was not replaced by its new version in time")
        time.sleep(pause)  # one object: a bounded poll
        pause = min(pause * 2, 0.25)


def _has_single_user(kube: Kube) -> bool:
    """Whether pods run where only one user may exist: on the embedded cluster, which says so itself."""
    answer = kube.request("GET", "/api/v1/nodes")
    nodes = answer.body.get("items") or [] if answer.ok else []
    runtimes = [str(node["status"]["nodeInfo"]["containerRuntimeVersion"]) for node in nodes]
    return any(runtime.startswith("embedded:") for runtime in runtimes)


def _exempt_by_mark(document: dict[str, Any]) -> dict[str, Any]:
    """The mesh options with the way to tell Envoy's own connections that needs no second user."""
    if document["kind"] != "ConfigMap":
        return document
    data = {
        name: re.sub(r"^exempt: uid$", "exempt: mark", text, flags=re.MULTILINE)
        for name, text in (document.get("data") or {}).items()
    }
    return {**document, "data": data}


def install_authorizer(kube: Kube, profile: Profile, *, manifests: Path = MANIFESTS) -> dict[ObjectKey, str]:
    """The sample authorizer beside the enforcer, ready; its Services with their resourceVersions. Raises
    SetupError."""
    written: dict[ObjectKey, str] = {}
    for document in read_manifests([manifests / "workloads" / AUTHORIZER]):
        key, answer = kube.apply(document, namespace=profile.root_namespace)
        answer.or_raise(f"apply {key}")
        if key.kind == "Service":
            written[key] = str(answer.body["metadata"]["resourceVersion"])
    deadline = time.monotonic() + profile.deadlines.ready
    name = AUTHORIZER.removesuffix(".yaml")
    wait_for_deployments(kube, profile.root_namespace, {name}, deadline=deadline)
    return written


def _await_established(kube: Kube, crds: list[dict[str, Any]], deadline: float) -> None:
    for crd in crds:
        key = kube.key(crd)
        pause = 0.005
        while True:
            status = kube.get(key).body.get("status") or {}
            conditions = status.get("conditions") or []
            if any(item.get("type") == "Established" and item.get("status") == "True" for item in conditions):
                break
            if time.monotonic() >= deadline:
                raise SetupError(f"the API does not establish {key.name}")
            time.sleep(pause)  # a handful of objects: a bounded poll
            pause = min(pause * 2, 0.25)


def install_workloads(
    kube: Kube, profile: Profile, names: Names, *, manifests: Path = MANIFESTS
) -> dict[str, Pods]:
    """The three namespaces of a worker with their workloads; the ready pods by logical namespace.

    Raises SetupError with the message of the first pod that cannot start."""
    deadline = time.monotonic() + profile.deadlines.ready

    def one(namespace: str) -> Pods:
        wanted = [item.name for item in WORKLOADS.values() if item.namespace == namespace]
        real, injected = names.real(namespace), namespace != "legacy"
        return install_namespace(
            kube, profile, real, wanted, injected=injected, manifests=manifests, deadline=deadline
        )

    pool = ThreadPoolExecutor(max_workers=len(NAMESPACES))
    try:
        futures = {namespace: pool.submit(one, namespace) for namespace in NAMESPACES}
        return {namespace: future.result() for namespace, future in futures.items()}
    finally:
        # An interrupted or failed run does not wait for what the other namespaces still wait for.
        pool.shutdown(wait=False, cancel_futures=True)


def install_namespace(
    kube: Kube,
    profile: Profile,
    real: str,
    workloads: Sequence[str],
    *,
    injected: bool,
    manifests: Path,
    deadline: float,
) -> Pods:
    """One namespace with these workloads; their ready pods by `deadline` (of time.monotonic). A namespace
    that is lent to the run is left as it is. Raises SetupError."""
    if not _is_lent(kube, real):
        labels = dict(profile.injection_labels) if injected else {}
        _have_namespace(kube, real, labels)
    files = [manifests / "workloads" / f"{name}.yaml" for name in workloads]
    beside = kube.image.documents() if kube.image else []
    _apply_all(kube, [*beside, *read_manifests(files)], namespace=real)
    return wait_for_deployments(kube, real, set(workloads), deadline=deadline)


def _have_namespace(kube: Kube, real: str, labels: dict[str, str]) -> None:
    """Made, or there from before in this run. Raises SetupError for one of somebody else's."""
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": real, "labels": labels}}
    key = kube.key(document)
    current = kube.get(key)
    if current.code == 404:
        kube.create(document).or_raise(f"create {key}")
    elif kube.bounds:
        kube.bounds.check_owner(key, current.or_raise(f"read {key}").body)
    else:
        _apply_all(kube, [document])


def _is_lent(kube: Kube, real: str) -> bool:
    return kube.bounds is not None and real in kube.bounds.given


def remove_namespaces(kube: Kube, names: Names) -> None:
    """Asks for the deletion of a worker's namespaces; does not wait for it."""
    for namespace in NAMESPACES:
        metadata = {"name": names.real(namespace)}
        if _is_lent(kube, names.real(namespace)):
            continue  # what is ours in it is found by its labels
        kube.delete(kube.key({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
