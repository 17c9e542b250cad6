"""A pod's object in the API: bound to the node, its status written, deleted at the end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from conformance.cluster.embedded.client import ApiClient, ApiClientError
from conformance.cluster.embedded.kubelet.environment import NODE_NAME
from conformance.cluster.embedded.kubelet.pod_status import (
    PodMoment,
    changes,
    merged_conditions,
    status_of,
    timestamp,
)

# Changes within this time become one write, but for those that somebody waits for.
COALESCE_SECONDS = 0.05
FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 2.0

log = logging.getLogger(__name__)


class PodObject:
    """What the node says of one pod. `moment`: how the pod stands now; `vanished`: the object is gone, and
    nothing is said any more."""

    def __init__(
        self,
        client: ApiClient,
        path: str,
        *,
        uid: str,
        status: Mapping[str, Any],
        moment: Callable[[], PodMoment],
    ) -> None:
        self.vanished = False
        self._client = client
        self._path = path
        self._uid = uid
        self._moment = moment
        self._written = status
        self._dirty = asyncio.Event()
        self._urgent = asyncio.Event()
        self._writing = asyncio.Lock()

    async def bind(self) -> None:
        """Say that the pod is this node's: the API grants no grace period to a pod that no node has."""
        patch = {"metadata": {"uid": self._uid}, "spec": {"nodeName": NODE_NAME}}
        await self._insist("bind", lambda: self._client.patch(self._path, patch))

    async def delete(self) -> None:
        """Let the object go."""
        await self._insist("delete", lambda: self._client.delete(self._path, grace_seconds=0, uid=self._uid))

    async def _insist(self, what: str, ask: Callable[[], Awaitable[object]]) -> None:
        """Until the API has done it, or the object is gone or another pod has its name."""
        delay = FIRST_RETRY_SECONDS
        while not self.vanished:
            try:
                await ask()
            except ApiClientError as error:
                if error.code in (404, 409):
                    return
                log.warning("%s %s: %s", what, self._path, error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, LAST_RETRY_SECONDS)
            else:
                return

    def mark(self, *, urgent: bool) -> None:
        """The status may have changed. `urgent`: others wait for this change."""
        self._dirty.set()
        if urgent:
            self._urgent.set()

    async def write_statuses(self) -> None:
        """Write the status when it has changed, soon or at once."""
        while True:
            await self._dirty.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(COALESCE_SECONDS):
                    await self._urgent.wait()
            self._dirty.clear()
            self._urgent.clear()
            await self.write_status()

    async def write_status(self) -> None:
        """Write what differs from the status that was written last."""
        async with self._writing:
            moment = self._moment()
            conditions = merged_conditions(self._written, moment.pod.get("status") or {})
            status = status_of(moment, {**self._written, "conditions": conditions}, now=timestamp())
            patch = changes(status, self._written)
            if not patch or self.vanished:
                return
            try:
                await self._client.patch(
                    f"{self._path}/status", {"metadata": {"uid": self._uid}, "status": patch}
                )
            except ApiClientError as error:
                if error.code not in (404, 409):
                    log.warning("status of %s: %s", self._path, error)
                    asyncio.get_running_loop().call_later(LAST_RETRY_SECONDS, self._dirty.set)
                return
            merged = {**self._written, **patch}
            self._written = {key: value for key, value in merged.items() if value is not None}
