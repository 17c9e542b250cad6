"""Garbage collection: what is owned goes with its owner, in the order that the deletion asked for."""

from typing import Any

from conformance.cluster.embedded.client import ApiClient, ApiClientError
from conformance.cluster.embedded.controllers.queue import WorkQueue
from conformance.cluster.embedded.controllers.shared import (
    DEPLOYMENTS,
    PODS,
    SERVICE_ACCOUNTS,
    SERVICES,
    SharedInformers,
)

Object = dict[str, Any]

# What is watched, as owner and as owned: everything of which an owner reference is made in practice.
WATCHED = {
    "Pod": PODS,
    "Service": SERVICES,
    "ConfigMap": "/api/v1/configmaps",
    "Secret": "/api/v1/secrets",
    "ServiceAccount": SERVICE_ACCOUNTS,
    "Deployment": DEPLOYMENTS,
    "EndpointSlice": "/apis/discovery.k8s.io/v1/endpointslices",
}
FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"

Reference = tuple[str, str, str]  # (kind, namespace, name)


class GarbageCollector:
    """Deletes what has lost its owner, and finishes foreground and orphaning deletions."""

    def __init__(self, client: ApiClient, informers: SharedInformers) -> None:
        self._client = client
        self._queue = WorkQueue[Reference]("garbage", self._reconcile)
        self._informers = [informers.watch(path, self._changed) for path in WATCHED.values()]

    async def run(self) -> None:
        """Work until cancelled."""
        await self._queue.run()

    def _changed(self, event: str, item: Object) -> None:
        if event == "DELETED":
            for dependent in self._dependents(item["metadata"]["uid"]):
                self._queue.add(reference_of(dependent))
            for owner in item["metadata"].get("ownerReferences", ()):
                if owner["kind"] in WATCHED:  # it may be waiting for the last of its dependents
                    self._queue.add((owner["kind"], item["metadata"].get("namespace", ""), owner["name"]))
        elif item["metadata"].get("ownerReferences") or item["metadata"].get("deletionTimestamp"):
            self._queue.add(reference_of(item))

    def _dependents(self, uid: str) -> list[Object]:
        return [
            item
            for informer in self._informers
            for item in informer.cache.values()
            if any(owner["uid"] == uid for owner in item["metadata"].get("ownerReferences", ()))
        ]

    async def _reconcile(self, reference: Reference) -> None:
        item = await self._find(reference)
        if item is None:
            return
        metadata = item["metadata"]
        finalizers = metadata.get("finalizers", ())
        if metadata.get("deletionTimestamp"):
            if FOREGROUND in finalizers:
                await self._finish_foreground(reference, item)
            elif ORPHAN in finalizers:
                await self._orphan_dependents(item)
                await self._remove_finalizer(reference, item, ORPHAN)
            return
        owners = metadata.get("ownerReferences", ())
        if owners and not [
            owner for owner in owners if await self._exists(owner, metadata.get("namespace", ""))
        ]:
            await self._delete(item)

    async def _exists(self, owner: Object, namespace: str) -> bool:
        if owner["kind"] not in WATCHED:
            return True  # of a kind that is not watched nothing is known: never delete on a guess
        found = await self._find((owner["kind"], namespace, owner["name"]))
        return found is not None and found["metadata"]["uid"] == owner["uid"]

    async def _finish_foreground(self, reference: Reference, item: Object) -> None:
        dependents = self._dependents(item["metadata"]["uid"])
        for dependent in dependents:
            if not dependent["metadata"].get("deletionTimestamp"):
                await self._delete(dependent)
        if not dependents:
            await self._remove_finalizer(reference, item, FOREGROUND)

    async def _orphan_dependents(self, item: Object) -> None:
        uid = item["metadata"]["uid"]
        for dependent in self._dependents(uid):
            owners = [owner for owner in dependent["metadata"]["ownerReferences"] if owner["uid"] != uid]
            await self._client.patch(
                path_of(reference_of(dependent)), {"metadata": {"ownerReferences": owners or None}}
            )

    async def _remove_finalizer(self, reference: Reference, item: Object, finalizer: str) -> None:
        left = [other for other in item["metadata"]["finalizers"] if other != finalizer]
        version = item["metadata"]["resourceVersion"]
        patch = {"metadata": {"finalizers": left, "resourceVersion": version}}
        try:
            await self._client.patch(path_of(reference), patch)
        except ApiClientError as error:
            if error.code != 404:
                raise

    async def _find(self, reference: Reference) -> Object | None:
        try:
            return await self._client.get(path_of(reference))
        except ApiClientError as error:
            if error.code == 404:
                return None
            raise

    async def _delete(self, item: Object) -> None:
        try:
            await self._client.delete(path_of(reference_of(item)), uid=item["metadata"]["uid"])
        except ApiClientError as error:
            if error.code not in (404, 409):  # gone, or another object of that name by now
                raise


def reference_of(item: Object) -> Reference:
    """The (kind, namespace, name) of an object that is watched."""
    return item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]


def path_of(reference: Reference) -> str:
    """The API path of an object that is watched."""
    kind, namespace, name = reference
    base, _, plural = WATCHED[kind].rpartition("/")
    return f"{base}/namespaces/{namespace}/{plural}/{name}"
