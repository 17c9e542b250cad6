"""What is ours on a cluster: found by its labels, listed, deleted. Nothing else is ever touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from conformance.cluster.bounds import MANAGED_BY, MANAGER, RUN
from conformance.cluster.kube import Kube, ObjectKey
from conformance.errors import SetupError

__all__ = ["Owned", "delete_owned", "find_owned", "remove_run"]

# What a run makes, in the order in which it is deleted: policies before what they are about.
KINDS = (
    ("security.istio.io/v1", "AuthorizationPolicy"),
    ("security.istio.io/v1", "PeerAuthentication"),
    ("networking.istio.io/v1", "VirtualService"),
    ("networking.istio.io/v1", "DestinationRule"),
    ("telemetry.istio.io/v1", "Telemetry"),
    ("apps/v1", "Deployment"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("v1", "ConfigMap"),
)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """One object with our label. `age` in seconds."""

    key: ObjectKey
    run: str
    uid: str
    age: float

    def __str__(self) -> str:
        what = f"{self.key.kind} {'/'.join(filter(None, (self.key.namespace, self.key.name)))}"
        return f"{what} (run {self.run or 'unknown'}, {self.age / 3600:.1f} h old)"


def find_owned(
    kube: Kube, *, run: str = "", namespaces: Iterable[str] = (), say: Say | None = None
) -> list[Owned]:
    """Our namespaces, then our objects in namespaces that are not ours: in `namespaces`, or else wherever
    the credentials may look. Of one run, or of all. Raises SetupError where the API gives no answer."""
    selector = f"{MANAGED_BY}={MANAGER}" + (f",{RUN}={run}" if run else f",{RUN}")
    found = _list(kube, "v1", "Namespace", "", selector, say)
    whole = {item.key.name for item in found}
    where = tuple(namespaces) or ("",)
    for api_version, kind in KINDS:
        for namespace in where:
            listed = _list(kube, api_version, kind, namespace, selector, say)
            found += [item for item in listed if item.key.namespace not in whole]
    return found


def _list(
    kube: Kube, api_version: str, kind: str, namespace: str, selector: str, say: Say | None
) -> list[Owned]:
    document = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "", "namespace": namespace}}
    if not kube.serves(api_version, kind):
        return []
    collection = kube.key(document).collection
    answer = kube.request("GET", collection, query={"labelSelector": selector})
    if answer.code == 403:
        if say:
            say(f"{kind} cannot be listed in {namespace or 'all namespaces'} with these credentials")
        return []
    answer.or_raise(f"list {kind}")
    now = datetime.now(UTC)
    found = []
    for item in answer.body.get("items") or []:
        metadata = item["metadata"]
        labels = metadata.get("labels") or {}
        if labels.get(MANAGED_BY) != MANAGER or RUN not in labels:
            continue  # whatever the API made of the selector
        created = datetime.fromisoformat(metadata["creationTimestamp"])
        found.append(
            Owned(
                key=kube.key({**document, "metadata": metadata}),
                run=str(labels[RUN]),
                uid=str(metadata["uid"]),
                age=(now - created).total_seconds(),
            )
        )
    return found


def delete_owned(kube: Kube, found: Sequence[Owned]) -> list[str]:
    """Deletes exactly these objects, not successors of the same name; what could not be deleted, in words."""
    problems = []
    for item in found:
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": item.uid}}
        if item.key.kind == "Deployment":
            options["propagationPolicy"] = "Background"
        answer = kube.request("DELETE", item.key.path, body=options)
        if not answer.ok and answer.code not in (404, 409):
            problems.append(f"{item}: {answer.code} {answer.message}")
    return problems


def remove_run(kube: Kube, run: str, namespaces: Iterable[str] = ()) -> list[str]:
    """Everything that a run left, whoever of its processes made it; what could not be deleted, in words."""
    lent = tuple(namespaces)
    problems = []
    for api in dict.fromkeys((kube, kube.mesh)):
        try:
            problems += delete_owned(api, find_owned(api, run=run, namespaces=lent))
        except SetupError as error:
            problems.append(str(error))
    return problems
