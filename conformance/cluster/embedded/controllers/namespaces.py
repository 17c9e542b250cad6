"""Namespaces: emptied when deleted, and given what Kubernetes puts into each new one."""

from typing import Any

from conformance.cluster.embedded.client import ApiClient, ApiClientError
from conformance.cluster.embedded.controllers.queue import WorkQueue
from conformance.cluster.embedded.controllers.shared import NAMESPACES, SERVICE_ACCOUNTS, SharedInformers

Object = dict[str, Any]

ROOT_CA = "kube-root-ca.crt"
# The pods of a deleted namespace end in their own time; this is how often their absence is looked for.
LOOK_AGAIN_SECONDS = 0.05


class NamespaceController:
    """Empties a namespace that is being deleted, then lets it go; fills a new one."""

    def __init__(self, client: ApiClient, informers: SharedInformers, *, ca_certificate: str) -> None:
        self._client = client
        self._ca_certificate = ca_certificate
        self._queue = WorkQueue[str]("namespaces", self._reconcile)
        self._namespaces = informers.watch(NAMESPACES, self._changed)
        informers.watch(SERVICE_ACCOUNTS, self._service_account_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._queue.run()

    def _changed(self, _event: str, namespace: Object) -> None:
        self._queue.add(namespace["metadata"]["name"])

    def _service_account_changed(self, event: str, account: Object) -> None:
        if event == "DELETED":
            self._queue.add(account["metadata"]["namespace"])

    async def _reconcile(self, name: str) -> None:
        namespace = self._namespaces.cache.get(("", name))
        if namespace is None:
            return
        if not namespace["metadata"].get("deletionTimestamp"):
            await self._fill(name)
        elif await self._empty(name):
            await self._finalize(name)
        else:
            self._queue.add_later(name, LOOK_AGAIN_SECONDS)

    async def _fill(self, name: str) -> None:
        """Make the default service account and the cluster's CA certificate."""
        path = f"{NAMESPACES}/{name}"
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        authority = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": ROOT_CA},
            "data": {"ca.crt": self._ca_certificate},
        }
        await self._create_once(f"{path}/serviceaccounts", account)
        await self._create_once(f"{path}/configmaps", authority)

    async def _create_once(self, path: str, item: Object) -> None:
        try:
            await self._client.create(path, item)
        except ApiClientError as error:
            # 409: it is there. 403/404: the namespace went away meanwhile.
            if error.code not in (403, 404, 409):
                raise

    async def _empty(self, name: str) -> bool:
        """Delete everything in the namespace; whether nothing is left."""
        left = False
        for path in await namespaced_paths(self._client, name):
            items, _ = await self._client.list(path)
            left = left or bool(items)
            for item in items:
                if item["metadata"].get("deletionTimestamp"):
                    continue
                try:
                    await self._client.delete(f"{path}/{item['metadata']['name']}")
                except ApiClientError as error:
                    if error.code != 404:
                        raise
        return not left

    async def _finalize(self, name: str) -> None:
        try:
            namespace = await self._client.get(f"{NAMESPACES}/{name}")
            finalizers = namespace.get("spec", {}).get("finalizers", [])
            remaining = [finalizer for finalizer in finalizers if finalizer != "kubernetes"]
            spec = {**namespace.get("spec", {}), "finalizers": remaining}
            await self._client.update(f"{NAMESPACES}/{name}/finalize", {**namespace, "spec": spec})
        except ApiClientError as error:
            if error.code != 404:
                raise


async def namespaced_paths(client: ApiClient, namespace: str) -> list[str]:
    """The list paths of everything that can stand in a namespace, as discovery tells."""
    bases = ["/api/v1"]
    for group in (await client.get("/apis"))["groups"]:
        bases.append(f"/apis/{group['preferredVersion']['groupVersion']}")
    found = []
    for base in bases:
        for resource in (await client.get(base))["resources"]:
            deletable = {"list", "delete"} <= set(resource["verbs"])
            if resource["namespaced"] and deletable and "/" not in resource["name"]:
                found.append(f"{base}/namespaces/{namespace}/{resource['name']}")
    return found
