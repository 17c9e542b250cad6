"""Deployments to pods. One step shorter than Kubernetes: there are no ReplicaSets in between."""

import copy
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from conformance.cluster.embedded.client import ApiClient, ApiClientError
from conformance.cluster.embedded.controllers.queue import WorkQueue
from conformance.cluster.embedded.controllers.shared import DEPLOYMENTS, PODS, SharedInformers

Object = dict[str, Any]
Name = tuple[str, str]  # (namespace, name)

HASH_LABEL = "pod-template-hash"


class DeploymentController:
    """Keeps as many pods of the current template as each Deployment asks for, and its status true."""

    def __init__(self, client: ApiClient, informers: SharedInformers) -> None:
        self._client = client
        self._queue = WorkQueue[Name]("deployments", self._reconcile)
        informers.watch(DEPLOYMENTS, self._deployment_changed)
        informers.watch(PODS, self._pod_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._queue.run()

    def _deployment_changed(self, _event: str, deployment: Object) -> None:
        self._queue.add(name_of(deployment))

    def _pod_changed(self, _event: str, pod: Object) -> None:
        for owner in pod["metadata"].get("ownerReferences", ()):
            if owner["kind"] == "Deployment":
                self._queue.add((pod["metadata"]["namespace"], owner["name"]))

    async def _reconcile(self, key: Name) -> None:
        namespace, name = key
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        try:
            deployment = await self._client.get(path)
        except ApiClientError as error:
            if error.code == 404:
                return
            raise
        if deployment["metadata"].get("deletionTimestamp"):
            return
        # Read from the API, not from the informer's cache: a pod just made must be counted.
        listed, _ = await self._client.list(f"/api/v1/namespaces/{namespace}/pods")
        uid = deployment["metadata"]["uid"]
        pods = [pod for pod in listed if owned_by(pod, uid) and is_active(pod)]
        template_hash = hash_of(deployment["spec"]["template"])
        creations, deletions = plan(deployment["spec"], pods, template_hash)
        failure = None
        for _ in range(creations):
            try:
                pod = await self._client.create(
                    f"/api/v1/namespaces/{namespace}/pods", pod_from(deployment, template_hash)
                )
            except ApiClientError as error:
                failure = error
                break
            pods.append(pod)
        for pod in deletions:
            metadata = pod["metadata"]
            await self._client.delete(
                f"/api/v1/namespaces/{namespace}/pods/{metadata['name']}", uid=metadata["uid"]
            )
        status = status_of(deployment, pods, template_hash, failure)
        if status != deployment.get("status"):
            await self._client.update(f"{path}/status", {**deployment, "status": status})
        if failure is not None:
            raise failure


def name_of(item: Object) -> Name:
    """The (namespace, name) of an object; the namespace is empty for a cluster-wide one."""
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def owned_by(item: Object, uid: str) -> bool:
    """Whether the object's controller has this uid."""
    return any(owner["uid"] == uid for owner in item["metadata"].get("ownerReferences", ()))


def is_active(pod: Object) -> bool:
    """Whether the pod still counts: not ending and not ended."""
    ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return not ended and not pod["metadata"].get("deletionTimestamp")


def is_ready(pod: Object) -> bool:
    """Whether the pod's Ready condition is True."""
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in pod.get("status", {}).get("conditions", ())
    )


def hash_of(template: Mapping[str, object]) -> str:
    """A short stable name for a pod template."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def pod_from(deployment: Object, template_hash: str) -> Object:
    """The pod that the Deployment's template describes."""
    template = copy.deepcopy(deployment["spec"]["template"])
    metadata = template.get("metadata") or {}
    name = deployment["metadata"]["name"]
    owner = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": name,
        "uid": deployment["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **metadata,
            "generateName": f"{name}-{template_hash}-",
            "labels": {**(metadata.get("labels") or {}), HASH_LABEL: template_hash},
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
    }


def plan(spec: Object, pods: Sequence[Object], template_hash: str) -> tuple[int, list[Object]]:
    """How many pods of the current template to create now, and which pods to delete now."""
    wanted = spec.get("replicas", 1)
    current = [pod for pod in pods if pod["metadata"]["labels"].get(HASH_LABEL) == template_hash]
    outdated = [pod for pod in pods if pod not in current]
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        if outdated:
            return 0, outdated
        surge, unavailable = 0, wanted
    else:
        rolling = strategy.get("rollingUpdate") or {}
        surge = share_of(rolling.get("maxSurge", "25%"), wanted, round_up=True)
        unavailable = share_of(rolling.get("maxUnavailable", "25%"), wanted, round_up=False)
        if surge == 0 and unavailable == 0:
            unavailable = 1  # as Kubernetes: one of them must give way
    creations = max(0, min(wanted - len(current), wanted + surge - len(pods)))
    # Not-ready pods go first, of both kinds: they serve nobody.
    surplus = sorted(current, key=is_ready)[: max(0, len(current) - wanted)]
    removable = sum(map(is_ready, pods)) - (wanted - unavailable)
    for pod in sorted(outdated, key=is_ready):
        if not is_ready(pod):
            surplus.append(pod)
        elif removable > 0:
            surplus.append(pod)
            removable -= 1
    return creations, surplus


def share_of(value: int | str, whole: int, *, round_up: bool) -> int:
    """An IntOrString of a rolling update as a number of pods."""
    if isinstance(value, int):
        return value
    exact = int(value.rstrip("%")) * whole / 100
    return math.ceil(exact) if round_up else math.floor(exact)


def status_of(
    deployment: Object, pods: Sequence[Object], template_hash: str, failure: ApiClientError | None
) -> Object:
    """The Deployment's status as its pods and the last failure to create one tell it."""
    wanted = deployment["spec"].get("replicas", 1)
    updated = sum(pod["metadata"]["labels"].get(HASH_LABEL) == template_hash for pod in pods)
    ready = sum(map(is_ready, pods))
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    enough = ready >= wanted - share_of(rolling.get("maxUnavailable", "25%"), wanted, round_up=False)
    complete = updated == wanted == len(pods) and ready == wanted
    conditions = [
        (
            "Available",
            enough,
            "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
            f"Deployment {'has' if enough else 'does not have'} minimum availability.",
        ),
        (
            "Progressing",
            True,
            "NewReplicaSetAvailable" if complete else "ReplicaSetUpdated",
            f"The pods of template {template_hash} {'are all there' if complete else 'are coming up'}.",
        ),
    ]
    if failure is not None:
        conditions.append(("ReplicaFailure", True, "FailedCreate", failure.message))
    counts = {
        "replicas": len(pods),
        "updatedReplicas": updated,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(0, wanted - ready),
    }
    before = {c["type"]: c for c in (deployment.get("status") or {}).get("conditions", ())}
    return {
        "observedGeneration": deployment["metadata"].get("generation", 1),
        **{field: count for field, count in counts.items() if count},
        "conditions": [
            condition_of(kind, holds=holds, reason=reason, message=message, before=before.get(kind))
            for kind, holds, reason, message in conditions
        ],
    }


def condition_of(kind: str, *, holds: bool, reason: str, message: str, before: Object | None) -> Object:
    """A condition whose times move only when it changes, so that an unchanged status is not written again."""
    status = "True" if holds else "False"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    same_status = before is not None and before["status"] == status
    unchanged = (
        same_status and before is not None and (before["reason"], before["message"]) == (reason, message)
    )
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": before["lastTransitionTime"] if before and same_status else now,
        "lastUpdateTime": before["lastUpdateTime"] if before and unchanged else now,
    }
