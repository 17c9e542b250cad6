"""ResourceQuotas: their status says what the namespace uses of them. Admission counts for itself."""

from typing import Any

from conformance.cluster.embedded.apiserver.quota import counted_resources, quota_status
from conformance.cluster.embedded.client import ApiClient, ApiClientError
from conformance.cluster.embedded.controllers.queue import WorkQueue
from conformance.cluster.embedded.controllers.shared import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    PODS,
    RESOURCE_QUOTAS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    SharedInformers,
)

Object = dict[str, Any]
Name = tuple[str, str]  # (namespace, name)

WATCHED = {
    "configmaps": CONFIG_MAPS,
    "deployments.apps": DEPLOYMENTS,
    "pods": PODS,
    "resourcequotas": RESOURCE_QUOTAS,
    "secrets": SECRETS,
    "serviceaccounts": SERVICE_ACCOUNTS,
    "services": SERVICES,
}
# What else a quota may count is not watched but looked at this often, while there is such a quota.
LOOK_AGAIN_SECONDS = 2.0


class QuotaController:
    """Keeps the status of every ResourceQuota true."""

    def __init__(self, client: ApiClient, informers: SharedInformers) -> None:
        self._client = client
        self._queue = WorkQueue[Name]("quotas", self._reconcile)
        self._caches = {
            resource: informers.watch(path, self._changed).cache for resource, path in WATCHED.items()
        }

    async def run(self) -> None:
        """Work until cancelled."""
        await self._queue.run()

    def _changed(self, _event: str, item: Object) -> None:
        for namespace, name in self._caches["resourcequotas"]:
            if namespace == item["metadata"].get("namespace"):
                self._queue.add((namespace, name))

    async def _reconcile(self, key: Name) -> None:
        quota = self._caches["resourcequotas"].get(key)
        if quota is None:
            return
        namespace, name = key
        objects = {resource: list(cache.values()) for resource, cache in self._caches.items()}
        unwatched = counted_resources(quota) - objects.keys()
        for resource in unwatched:
            objects[resource] = await self._list(resource, namespace)
        status = quota_status(quota, lambda resource: objects[resource])
        if status != quota.get("status"):
            await self._write(f"/api/v1/namespaces/{namespace}/resourcequotas/{name}", quota, status)
        if unwatched:
            self._queue.add_later(key, LOOK_AGAIN_SECONDS)

    async def _write(self, path: str, quota: Object, status: Object) -> None:
        try:
            await self._client.update(f"{path}/status", {**quota, "status": status})
        except ApiClientError as error:
            if error.code not in (404, 409):  # gone, or changed: its event brings it back
                raise

    async def _list(self, resource: str, namespace: str) -> list[Object]:
        """The objects of a resource (plural.group); none where it is not served."""
        plural, _, group = resource.partition(".")
        base = "/api/v1"
        try:
            if group:
                document = await self._client.get(f"/apis/{group}")
                base = f"/apis/{document['preferredVersion']['groupVersion']}"
            items, _version = await self._client.list(f"{base}/namespaces/{namespace}/{plural}")
        except ApiClientError as error:
            if error.code != 404:
                raise
            return []
        return items
