"""Watch: one JSON document per line for each change, until the client, the time or the server ends it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

from aiohttp import web

from conformance.cluster.embedded.apiserver.answers import TABLE, add_warnings, encode, shape, shaped
from conformance.cluster.embedded.apiserver.lists import check_not_newer, matchers, selected
from conformance.cluster.embedded.apiserver.requests import JSON_TYPE, Call
from conformance.cluster.embedded.apiserver.server import Server
from conformance.cluster.embedded.apiserver.status import bad_request, expired
from conformance.cluster.embedded.apiserver.storage import Event, Gone, Object, Subscription

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_DEFAULT_SECONDS = 1800  # and up to as much again at random, so that watches do not all end at once
_LOOK_SECONDS = 5.0  # how often a silent watch looks whether its client is still there
_BOOKMARK_SECONDS = 60.0


async def watch(server: Server, call: Call) -> web.StreamResponse:
    asked = check_not_newer(server, call)
    initial = call.flag("sendInitialEvents")
    if initial and call.option("resourceVersionMatch") != "NotOlderThan":
        raise bad_request(
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch "
            "to NotOlderThan"
        )
    from_now = asked == 0 or initial
    backlog = selected(server, call) if from_now and call.option("sendInitialEvents") != "false" else []
    start = server.storage.version if from_now else asked
    try:
        subscription = server.storage.subscribe(call.resource.key, start)
    except Gone:
        oldest = server.storage.forgotten(call.resource.key)
        raise expired(f"too old resource version: {asked} ({oldest})") from None
    try:
        response = web.StreamResponse(
            headers={"Content-Type": JSON_TYPE, "Cache-Control": "no-cache, private"}
        )
        add_warnings(response, call.warnings)
        response.enable_chunked_encoding()
        await response.prepare(call.request)
        stream = _Stream(call, response, version=start)
        await stream.send(stream.line("ADDED", item) for item in backlog)
        if initial:
            await stream.send([stream.bookmark(end_of_initial=True)])
        await _follow(server, call, subscription, stream)
    except (ConnectionResetError, ConnectionError):
        return response  # the client has gone: nothing is owed to it
    finally:
        server.storage.unsubscribe(call.resource.key, subscription)
    return response


async def _follow(server: Server, call: Call, subscription: Subscription, stream: _Stream) -> None:
    loop = asyncio.get_running_loop()
    seconds = call.number("timeoutSeconds") or random.uniform(_DEFAULT_SECONDS, 2 * _DEFAULT_SECONDS)  # noqa: S311 - spreads load, hides nothing
    deadline = loop.time() + seconds
    bookmarks = call.flag("allowWatchBookmarks")
    next_bookmark = loop.time() + _BOOKMARK_SECONDS
    while not subscription.closed:
        left = deadline - loop.time()
        if left <= 0 or call.request.transport is None or call.request.transport.is_closing():
            break
        try:
            async with asyncio.timeout(min(left, _LOOK_SECONDS)):
                events = await subscription.take()
        except TimeoutError:
            if bookmarks and loop.time() >= next_bookmark:
                next_bookmark = loop.time() + _BOOKMARK_SECONDS
                stream.version = server.storage.version  # nothing waits: the watch is up to date
                await stream.send([stream.bookmark()])
            continue
        await stream.send(line for event in events if (line := stream.event(event)))
    if bookmarks and not subscription.closed:
        await stream.send([stream.bookmark()])


class _Stream:
    """The lines of one watch. `version` is how far it has come."""

    def __init__(self, call: Call, response: web.StreamResponse, *, version: int) -> None:
        self._call = call
        self._response = response
        self._tests = matchers(call)
        self._form = shape(call)
        self._namespace = call.target.namespace
        self.version = version

    async def send(self, lines: Iterable[bytes]) -> None:
        data = b"".join(lines)
        if data:
            await self._response.write(data)

    def event(self, event: Event) -> bytes | None:
        """An object that begins or ceases to match appears or disappears for this watch."""
        self.version = event.version
        is_in = event.type != "DELETED" and self._matches(event.new)
        was_in = event.old is not None and self._matches(event.old)
        if is_in:
            return self.line("MODIFIED" if was_in else "ADDED", event.new)
        return self.line("DELETED", event.new) if was_in else None

    def line(self, kind: str, obj: Object) -> bytes:
        return encode({"type": kind, "object": shaped(self._call, obj, self._form)}) + b"\n"

    def bookmark(self, *, end_of_initial: bool = False) -> bytes:
        metadata: Object = {"resourceVersion": str(self.version)}
        if end_of_initial:
            metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        resource = self._call.resource
        obj: Object = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
        if self._form == TABLE:
            obj = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
            obj |= {"columnDefinitions": [], "rows": []}
        return encode({"type": "BOOKMARK", "object": obj}) + b"\n"

    def _matches(self, obj: Object) -> bool:
        if self._namespace and obj["metadata"].get("namespace") != self._namespace:
            return False
        return all(test(obj) for test in self._tests)
