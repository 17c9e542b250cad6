"""Keeps a copy of the cluster's objects current: list, then watch, again and again.

One thread per kind speaks to the API with the plain client and hands events to the asyncio loop. A thread
never ends by an API error: it backs off, lists again where the server forgot its place (410), and tells the
difference.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from enforcer.kube import EventStream, Json, KubeError

log = logging.getLogger("enforcer.watch")

WATCH_SECONDS = 300
BACKOFF_SECONDS = (0.05, 5.0)
GONE = 410
NOT_FOUND = 404
LIST_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A watched kind. `optional`: a cluster that does not serve it has no objects of it."""

    name: str
    path: str
    optional: bool = False


POLICIES = Kind(name="AuthorizationPolicy", path="/apis/security.istio.io/v1/authorizationpolicies")
PEER_AUTHENTICATIONS = Kind(
    name="PeerAuthentication", path="/apis/security.istio.io/v1/peerauthentications", optional=True
)
PODS = Kind(name="Pod", path="/api/v1/pods")
SERVICES = Kind(name="Service", path="/api/v1/services")
NAMESPACES = Kind(name="Namespace", path="/api/v1/namespaces")
MUTATING = Kind(
    name="MutatingWebhookConfiguration",
    path="/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
)
VALIDATING = Kind(
    name="ValidatingWebhookConfiguration",
    path="/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
)
ALL = (POLICIES, PEER_AUTHENTICATIONS, PODS, SERVICES, NAMESPACES, MUTATING, VALIDATING)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Key:
    """Names an object; cluster-scoped ones have an empty namespace."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One object as it is now; `document` None means it is gone."""

    key: Key
    document: Json | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Everything of a kind, as listed: what is not in it is gone."""

    kind: str
    documents: Mapping[Key, Json]


Event = Change | Listed


class Api(Protocol):
    """What a watcher asks of the cluster."""

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Json: ...

    def watch(self, path: str, *, resource_version: str, seconds: int) -> EventStream: ...


def key_of(kind: str, document: Json) -> Key:
    metadata = document["metadata"]
    return Key(kind=kind, namespace=metadata.get("namespace", ""), name=metadata["name"])


def list_all(api: Api, kind: Kind) -> tuple[dict[Key, Json], str]:
    """All objects of a kind and the resourceVersion to watch from. Raises KubeError."""
    documents: dict[Key, Json] = {}
    query = {"limit": str(LIST_PAGE)}
    while True:
        page = api.get(kind.path, query)
        for document in page.get("items") or ():
            documents[key_of(kind.name, document)] = document
        metadata = page.get("metadata") or {}
        following = metadata.get("continue")
        if not following:
            return documents, str(metadata.get("resourceVersion", ""))
        query = {"limit": str(LIST_PAGE), "continue": following}


def backoff(*, first: float = BACKOFF_SECONDS[0], last: float = BACKOFF_SECONDS[1]) -> Iterator[float]:
    """Seconds to wait: doubling, bounded, spread so that several watchers do not return in step."""
    delay = first
    while True:
        yield delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        delay = min(delay * 2, last)


class Watcher:
    """The thread of one kind. `emit` is called from that thread, in the order of events."""

    def __init__(self, api: Api, kind: Kind, emit: Callable[[Event], None]) -> None:
        self._api = api
        self._kind = kind
        self._emit = emit
        self._stopping = threading.Event()
        self._version = ""
        self._stream: EventStream | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch-{kind.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; returns when it has ended or hangs in a connection attempt (daemon: harmless)."""
        self._stopping.set()
        stream = self._stream
        if stream is not None:
            stream.stop()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        delays = backoff()
        while not self._stopping.is_set():
            place = self._version
            try:
                if not self._version:
                    documents, self._version = list_all(self._api, self._kind)
                    self._emit(Listed(kind=self._kind.name, documents=documents))
                self._follow()
            except KubeError as error:
                self._recover(error)
            if self._version and self._version != place:
                # Progress: whatever went wrong before is over.
                delays = backoff()
            else:
                self._stopping.wait(next(delays))

    def _recover(self, error: KubeError) -> None:
        if self._stopping.is_set():
            return
        if error.status == GONE:
            log.info("%s: the server forgot our place, listing again", self._kind.name)
            self._version = ""
            return
        if error.status == NOT_FOUND and self._kind.optional:
            self._emit(Listed(kind=self._kind.name, documents={}))
            self._version = ""
            return
        # As text: an exception in a log record keeps its frames, and with them a connection, alive.
        log.warning("%s: %s", self._kind.name, str(error))

    def _follow(self) -> None:
        """Passes on one watch's events, keeping our place in `_version`. Raises KubeError."""
        stream = self._api.watch(self._kind.path, resource_version=self._version, seconds=WATCH_SECONDS)
        self._stream = stream
        # stop() may have run between the check of the loop and the line above.
        if self._stopping.is_set():
            stream.stop()
        try:
            for event in stream:
                document = event["object"]
                if event["type"] == "ERROR":
                    raise KubeError(
                        status=int(document.get("code", 0)), message=str(document.get("message", ""))
                    )
                if event["type"] != "BOOKMARK":
                    gone = event["type"] == "DELETED"
                    key = key_of(self._kind.name, document)
                    self._emit(Change(key=key, document=None if gone else document))
                # Only after the event is handed over: a broken watch goes on behind what was seen, never
                # before it.
                self._version = document["metadata"]["resourceVersion"]
        finally:
            self._stream = None
