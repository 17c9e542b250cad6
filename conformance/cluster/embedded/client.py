"""A small asyncio client of the Kubernetes API, and the informer that kubelet and controllers stand on.

Paths are API paths, for example "/api/v1/namespaces/foo/pods/x/status".
"""

import asyncio
import json
import logging
import ssl as ssl_module
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp

Object = dict[str, Any]
Key = tuple[str, str]  # (namespace, name); the namespace is empty for a cluster-wide object

log = logging.getLogger(__name__)

MERGE_PATCH = "application/merge-patch+json"
REQUEST_SECONDS = 60.0  # longer than any admission webhook may take
WATCH_SECONDS = 3600
FIRST_RETRY_SECONDS = 0.02
LAST_RETRY_SECONDS = 1.0
UNREACHABLE = 0  # the code of an ApiClientError that no server answered
GONE = 410


class ApiClientError(Exception):
    """The API refused a request, or could not be asked (code 0, reason Unreachable)."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message


class ApiClient:
    """One pool of connections to an API server, over a Unix socket or a URL, with a bearer token."""

    def __init__(
        self,
        *,
        socket: Path | None = None,
        url: str | None = None,
        token: str,
        ssl: ssl_module.SSLContext | None = None,
    ) -> None:
        if (socket is None) == (url is None):
            raise ValueError("give either a socket or a url")
        self._socket = socket
        self._base = (url or "http://api").rstrip("/")
        self._token = token
        self._ssl = ssl
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str) -> Object:
        """One object (or any JSON document of the API, as discovery)."""
        return await self._request("GET", path)

    async def list(
        self, path: str, *, label_selector: str | None = None, field_selector: str | None = None
    ) -> tuple[list[Object], str]:
        """(items, resourceVersion of the list). Items have apiVersion and kind, as a watch gives them."""
        answer = await self._request("GET", path, query=selectors(label_selector, field_selector))
        kind = str(answer.get("kind", "")).removesuffix("List")
        version = answer.get("apiVersion", "")
        items = [{"apiVersion": version, "kind": kind, **item} for item in answer.get("items") or ()]
        return items, answer["metadata"]["resourceVersion"]

    async def create(self, path: str, obj: Mapping[str, Any]) -> Object:
        """POST to a collection, or to a subresource such as .../token."""
        return await self._request("POST", path, body=obj)

    async def update(self, path: str, obj: Mapping[str, Any]) -> Object:
        """PUT: replace the object; its resourceVersion, where it stands, must be the current one."""
        return await self._request("PUT", path, body=obj)

    async def patch(
        self, path: str, patch: Mapping[str, Any] | Sequence[Any], *, content_type: str = MERGE_PATCH
    ) -> Object:
        """PATCH, by JSON merge patch unless another content type is given."""
        return await self._request("PATCH", path, body=patch, content_type=content_type)

    async def patch_status(self, path: str, status: Mapping[str, Any]) -> Object:
        """Merge into the status of the object at path."""
        return await self.patch(f"{path}/status", {"status": status})

    async def delete(
        self,
        path: str,
        *,
        grace_seconds: int | None = None,
        uid: str | None = None,
        propagation: str | None = None,
    ) -> Object:
        """Ask for a deletion. With a uid, an object of that name but another uid is left alone (409)."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if propagation is not None:
            options["propagationPolicy"] = propagation
        return await self._request("DELETE", path, body=options)

    async def watch(
        self,
        path: str,
        resource_version: str,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> AsyncGenerator[tuple[str, Object], None]:
        """(event type, object) since resource_version, BOOKMARKs included, until the server ends the watch.

        Raises ApiClientError; code 410 asks for a new list. Close the generator to end the watch early.
        """
        query = selectors(label_selector, field_selector)
        query |= {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_SECONDS)}
        query["resourceVersion"] = resource_version
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_SECONDS)
        try:
            async with self._opened().get(
                self._base + path, params=query, timeout=timeout, ssl=self._ssl or True
            ) as response:
                if response.status >= 400:
                    raise error_of(response.status, await response.read())
                pending = b""
                async for chunk in response.content.iter_any():
                    *lines, pending = (pending + chunk).split(b"\n")
                    for line in lines:
                        if not line:
                            continue
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            status = event["object"]
                            raise error_of(status.get("code", 500), line, status)
                        yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiClientError(UNREACHABLE, "Unreachable", f"watch {path}: {error!r}") from error

    async def close(self) -> None:
        """Close every connection; running watches end."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Every watch holds a connection: no limit on their number.
            connector = (
                aiohttp.UnixConnector(path=str(self._socket), limit=0)
                if self._socket is not None
                else aiohttp.TCPConnector(limit=0)
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers={"Authorization": f"Bearer {self._token}", "Accept": "application/json"},
                timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
            )
        return self._session

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | Sequence[Any] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = {} if data is None else {"Content-Type": content_type}
        try:
            async with self._opened().request(
                method, self._base + path, params=query, data=data, headers=headers, ssl=self._ssl or True
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiClientError(UNREACHABLE, "Unreachable", f"{method} {path}: {error!r}") from error
        if response.status >= 400:
            raise error_of(response.status, content)
        answer: Object = json.loads(content)
        return answer


class Informer:
    """A list kept true by a watch: `cache` holds the objects, `on_event` hears of each change.

    Events are ADDED, MODIFIED and DELETED, the last with the object's last known state. A watch that ends is
    taken up again where it stood; where the server no longer knows that moment (410), the list is read anew
    and what changed in between is told as events. `synced` is set once the first list has been told.
    """

    def __init__(
        self,
        client: ApiClient,
        path: str,
        *,
        on_event: Callable[[str, Object], None] | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> None:
        self.cache: dict[Key, Object] = {}
        self.synced = asyncio.Event()
        self._client = client
        self._path = path
        self._listeners: list[Callable[[str, Object], None]] = [on_event] if on_event is not None else []
        self._label_selector = label_selector
        self._field_selector = field_selector

    def subscribe(self, on_event: Callable[[str, Object], None]) -> None:
        """Let another listener hear every later event."""
        self._listeners.append(on_event)

    async def run(self) -> None:
        """List and watch until cancelled. Errors of the API are retried with a growing delay."""
        version: str | None = None
        failures = 0
        while True:
            try:
                if version is None:
                    version = await self._list()
                    failures = 0
                events = self._client.watch(
                    self._path,
                    version,
                    label_selector=self._label_selector,
                    field_selector=self._field_selector,
                )
                async with aclosing(events):
                    async for event, item in events:
                        version = item["metadata"]["resourceVersion"]
                        failures = 0
                        if event != "BOOKMARK":
                            self._take(event, item)
            except ApiClientError as error:
                if error.code == GONE:
                    version = None
                failures += 1
                log.log(
                    logging.WARNING if failures > 3 else logging.DEBUG, "informer %s: %s", self._path, error
                )
            # Also after an orderly end: a server that ends every watch at once must not spin us.
            await asyncio.sleep(min(FIRST_RETRY_SECONDS * 2 ** min(failures, 10), LAST_RETRY_SECONDS))

    async def _list(self) -> str:
        items, version = await self._client.list(
            self._path, label_selector=self._label_selector, field_selector=self._field_selector
        )
        found = {key_of(item): item for item in items}
        for key in [key for key in self.cache if key not in found]:
            self._tell("DELETED", self.cache.pop(key))
        for item in found.values():
            self._take("ADDED", item)
        self.synced.set()
        return version

    def _take(self, event: str, item: Object) -> None:
        key = key_of(item)
        known = self.cache.get(key)
        if event == "DELETED":
            self.cache.pop(key, None)
            self._tell("DELETED", item)
            return
        if known is not None and known["metadata"]["uid"] != item["metadata"]["uid"]:
            # Deleted and made again between two lists: two events, or the listener takes one for the other.
            self._tell("DELETED", known)
            known = None
        self.cache[key] = item
        if known is None:
            self._tell("ADDED", item)
        elif known["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
            self._tell("MODIFIED", item)

    def _tell(self, event: str, item: Object) -> None:
        for listener in self._listeners:
            listener(event, item)


def key_of(item: Mapping[str, Any]) -> Key:
    """The (namespace, name) of an object."""
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    """The query of a list or watch."""
    query = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in query.items() if value}


def error_of(code: int, content: bytes, status: Mapping[str, Any] | None = None) -> ApiClientError:
    """The error that an answer of the API means; a body that is no Status is quoted."""
    if status is None:
        try:
            parsed = json.loads(content)
        except ValueError:
            parsed = None
        status = parsed if isinstance(parsed, dict) and parsed.get("kind") == "Status" else {}
    message = status.get("message") or content[:500].decode(errors="replace")
    return ApiClientError(int(status.get("code") or code), str(status.get("reason") or "Unknown"), message)
