"""Events about pods: what `kubectl describe` and `kubectl get events` tell of failures."""

import asyncio
import logging
import secrets
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

from conformance.cluster.embedded.client import ApiClient, ApiClientError
from conformance.cluster.embedded.kubelet.environment import NODE_NAME

Object = dict[str, Any]
Identity = tuple[str, str, str, str]  # (pod uid, container, reason, message)

MAX_WAITING = 1000
MAX_REMEMBERED = 1000

log = logging.getLogger(__name__)


class EventRecorder:
    """Writes events one after the other; a repeated one is counted in the object that it already has."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._waiting: asyncio.Queue[tuple[Identity, Object]] = asyncio.Queue(MAX_WAITING)
        self._known: OrderedDict[Identity, tuple[str, int]] = OrderedDict()  # -> (path, count)

    def record(
        self, pod: Object, *, reason: str, message: str, container: str = "", warning: bool = True
    ) -> None:
        """Note an event about a pod or one of its containers. Never blocks and never raises."""
        metadata = pod["metadata"]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        about = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        }
        if container:
            about["fieldPath"] = f"spec.containers{{{container}}}"
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{metadata['name']}.{secrets.token_hex(8)}",
                "namespace": metadata["namespace"],
            },
            "involvedObject": about,
            "reason": reason,
            "message": message,
            "type": "Warning" if warning else "Normal",
            "source": {"component": "kubelet", "host": NODE_NAME},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            self._waiting.put_nowait(((metadata["uid"], container, reason, message), event))
        except asyncio.QueueFull:
            log.warning("event dropped: %s: %s", reason, message)

    async def run(self) -> None:
        """Write events until cancelled."""
        while True:
            identity, event = await self._waiting.get()
            try:
                await self._write(identity, event)
            except ApiClientError as error:
                # Often a namespace that is going away; an event is never worth a retry.
                log.debug("event not written: %s", error)

    async def _write(self, identity: Identity, event: Object) -> None:
        if identity in self._known:
            path, count = self._known[identity]
            self._known[identity] = (path, count + 1)
            await self._client.patch(path, {"count": count + 1, "lastTimestamp": event["lastTimestamp"]})
            return
        collection = f"/api/v1/namespaces/{event['metadata']['namespace']}/events"
        await self._client.create(collection, event)
        self._known[identity] = (f"{collection}/{event['metadata']['name']}", 1)
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
