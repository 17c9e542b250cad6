"""Keeps the API server's trust in our webhooks: our authority stays in their configurations."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from enforcer import watch
from enforcer.kube import Json, Kube, KubeError
from enforcer.mesh import MeshOptions
from enforcer.watch import MUTATING, VALIDATING, Change, Event, Key, Listed
from enforcer.webhook import trust_patch

log = logging.getLogger("enforcer")


class Hooks:
    """The two webhook configurations. Belongs to the loop."""

    def __init__(self, api: Kube, options: MeshOptions, authority: bytes) -> None:
        self._api = api
        self._authority = authority
        self._documents: dict[Key, Json] = {}
        self._changed = asyncio.Event()
        self._trusted: set[Key] = set()
        self._keys = {
            Key(kind=MUTATING.name, namespace="", name=options.mutating_webhook),
            Key(kind=VALIDATING.name, namespace="", name=options.validating_webhook),
        }

    @property
    def missing(self) -> set[Key]:
        """The configurations by which we are not trusted yet."""
        return self._keys - self._trusted

    def apply(self, event: Event) -> None:
        """Takes a change, or a whole list of a kind."""
        match event:
            case Change(key=key, document=document):
                self._documents.pop(key, None)
                if document is not None:
                    self._documents[key] = document
            case Listed(kind=kind, documents=documents):
                others = {key: found for key, found in self._documents.items() if key.kind != kind}
                self._documents = others | dict(documents)
        self._changed.set()

    async def run(self) -> None:
        """Runs until cancelled."""
        delays = watch.backoff()
        timeout: float | None = None
        while True:
            # The timeout: a failed write is due again.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), timeout)
            self._changed.clear()
            failed = False
            for key in sorted(self._keys):
                failed |= not await self._trust(key)
            timeout = next(delays) if failed else None
            if not failed:
                delays = watch.backoff()

    async def _trust(self, key: Key) -> bool:
        document = self._documents.get(key)
        if document is None:
            self._trusted.discard(key)
            return True
        patch = trust_patch(document, self._authority)
        if patch:
            self._trusted.discard(key)
            kind = MUTATING if key.kind == MUTATING.name else VALIDATING
            path = f"{kind.path}/{key.name}"
            try:
                await asyncio.to_thread(
                    self._api.patch, path, patch, content_type="application/json-patch+json"
                )
            except KubeError as error:
                log.warning("%s: %s", key, error)
                return False
        self._trusted.add(key)
        return True
