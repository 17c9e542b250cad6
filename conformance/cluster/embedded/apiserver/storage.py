"""The cluster's state: objects in memory, one resourceVersion for all, watches with a bounded history.

Objects handed in and out are never changed in place: a writer makes a new object (sharing what it does not
change) and puts it here. So readers, watchers and the history share one copy. Everything runs in one asyncio
loop and no method awaits: each call is atomic.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
HISTORY = 2048  # events remembered per resource: what a watcher may lag behind before it must list again


class Stale(Exception):
    """The object is not (or no longer) the one the writer saw."""


class Gone(Exception):
    """The asked resourceVersion is older than the history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change. `old` is None for ADDED; for DELETED `new` is the last state, newly versioned."""

    type: str
    version: int
    new: Object
    old: Object | None


class Subscription:
    """The events of one resource after a version. A reader that falls a whole history behind is closed."""

    def __init__(self, backlog: Iterable[Event]) -> None:
        self._events: deque[Event] = deque(backlog)
        self._wakeup = asyncio.Event()
        self.closed = False
        if self._events:
            self._wakeup.set()

    def offer(self, event: Event) -> None:
        if len(self._events) >= HISTORY:
            self.close()
            return
        self._events.append(event)
        self._wakeup.set()

    def close(self) -> None:
        self.closed = True
        self._wakeup.set()

    async def take(self) -> list[Event]:
        """All events that wait, at least one; an empty list once the subscription is closed."""
        await self._wakeup.wait()
        events = list(self._events)
        self._events.clear()
        if not self.closed:
            self._wakeup.clear()
        return events


class _Shelf:
    """What is kept of one resource."""

    __slots__ = ("events", "forgotten", "objects", "subscriptions")

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.events: deque[Event] = deque()
        self.forgotten = 0  # the version of the newest event that fell out of the history
        self.subscriptions: set[Subscription] = set()


class Storage:
    """Objects by resource (`pods`, `deployments.apps`), namespace ("" = cluster scope) and name."""

    def __init__(self, *, history: int = HISTORY) -> None:
        self._history = history
        self._shelves: dict[str, _Shelf] = {}
        self.version = 1

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        shelf = self._shelves.get(resource)
        return None if shelf is None else shelf.objects.get((namespace, name))

    def list(self, resource: str, namespace: str | None = None) -> list[Object]:
        """Ordered by namespace and name; None = all namespaces."""
        shelf = self._shelves.get(resource)
        if shelf is None:
            return []
        if namespace is None:
            return [shelf.objects[key] for key in sorted(shelf.objects)]
        return [shelf.objects[key] for key in sorted(shelf.objects) if key[0] == namespace]

    def all(self, resource: str) -> Iterator[Object]:
        """In no order: for look-ups that read everything."""
        shelf = self._shelves.get(resource)
        return iter(()) if shelf is None else iter(list(shelf.objects.values()))

    def put(self, resource: str, obj: Object, *, seen: Object | None) -> Object:
        """Store `obj` in place of `seen` (None = none may stand there); returns it with its resourceVersion.

        Raises Stale where another object (or none) stands there now.
        """
        shelf = self._shelf(resource)
        metadata = obj["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        if shelf.objects.get(key) is not seen:
            raise Stale
        stored = self._stamped(obj)
        shelf.objects[key] = stored
        kind = "ADDED" if seen is None else "MODIFIED"
        self._publish(shelf, Event(type=kind, version=self.version, new=stored, old=seen))
        return stored

    def remove(self, resource: str, seen: Object) -> Object:
        """Drop `seen`; returns its last state. Raises Stale where it is not what stands there."""
        shelf = self._shelf(resource)
        metadata = seen["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        if shelf.objects.get(key) is not seen:
            raise Stale
        del shelf.objects[key]
        last = self._stamped(seen)
        self._publish(shelf, Event(type="DELETED", version=self.version, new=last, old=seen))
        return last

    def drop(self, resource: str) -> None:
        """Forget a resource that is no longer served: its objects go, its watches end."""
        shelf = self._shelves.get(resource)
        if shelf is None:
            return
        for obj in list(shelf.objects.values()):
            self.remove(resource, obj)
        for subscription in list(shelf.subscriptions):
            subscription.close()
        del self._shelves[resource]

    def subscribe(self, resource: str, since: int) -> Subscription:
        """The events after version `since`. Raises Gone where some of them are forgotten."""
        shelf = self._shelf(resource)
        if since < shelf.forgotten:
            raise Gone
        subscription = Subscription(event for event in shelf.events if event.version > since)
        shelf.subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, resource: str, subscription: Subscription) -> None:
        subscription.close()
        shelf = self._shelves.get(resource)
        if shelf is not None:
            shelf.subscriptions.discard(subscription)

    def forgotten(self, resource: str) -> int:
        """The oldest version a watch of this resource may start from."""
        shelf = self._shelves.get(resource)
        return 0 if shelf is None else shelf.forgotten

    def close(self) -> None:
        """End every watch: the server stops."""
        for shelf in self._shelves.values():
            for subscription in list(shelf.subscriptions):
                subscription.close()

    def _shelf(self, resource: str) -> _Shelf:
        shelf = self._shelves.get(resource)
        if shelf is None:
            shelf = self._shelves[resource] = _Shelf()
        return shelf

    def _stamped(self, obj: Object) -> Object:
        self.version += 1
        return obj | {"metadata": obj["metadata"] | {"resourceVersion": str(self.version)}}

    def _publish(self, shelf: _Shelf, event: Event) -> None:
        shelf.events.append(event)
        if len(shelf.events) > self._history:
            shelf.forgotten = shelf.events.popleft().version
        for subscription in shelf.subscriptions:
            subscription.offer(event)
