"""The work queue every controller stands on: one reconcile at a time, retries with growing delay."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from conformance.cluster.embedded.client import ApiClientError

log = logging.getLogger(__name__)

Key = TypeVar("Key")

FIRST_RETRY_SECONDS = 0.02
LAST_RETRY_SECONDS = 5.0


class WorkQueue(Generic[Key]):
    """Keys waiting to be reconciled, each at most once however often it was added."""

    def __init__(self, name: str, reconcile: Callable[[Key], Awaitable[None]]) -> None:
        self._name = name
        self._reconcile = reconcile
        self._waiting: dict[Key, None] = {}
        self._failures: dict[Key, int] = {}
        self._filled = asyncio.Event()

    def add(self, key: Key) -> None:
        """Ask for a reconcile of key; a key already waiting is not added twice."""
        self._waiting[key] = None
        self._filled.set()

    def add_later(self, key: Key, seconds: float) -> asyncio.TimerHandle:
        """Ask for a reconcile of key in so many seconds. Cancelling the handle takes it back."""
        return asyncio.get_running_loop().call_later(seconds, self.add, key)

    async def run(self) -> None:
        """Reconcile until cancelled. An API error brings the key back later; it never ends the controller."""
        while True:
            while not self._waiting:
                self._filled.clear()
                await self._filled.wait()
            key = next(iter(self._waiting))
            del self._waiting[key]
            try:
                await self._reconcile(key)
            except (ApiClientError, OSError) as error:
                failures = self._failures[key] = self._failures.get(key, 0) + 1
                delay = retry_delay(failures)
                log.info("%s: %s: %s; again in %.2f s", self._name, key, error, delay)
                self.add_later(key, delay)
            else:
                self._failures.pop(key, None)


def retry_delay(failures: int) -> float:
    """Seconds after so many failures in a row."""
    # Doubled no more often than matters: a key may fail for hours, and a power of that many is no float.
    return min(FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 16), LAST_RETRY_SECONDS)
