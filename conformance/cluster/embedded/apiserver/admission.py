"""Admission: what happens to a write between authorization and storage.

The order is the API server's: built-in mutators, mutating webhooks (after which the built-in mutators see the
object once more), then validation by the built-in checks, the validating webhooks, and the quota last.
"""

from __future__ import annotations

from typing import Any

from conformance.cluster.embedded.apiserver import admission_builtin, pod_security, quota, webhooks
from conformance.cluster.embedded.apiserver.attributes import Attributes, ListObjects
from conformance.cluster.embedded.apiserver.auth import Find
from conformance.cluster.embedded.apiserver.webhook_client import WebhookClient


class Admission:
    """Holds the connections to webhooks: `close` it."""

    def __init__(self, *, list_objects: ListObjects, find: Find) -> None:
        self._list_objects = list_objects
        self._find = find
        self._client = WebhookClient(find=find)

    async def mutate(self, attributes: Attributes) -> tuple[dict[str, Any], list[str]]:
        """The object as it shall be ({} for a DELETE) and the webhooks' warnings. Raises ApiError.
        The object given is not changed."""
        attributes = await admission_builtin.mutate(attributes, self._find)
        before = attributes.obj
        attributes, warnings = await webhooks.mutate(
            attributes, list_objects=self._list_objects, find=self._find, client=self._client
        )
        if attributes.obj is not before:
            attributes = await admission_builtin.mutate(attributes, self._find)
        return attributes.obj or {}, warnings

    async def validate(self, attributes: Attributes) -> list[str]:
        """The warnings. Raises ApiError: refused. Nothing is awaited after the quota has been counted."""
        admission_builtin.validate(attributes)
        warnings = pod_security.check(attributes, self._find)
        warnings += await webhooks.validate(
            attributes, list_objects=self._list_objects, find=self._find, client=self._client
        )
        quota.check(attributes, self._list_objects)
        return warnings

    async def close(self) -> None:
        await self._client.close()
