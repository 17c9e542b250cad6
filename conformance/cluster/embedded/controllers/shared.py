"""One informer for each kind of object, however many controllers look at it."""

import asyncio
from collections.abc import Callable
from typing import Any

from conformance.cluster.embedded.client import ApiClient, Informer

Object = dict[str, Any]

NAMESPACES = "/api/v1/namespaces"
PODS = "/api/v1/pods"
SERVICES = "/api/v1/services"
ENDPOINTS = "/api/v1/endpoints"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
CONFIG_MAPS = "/api/v1/configmaps"
SECRETS = "/api/v1/secrets"
RESOURCE_QUOTAS = "/api/v1/resourcequotas"
SERVICE_ACCOUNTS = "/api/v1/serviceaccounts"
DEPLOYMENTS = "/apis/apps/v1/deployments"


class SharedInformers:
    """Made once, asked for by each controller before it runs; then run beside them."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._informers: dict[str, Informer] = {}

    def watch(self, path: str, on_event: Callable[[str, Object], None]) -> Informer:
        """The informer of a list path, with one more listener."""
        informer = self._informers.setdefault(path, Informer(self._client, path))
        informer.subscribe(on_event)
        return informer

    async def run(self) -> None:
        """List and watch until cancelled."""
        await asyncio.gather(*(informer.run() for informer in self._informers.values()))
