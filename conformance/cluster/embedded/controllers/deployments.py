"""Deployments to pods. One step shorter than Kubernetes: there are no ReplicaSets in between."""

import asyncio
import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from conformance.cluster.embedded.client import ApiClient, ApiClientError
from conformance.cluster.embedded.controllers.deployment_status import (
    COMPLETE,
    HASH_LABEL,
    deadline_of,
    is_ready,
    seconds_since,
    share_of,
    status_of,
)
from conformance.cluster.embedded.controllers.queue import WorkQueue
from conformance.cluster.embedded.controllers.shared import DEPLOYMENTS, PODS, SharedInformers

Object = dict[str, Any]
Name = tuple[str, str]  # (namespace, name)


class DeploymentController:
    """Keeps as many pods of the current template as each Deployment asks for, and its status true."""

    def __init__(self, client: ApiClient, informers: SharedInformers) -> None:
        self._client = client
        self._queue = WorkQueue[Name]("deployments", self._reconcile)
        self._deadlines: dict[Name, asyncio.TimerHandle] = {}
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
                if (timer := self._deadlines.pop(key, None)) is not None:
                    timer.cancel()
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
        self._await_deadline(key, deployment["spec"], status)
        if failure is not None:
            raise failure

    def _await_deadline(self, key: Name, spec: Object, status: Object) -> None:
        """Look again when the rollout will have stood still for too long."""
        if (timer := self._deadlines.pop(key, None)) is not None:
            timer.cancel()
        progress = next(c for c in status["conditions"] if c["type"] == "Progressing")
        if progress["status"] == "True" and progress["reason"] != COMPLETE:
            left = deadline_of(spec) - seconds_since(progress["lastUpdateTime"])
            self._deadlines[key] = self._queue.add_later(key, max(0.0, left) + 1)


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
